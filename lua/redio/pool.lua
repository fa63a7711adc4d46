-- SPDX-License-Identifier: MIT
-- Private connections: a bounded number, idle ones kept, callers served in the order in which they came. Those of
-- receivers and monitors have a bound of their own.

local compat = require "redio.compat"
local connection = require "redio.connection"
local errors = require "redio.errors"
local task = require "redio.task"

local resume = task.resume

local M = {}

---@class redio.Pool
local Pool = {}
Pool.__index = Pool

function M.new(settings, transport, hooks)
  return setmetatable({
    settings = settings,
    transport = transport,
    hooks = hooks, -- on_connect?, on_lost(conn), delay(): seconds to wait before connecting
    all = {}, -- connection -> true
    size = 0,
    idle = {}, -- the one used last comes last
    queue = {}, -- waiters, first come first
    orphans = {}, -- their holders were collected
    receiving = {}, -- connections of receivers and monitors, which are none of `all`
    receivers = 0,
    collected = false, -- since one of these was opened or closed
    closed = false,
  }, Pool)
end

--- How many there are, how many of them are idle, and how many callers wait for one.
function Pool:counts()
  return self.size, #self.idle, #self.queue
end

local function remove(list, item)
  for i = 1, #list do
    if list[i] == item then return table.remove(list, i) end
  end
end

--- Gives the next in the queue what has become free: a connection, or the right to open one.
function Pool:_serve(conn)
  while #self.queue > 0 do
    local waiter = table.remove(self.queue, 1)
    if waiter.co then return task.wake(waiter, conn or true) or true end
  end
  return false
end

function Pool:_forget(conn)
  if not self.all[conn] then return end
  self.all[conn] = nil
  self.size = self.size - 1
  remove(self.idle, conn)
  self:_serve()
end

function Pool:_open()
  local hooks = { exclusive = true, on_connect = self.hooks.on_connect }
  hooks.on_lost = function(conn)
    self.hooks.on_lost(conn)
    self:_forget(conn)
  end
  local conn = connection.new(self.settings, self.transport, hooks)
  self.all[conn] = true
  self.size = self.size + 1
  conn:open(self.hooks.delay())
  return conn
end

local function closed_error(self)
  return errors.new("PoolClosedError", "the client is closed", { address = self.settings.address, sent = "no" })
end

--- Waits for a place; the connection that was handed over, or true for the right to open one.
function Pool:_wait()
  local transport, waiter = self.transport, { stage = "waiting for one of the pool" }
  local seconds = self.settings.pool_timeout or math.huge
  local function full()
    local text = "every connection is in use (max_connections = %d), and none came free within %g s (pool_timeout)"
    return errors.new("TimeoutError", text:format(self.size, seconds), { address = self.settings.address, sent = "no" })
  end
  if seconds <= 0 then return nil, full() end
  table.insert(self.queue, waiter)
  local timer = seconds < math.huge and transport.start_timer(seconds, function()
    remove(self.queue, waiter)
    task.wake(waiter, nil, full())
  end)
  waiter.abandon = function()
    remove(self.queue, waiter)
    if timer then transport.stop_timer(timer) end
  end
  local conn, err = task.wait(waiter)
  if timer then transport.stop_timer(timer) end
  return conn, err
end

--- A connection that is ready, for the caller alone until `release`.
---@return redio.Connection? conn
---@return table? err
function Pool:acquire()
  if self.closed then return nil, closed_error(self) end
  self:_reap()
  local conn = #self.queue == 0 and table.remove(self.idle)
  if conn then return conn end
  if self.size >= self.settings.max_connections then
    local err
    conn, err = self:_wait()
    if not conn then return nil, err end
    if self.closed then return nil, closed_error(self) end
  end
  if not conn or conn == true then conn = self:_open() end
  return self:_when_ready(conn)
end

function Pool:_when_ready(conn)
  local ok, ready, err = pcall(conn.wait_ready, conn)
  if not ok then -- cancelled while it was connecting
    self:release(conn)
    error(ready, 0)
  end
  if not ready then return nil, err end
  return conn
end

-- receivers -----------------------------------------------------------------------------------------------

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  return self.receivers
end

-- Places of receivers that were forgotten and not yet collected are free as well.
function Pool:_has_place()
  local most = self.settings.max_receivers
  if self.receivers >= most and not self.collected then
    self.collected = true
    collectgarbage()
    self:_reap()
  end
  return self.receivers < most
end

function Pool:_count_receiver(conn, is_there)
  if is_there == (self.receiving[conn] or false) then return end
  self.receiving[conn] = is_there or nil
  self.receivers = self.receivers + (is_there and 1 or -1)
  self.collected = false
end

--- A connection for what comes unasked, ready. It is always a new one, and counts apart from the others.
---@param extra table {lines=, on_open(conn), on_push(conn, ...), after_read(), on_lost(conn, err)}
---@return redio.Connection? conn
---@return table? err
function Pool:receive(extra)
  if self.closed then return nil, closed_error(self) end
  self:_reap()
  if not self:_has_place() then return nil, M.receivers_error(self.settings) end
  local conn = connection.new(self.settings, self.transport, {
    exclusive = true,
    receiver = true,
    lines = extra.lines,
    on_connect = self.hooks.on_connect,
    on_push = extra.on_push,
    after_read = extra.after_read,
    on_lost = function(conn, err)
      self.hooks.on_lost(conn)
      self:_count_receiver(conn, false)
      extra.on_lost(conn, err)
    end,
  })
  self:_count_receiver(conn, true)
  extra.on_open(conn)
  conn:open(self.hooks.delay())
  return self:_when_ready(conn)
end

--- What to raise for one receiver too many. It does not wait: receivers are there to stay.
function M.receivers_error(settings)
  return errors.new("ConnectionError", ("%d receivers and monitors are open (max_receivers): close those that are "
    .. "done, share one between channels, or raise it"):format(settings.max_receivers),
    { address = settings.address, sent = "no", permanent = true })
end

--- Opens connections until there are `min_connections`, for later. What becomes of them shows when they are used.
function Pool:warm()
  while not self.closed and self.size < self.settings.min_connections do
    local conn = self:_open()
    resume(coroutine.create(function()
      if conn:wait_ready() then self:release(conn, true) end
    end))
  end
end

--- Gives a connection back; one whose session is not as it was in the beginning is closed.
---@param clean boolean?
function Pool:release(conn, clean)
  if conn.lost then return end
  local in_flight = conn:load()
  if not clean or self.closed or not conn.ready or in_flight > 0 then return conn:close() end
  conn.liveness:set_patience(self.settings.read_timeout)
  if not self:_serve(conn) then table.insert(self.idle, conn) end
end

--- For whoever holds the connection: while `guard.held.conn` is set, a holder that is collected with its guard
--- has dropped the connection, and it is closed.
function Pool:guard(conn)
  local held, orphans, transport = { conn = conn }, self.orphans, self.transport
  local finalizer = compat.finalizer(function()
    if not held.conn then return end
    orphans[#orphans + 1] = held.conn
    transport.defer_finalizer(function()
      self:_reap()
    end)
  end)
  return { held = held, finalizer = finalizer }
end

--- Forgets connections whose holders were collected. Not done by the finalizer: it wakes those who wait for a place.
function Pool:_reap()
  while #self.orphans > 0 do
    table.remove(self.orphans):close "its holder was dropped"
  end
end

function Pool:close_idle()
  while #self.idle > 0 do
    table.remove(self.idle):close()
  end
end

function Pool:each(fn)
  local list = {}
  for conn in pairs(self.all) do
    list[#list + 1] = conn
  end
  for conn in pairs(self.receiving) do
    list[#list + 1] = conn
  end
  for i = 1, #list do
    fn(list[i])
  end
end

--- No new work from now on; those who wait for a place are told.
function Pool:stop()
  self.closed = true
  local queue = self.queue
  self.queue = {}
  for i = 1, #queue do
    task.wake(queue[i], nil, closed_error(self))
  end
  self:close_idle()
end

return M
