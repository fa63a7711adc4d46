-- SPDX-License-Identifier: MIT
-- Private connections: a bounded number, idle ones kept, callers served in the order in which they came. Those of
-- receivers and monitors have a bound of their own.

local connection = require "redio.connection.loop"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local restore = require "redio.endpoint.restore"
local task = require "redio.task"

local resume = task.resume

local M = {}

local SHORTEST, LONGEST = 0.01, 1 -- seconds between two looks for connections that were dropped

-- Looks cost the whole process a collection, so all pools share what they may take: `at` is when the next may be, and
-- `pause` the seconds between two.
local looks = { at = 0, pause = SHORTEST }

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
    granted = 0, -- places that are free, and promised
    idle = queue.new(), -- the one used last comes last
    queue = queue.new(), -- waiters, first come first
    orphans = {}, -- their holders were collected
    receiving = {}, -- connections of receivers and monitors, which are none of `all`
    receivers = 0,
    collect_at = 0, -- when it may be looked for dropped ones of these
    looking = false, -- a timer: for that
    closed = false,
  }, Pool)
end

--- How many there are, how many of them are idle, and how many callers wait for one.
function Pool:counts()
  return self.size, self.idle:count(), self.queue:count()
end

function Pool:_is_full()
  return self.size + self.granted >= self.settings.max_connections
end

--- Gives the next in the queue what has become free: a connection, or without one the right to open one.
---@return boolean served
function Pool:_serve(conn)
  while conn or not self:_is_full() do
    local waiter = self.queue:pop()
    if not waiter then return false end
    waiter.given = conn or true
    if not conn then self.granted = self.granted + 1 end
    if task.wake(waiter) then return true end
    if not conn then self.granted = self.granted - 1 end
  end
  return false
end

-- Takes what was given: a connection, or true for the right to open one, which is now.
function Pool:_take(waiter)
  local given = waiter.given
  waiter.given = nil
  if given == true then self.granted = self.granted - 1 end
  return given
end

-- The waiter is gone; a place that it was given in the meantime is the next one's.
function Pool:_pass_on(waiter)
  local given = self:_take(waiter)
  if given == true then
    self:_serve()
  elseif given then
    self:release(given, true)
  end
end

function Pool:_forget(conn)
  if not self.all[conn] then return end
  self.all[conn] = nil
  self.size = self.size - 1
  self.idle:leave(conn)
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

function Pool:_full_error(seconds)
  local text = "every connection is in use (max_connections = %d), and none came free within %g s (pool_timeout)"
  return errors.new("TimeoutError", text:format(self.size, seconds), { address = self.settings.address, sent = "no" })
end

--- Waits for a place; the connection that was handed over, or true for the right to open one.
function Pool:_wait()
  local transport, waiter = self.transport, { stage = "waiting for one of the pool" }
  local seconds = self.settings.pool_timeout or math.huge
  if seconds <= 0 then return nil, self:_full_error(seconds) end
  self.queue:enter(waiter)
  local timer = seconds < math.huge and transport.start_timer(seconds, function()
    task.after_reading(transport, function()
      if self.queue:leave(waiter) then task.wake(waiter, self:_full_error(seconds)) end
    end)
  end)
  waiter.abandon = function()
    self.queue:leave(waiter)
    if timer then transport.stop_timer(timer) end
    self:_pass_on(waiter)
  end
  self:_look_later()
  local err = task.wait(waiter)
  if timer then transport.stop_timer(timer) end
  if err then return nil, err end
  return self:_take(waiter)
end

-- An idle connection; true for a place that is free; or nothing.
function Pool:_at_once()
  if self.queue:count() == 0 and self.idle:count() > 0 then return self.idle:pop_last() end
  return not self:_is_full()
end

-- A connection, or true for the right to open one; or nil and why not.
function Pool:_place()
  self:_reap()
  local given = self:_at_once()
  if given then return given end
  self:_look()
  given = self:_at_once()
  if given then return given end
  local err
  given, err = self:_wait()
  if not given or not self.closed then return given, err end
  if given ~= true then given:close() end
  return nil, closed_error(self)
end

local function when_ready(conn)
  local ready, err = conn:wait_ready() -- which closes it when the caller is interrupted
  if not ready then return nil, err end
  return conn
end

--- A connection that is ready, for the caller alone until `release`.
---@return redio.Connection? conn
---@return table? err
function Pool:acquire()
  if self.closed then return nil, closed_error(self) end
  local conn, err = self:_place()
  if not conn then return nil, err end
  if conn == true then conn = self:_open() end
  return when_ready(conn)
end

-- receivers -----------------------------------------------------------------------------------------------

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  return self.receivers
end

-- Places of receivers that were dropped and not yet collected are free as well. After a look in vain there is no other
-- for a while.
function Pool:_has_place()
  local most, now = self.settings.max_receivers, self.transport.now()
  if self.receivers >= most and now >= self.collect_at then
    collectgarbage()
    self.collect_at = self:_reap() and 0 or now + LONGEST
  end
  return self.receivers < most
end

function Pool:_count_receiver(conn, is_there)
  if is_there == (self.receiving[conn] or false) then return end
  self.receiving[conn] = is_there or nil
  self.receivers = self.receivers + (is_there and 1 or -1)
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
  return when_ready(conn)
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
  conn:within(self.settings.read_timeout)
  conn.guarded = false
  if not self:_serve(conn) then self.idle:enter(conn) end
end

--- Undoes what the holder of a connection has left on it, and then gives it back.
---@param session userdata the pipeline that follows its session
---@return boolean started false: it cannot be undone here
function Pool:restore(conn, session)
  if self.closed or not self.transport.in_loop() then return false end
  return restore.start(conn, session, function(ok)
    self:release(conn, ok)
  end)
end

-- dropped ones ----------------------------------------------------------------------------------------------

--- For whoever holds the connection: while `guard.held.conn` is set, a holder that is collected with its guard
--- has dropped the connection, and it is closed.
function Pool:guard(conn)
  local held, orphans, transport = { conn = conn }, self.orphans, self.transport
  local finalizer = lua_version.finalizer(function()
    if not held.conn then return end
    orphans[#orphans + 1] = held.conn
    transport.defer_finalizer(function()
      self:_reap()
    end)
  end)
  conn.guarded = true
  return { held = held, finalizer = finalizer }
end

--- Closes connections whose holders were collected. Not done by the finalizer: it wakes what waits for a place.
---@return boolean any
function Pool:_reap()
  local any = #self.orphans > 0
  while #self.orphans > 0 do
    table.remove(self.orphans):close "its holder was dropped"
  end
  return any
end

-- True when a collection might free a connection: one is held, and nothing waits for it just now.
Pool._may_be_dropped = lua_version.interpreted(function(self)
  for conn in pairs(self.all) do
    if conn.guarded and not conn.hold and not conn:is_waiting() then return true end
  end
  return false
end)

-- Of the time, looks may take a twentieth when they are in vain, and then a collection is tried ever more rarely; else
-- a quarter.
local IN_VAIN, OF_USE = 20, 3

--- Looks for connections that were dropped with their holders, which are not collected yet: when all wait for each
--- other, nothing else makes the collector run.
function Pool:_look()
  local now = self.transport.now()
  if now < looks.at then return end
  if not self:_may_be_dropped() then return self:_reap() end -- for nothing: the other pools' pause stays
  local began = os.clock()
  collectgarbage()
  local found = self:_reap()
  local took = os.clock() - began
  looks.pause = found and SHORTEST or math.min(looks.pause * 2, LONGEST)
  looks.at = now + took + math.max(looks.pause, took * (found and OF_USE or IN_VAIN))
end

-- While callers wait. (The timer does not count: what they wait for must not keep the loop alive by itself.)
function Pool:_look_later()
  if self.looking then return end
  local transport = self.transport
  self.looking = transport.start_timer(math.max(SHORTEST, looks.at - transport.now()), function()
    self.looking = false
    if self.closed or self.queue:count() == 0 then return end
    self:_look()
    if self.queue:count() > 0 then self:_look_later() end
  end)
  transport.timer_counts(self.looking, false)
end

-- all of them -----------------------------------------------------------------------------------------------

function Pool:close_idle()
  local conn = self.idle:pop_last()
  while conn do
    conn:close()
    conn = self.idle:pop_last()
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
  self.queue:drain(function(waiter)
    task.wake(waiter, closed_error(self))
  end)
  if self.looking then self.transport.stop_timer(self.looking) end
  self.looking = false
  self:close_idle()
end

return M
