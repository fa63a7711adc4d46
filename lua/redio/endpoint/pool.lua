-- SPDX-License-Identifier: MIT
-- The private connections of an endpoint, on a transport that calls back: a bounded number. Idle ones are kept, and
-- callers are served in FIFO order. Connections of receivers and monitors have a bound of their own.
-- Specs: client/client, promises/20, regress/full_pool, regress/max_receivers

local connection = require "redio.connection.loop"
local lua_version = require "redio.base.lua_version"
local pacing = require "redio.endpoint.pacing"
local queue = require "redio.base.queue"
local refusals = require "redio.endpoint.refusals"
local restore = require "redio.endpoint.restore"
local task = require "redio.task"

local M = {}

-- A search for dropped connections collects the garbage of the whole process, so all pools share one pacing. Searches
-- that find something may take a quarter of the time.
local searches = pacing.new(3)

---@class redio.Pool
---@field home redio.Endpoint
---@field size integer connections, without those of receivers
---@field closed boolean
local Pool = {}
Pool.__index = Pool

--- The pool of an endpoint.
---@param home redio.Endpoint
---@return redio.Pool
function M.new(home)
  return setmetatable({
    home = home,
    settings = home.settings,
    transport = home.transport,
    size = 0,
    closed = false,
    _all = {}, -- connection -> true
    _granted = 0, -- places that are free, and promised
    _idle = queue.new(), -- the one used last comes last
    _queue = queue.new(), -- waiters
    _orphans = {}, -- connections of collected holders
    _receiving = {}, -- connections of receivers and monitors -> true
    _receivers = 0,
    _collect_at = 0, -- when a receiver without a place may collect
    _timer = false, -- for the next search
  }, Pool)
end

--- How many connections there are, how many of them are idle, and how many callers wait for one.
function Pool:counts()
  return self.size, self._idle:count(), self._queue:count()
end

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  return self._receivers
end

-- places --------------------------------------------------------------------------------------------------

function Pool:_is_full()
  return self.size + self._granted >= self.settings.max_connections
end

-- Gives the next caller in the queue a connection, or without one the right to open one.
---@return boolean served
function Pool:_serve(conn)
  while conn or not self:_is_full() do
    local waiter = self._queue:pop()
    if not waiter then return false end
    waiter.given = conn or true
    if not conn then self._granted = self._granted + 1 end
    if task.wake(waiter) then return true end
    if not conn then self._granted = self._granted - 1 end
  end
  return false
end

-- Takes what the waiter was given: a connection, or true for the right to open one.
function Pool:_take(waiter)
  local given = waiter.given
  waiter.given = nil
  if given == true then self._granted = self._granted - 1 end
  return given
end

-- The waiter was cancelled. A place that it was given meanwhile goes to the next one.
function Pool:_pass_on(waiter)
  local given = self:_take(waiter)
  if given == true then
    self:_serve()
  elseif given then
    self:release(given, true)
  end
end

-- Waits for a place: a connection, or true for the right to open one.
function Pool:_wait()
  local transport, waiter = self.transport, { stage = "waiting for one of the pool" }
  local seconds = self.settings.pool_timeout or math.huge
  if seconds <= 0 then return nil, refusals.full(self.settings, seconds) end
  self._queue:enter(waiter)
  local timer = seconds < math.huge and transport.start_timer(seconds, function()
    task.after_reading(transport, function()
      if self._queue:leave(waiter) then task.wake(waiter, refusals.full(self.settings, seconds)) end
    end)
  end)
  waiter.abandon = function()
    self._queue:leave(waiter)
    if timer then transport.stop_timer(timer) end
    self:_pass_on(waiter)
  end
  self:_search_later()
  local err = task.wait(waiter)
  if timer then transport.stop_timer(timer) end
  if err then return nil, err end
  return self:_take(waiter)
end

-- An idle connection; true for the right to open one; or false.
function Pool:_at_once()
  if self._queue:count() == 0 and self._idle:count() > 0 then return self._idle:pop_last() end
  return not self:_is_full()
end

-- A connection, or true for the right to open one; or nil and an error.
function Pool:_place()
  self:_reap()
  local given = self:_at_once()
  if given then return given end
  self:_search()
  given = self:_at_once()
  if given then return given end
  local err
  given, err = self:_wait()
  if not given or not self.closed then return given, err end
  if given ~= true then given:close() end
  return nil, refusals.closed(self.settings)
end

-- connections ---------------------------------------------------------------------------------------------

function Pool:_forget(conn)
  if not self._all[conn] then return end
  self._all[conn] = nil
  self.size = self.size - 1
  self._idle:leave(conn)
  self:_serve()
end

function Pool:_connect(hooks)
  local home = self.home
  hooks.exclusive, hooks.home, hooks.on_connect = true, home, home.on_connect
  local conn = connection.new(self.settings, self.transport, hooks)
  conn.home = home
  return conn
end

function Pool:_open()
  local home = self.home
  local conn = self:_connect {
    on_lost = function(lost)
      home:lost(lost)
      self:_forget(lost)
    end,
  }
  self._all[conn] = true
  self.size = self.size + 1
  conn:open(home.backoff:delay())
  return conn
end

local function when_ready(conn)
  local ready, err = conn:wait_ready() -- closes it when the caller is interrupted
  if not ready then return nil, err end
  return conn
end

--- A connection that is ready, for the caller alone until `release`.
---@return redio.Connection? conn
---@return table? err
function Pool:acquire()
  if self.closed then return nil, refusals.closed(self.settings) end
  local conn, err = self:_place()
  if not conn then return nil, err end
  if conn == true then conn = self:_open() end
  return when_ready(conn)
end

--- Opens connections until there are `min_connections`. A failure shows when the next one is used.
function Pool:warm()
  while not self.closed and self.size < self.settings.min_connections do
    local conn = self:_open()
    task.resume(coroutine.create(function()
      if conn:wait_ready() then self:release(conn, true) end
    end))
  end
end

--- Takes a connection back. Unless its session is clean, it is closed.
---@param conn redio.Connection
---@param is_clean boolean?
function Pool:release(conn, is_clean)
  if conn.lost then return end
  local in_flight = conn:load()
  if not is_clean or self.closed or not conn.ready or in_flight > 0 then return conn:close() end
  conn:within(self.settings.read_timeout)
  conn.guarded = false
  if not self:_serve(conn) then self._idle:enter(conn) end
end

--- Takes a connection back after undoing what its session has left. Where that cannot be done, closes it.
---@param conn redio.Connection
---@param session userdata the pipeline that follows the session
function Pool:restore(conn, session)
  local started = not self.closed and self.transport.in_loop() and restore.start(conn, session, function(ok)
    self:release(conn, ok)
  end)
  if not started then self:release(conn, false) end
end

-- receivers -----------------------------------------------------------------------------------------------

-- Places of receivers that were dropped and are not collected yet are free as well. After a search in vain there is
-- none for a while.
function Pool:_may_receive()
  local most, now = self.settings.max_receivers, self.transport.now()
  if self._receivers >= most and now >= self._collect_at then
    collectgarbage()
    self._collect_at = self:_reap() and 0 or now + pacing.LONGEST
  end
  return self._receivers < most
end

function Pool:_count_receiver(conn, is_there)
  if is_there == (self._receiving[conn] or false) then return end
  self._receiving[conn] = is_there or nil
  self._receivers = self._receivers + (is_there and 1 or -1)
end

--- A new connection for a receiver or a monitor, ready. It counts apart from the others.
---@param extra table {lines=, on_open(conn), on_push(conn, ...), after_read(), on_lost(conn, err)}
---@return redio.Connection? conn
---@return table? err
function Pool:receive(_, extra)
  if self.closed then return nil, refusals.closed(self.settings) end
  self:_reap()
  if not self:_may_receive() then return nil, refusals.too_many_receivers(self.settings) end
  local conn = self:_connect {
    receiver = true,
    lines = extra.lines,
    on_push = extra.on_push,
    after_read = extra.after_read,
    on_lost = function(lost, err)
      self.home:lost(lost)
      self:_count_receiver(lost, false)
      extra.on_lost(lost, err)
    end,
  }
  self:_count_receiver(conn, true)
  extra.on_open(conn)
  conn:open(self.home.backoff:delay())
  return when_ready(conn)
end

-- dropped connections -------------------------------------------------------------------------------------

--- While `guard.held.conn` is set, the connection is closed when the guard is collected: its holder was dropped.
---@param conn redio.Connection
function Pool:guard(conn)
  local held, orphans, transport = { conn = conn }, self._orphans, self.transport
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

-- Closes connections of collected holders. The finalizer does not do it: closing wakes what waits for a place.
---@return boolean any
function Pool:_reap()
  local any = #self._orphans > 0
  while #self._orphans > 0 do
    table.remove(self._orphans):close "its holder was dropped"
  end
  return any
end

-- True when a collection might free a connection: one has a holder that does not wait for it just now.
Pool._may_be_dropped = lua_version.interpreted(function(self)
  for conn in pairs(self._all) do
    if conn.guarded and (conn:load()) == 0 then return true end
  end
  return false
end)

local function collect(self)
  collectgarbage()
  return self:_reap()
end

-- (Where a collection can free nothing here, the distance to the next one stays as it is, for other pools.)
function Pool:_search()
  local now = self.transport.now()
  if now < searches.at then return end
  if self:_may_be_dropped() then searches:run(now, collect, self) else self:_reap() end
end

-- Searches again while callers wait. The timer does not count: the loop does not run for a search alone.
function Pool:_search_later()
  if self._timer then return end
  local transport = self.transport
  self._timer = transport.start_timer(math.max(pacing.SHORTEST, searches.at - transport.now()), function()
    self._timer = false
    if self.closed or self._queue:count() == 0 then return end
    self:_search()
    if self._queue:count() > 0 then self:_search_later() end
  end)
  transport.timer_counts(self._timer, false)
end

-- all of them ---------------------------------------------------------------------------------------------

function Pool:close_idle()
  local conn = self._idle:pop_last()
  while conn do
    conn:close()
    conn = self._idle:pop_last()
  end
end

--- Calls `fn` with each connection, those of receivers included.
---@param fn fun(conn: redio.Connection)
function Pool:each(fn)
  local list = {}
  for conn in pairs(self._all) do
    list[#list + 1] = conn
  end
  for conn in pairs(self._receiving) do
    list[#list + 1] = conn
  end
  for i = 1, #list do
    fn(list[i])
  end
end

--- Chains in flight on the connections, without those of receivers.
---@return integer
function Pool:in_flight()
  local count = 0
  for conn in pairs(self._all) do
    count = count + (conn:load())
  end
  return count
end

--- No new work from now on; callers that wait for a place get an error.
function Pool:stop()
  self.closed = true
  self._queue:drain(function(waiter)
    task.wake(waiter, refusals.closed(self.settings))
  end)
  if self._timer then self.transport.stop_timer(self._timer) end
  self._timer = false
  self:close_idle()
end

return M
