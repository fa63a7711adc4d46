-- SPDX-License-Identifier: MIT
-- The driver of hosts with a loop that calls back: the loop reads, and all that is submitted in one turn leaves in one
-- write.
--
-- While something is in flight the connection holds itself alive and keeps the loop running. Idle it does neither, so
-- that a client to which nothing refers is collected, and its sockets with it.
-- Specs: unit/drivers, promises/02, promises/13

local backpressure = require "redio.connection.backpressure"
local core = require "redio.core"
local link = require "redio.connection"
local liveness = require "redio.connection.liveness"
local lua_version = require "redio.base.lua_version"
local opening = require "redio.connection.opening"
local task = require "redio.task"

local HANDSHAKE = core.HANDSHAKE
local resume, wait_alone, yield = task.resume, task.wait_alone, coroutine.yield
local is_busy, set_busy = task.is_busy, task.set_busy

local M = {}

---@class redio.LoopConnection: redio.Link
---@field socket table?
---@field opening redio.Opening? the way to ready, until it is
---@field active_at number? when something last moved
---@field heard boolean? something has come (since the last PING of a health check)
---@field paused boolean nothing is read just now
local Loop = link.driver()

local core_next, core_wake, core_feed, core_output, core_waiting, core_rest
do
  local methods = getmetatable(core.connection()).__index
  core_next, core_wake, core_feed = methods.next, methods.wake, methods.feed
  core_output, core_waiting, core_rest = methods.output, methods.waiting, methods.rest
end

-- For the socket, which the loop keeps: an idle connection must not live by it.
local function callbacks(self)
  local weak = setmetatable({ self = self }, { __mode = "v" })
  local transport = self.transport
  self._flush = function()
    return self:flush()
  end
  self._on_data = function(bytes)
    local conn = weak.self
    if conn then conn:_read(bytes) end
  end
  self._on_end = function(reason, certain)
    local conn = weak.self
    if conn then conn:_ended(reason, certain) end
  end
  -- A write may fail at once, in the coroutine that is about to wait for what it has written.
  self._on_unwritten = function(reason, certain)
    transport.defer(function()
      self._on_end(reason, certain)
    end)
  end
end

--- A connection that is not yet open.
---@param settings table
---@param transport table
---@param hooks table see link.init
---@return redio.LoopConnection
function M.new(settings, transport, hooks)
  local self = link.init(setmetatable({
    pumping = false,
    flushing = false,
    paused = false,
  }, Loop), settings, transport, hooks)
  self.core:limit(settings.max_queued_bytes)
  self.liveness = liveness.new(self)
  self.backpressure = backpressure.new(self)
  callbacks(self)
  return self
end

-- opening -------------------------------------------------------------------------------------------------

--- Connects, `delay` seconds from now; `wait_ready` waits for it.
function Loop:open(delay)
  set_busy(self, true)
  if self.transport.is_forked() then return self:_fail_soon(self:forked_error()) end
  opening.start(self, delay)
end

--- For its opening: takes a socket.
function Loop:attach(socket)
  local transport, live = self.transport, self.liveness
  self.socket = socket
  self._guard = lua_version.finalizer(function()
    transport.defer_finalizer(function()
      live:stop()
      socket:close()
    end)
  end)
  self:read_start()
end

--- For its opening: lets go of the socket, and is as it was before.
function Loop:detach()
  self.socket:close()
  self.socket = nil
  self:start_core()
  self.core:limit(self.settings.max_queued_bytes)
end

--- For its opening: it is ready.
function Loop:opened()
  self.opening = nil
  set_busy(self, false)
  if self.flushing then self:_wake_up() end
  if self.hooks.on_ready then self.hooks.on_ready(self) end
  self.openers:drain(function(waiter)
    task.wake(waiter, true)
  end)
  self.liveness:watch_health()
  if self.leaves then self:retire() end
  self:_settle()
end

local function stop_opening(waiter)
  local conn = waiter.conn
  conn.openers:leave(waiter)
  if conn.exclusive then conn:close "nothing waits for it any more" end
end

--- Waits until it is ready.
---@return boolean? ready
---@return table? err why it is not
function Loop:wait_ready()
  if self.was_ready and not self.lost then return true end
  if self.lost then return nil, self.lost end
  local waiter = { conn = self, abandon = stop_opening }
  self.openers:enter(waiter)
  return task.wait(waiter)
end

-- writing -------------------------------------------------------------------------------------------------

--- Has what was submitted written: at the end of the read that is being worked on, or in the next turn of the loop, so
--- that all that is submitted until then leaves in one write.
function Loop:schedule()
  self.flushing = true
  if not is_busy(self) then self:_wake_up() end
  if not self.pumping then self.transport.defer(self._flush) end
end

--- Writes what was submitted so far.
function Loop:write_now()
  self.flushing = true
  if not is_busy(self) then self:_wake_up() end
  self:flush()
end

function Loop:flush()
  if not self.flushing then return end
  self.flushing = false
  if self.transport.is_forked() then return self:_fail_soon(self:forked_error()) end
  local ok, data, size, waiting = pcall(core_output, self.core)
  if not ok then return self:_fail_soon(self:core_error(data, "ConnectionError")) end
  if not data or not self.socket then return self:_settle() end
  self.socket:write(data, self._on_unwritten)
  self.backpressure:wrote(size)
  if waiting == 0 then self:_settle() end
end

-- Not at once: the running coroutine may be about to wait for what it has submitted, and would be told too early.
function Loop:_fail_soon(err)
  self.transport.defer(function()
    self:fail(err)
  end)
end

function Loop:wait_room()
  self.backpressure:wait()
end

function Loop:submit(pipeline, mode, collected)
  if not self.was_ready then mode = mode + HANDSHAKE end
  local slot, why = self.core:submit(pipeline, self.waiters, mode, collected)
  if slot ~= nil and not self.flushing then self:schedule() end
  return slot, why
end

function Loop:wait()
  if self.exclusive then return wait_alone(self) end
  return yield()
end

--- Bytes that the network has not taken.
function Loop:unwritten()
  return self.socket and self.socket:unwritten() or 0
end

--- The stage of a chain that was submitted.
---@param sent boolean whether bytes of it may be on their way
function Loop:chain_stage(sent)
  if not sent then return link.UNSENT end
  return self:unwritten() > 0 and link.WRITING or link.READING
end

--- The chain's waiter is gone. A chain that is not written yet never will be. The reply to one that is is read and
--- dropped in its place. A connection with one owner, on which it may be a blocking command or half a transaction, is
--- closed instead.
function Loop:abandon(slot)
  self.core:drop(self.waiters, slot)
  if self.exclusive then self:close "its command was cancelled" end
end

-- reading -------------------------------------------------------------------------------------------------

function Loop:read_start()
  self.paused = false
  self.socket:read_start(self._on_data, self._on_end)
end

function Loop:read_stop()
  self.paused = true
  self.socket:read_stop()
end

-- Takes from the core what it could not give to a waiter; true when there may be more.
local function take(self, waiter, ...)
  if waiter == true then -- it cannot be resumed
    if self.exclusive or not self.was_ready then self:close "the coroutine that waited for its reply is gone" end
    return not self.lost
  end
  if waiter then
    task.ended_by(waiter, (...))
    return true
  end
  return self:told(waiter, ...)
end

local function pump(self)
  local connection, waiters = self.core, self.waiters
  while take(self, core_wake(connection, waiters)) do end
end

function Loop:_read(bytes)
  self.active_at = self.transport.now()
  self.heard, self.proved = true, self.was_ready
  self.pumping = true
  local ok, err = core_feed(self.core, bytes), "not enough memory"
  if ok then ok, err = pcall(pump, self) end
  if ok and self.hooks.after_read then ok, err = pcall(self.hooks.after_read) end
  self.pumping = false
  if not ok then self:fail(self:core_error(err)) end
  if self.flushing then self:flush() end
  self:_settle()
end

-- The socket has ended; `certain`: its other end was not even reached.
function Loop:_ended(reason, certain)
  if self.lost then return end
  if certain and reason and not self.was_ready then return self:fail(self:unreachable(reason, true)) end
  local is_first_word = self.opening and self.socket and not self.heard
  if is_first_word and self.opening:listens_first() then return end
  self:fail(self:closed_error(reason))
end

--- Waits for what answers no chain, until `task.wake(waiter, ...)`.
function Loop.park(_, waiter)
  return task.wait(waiter)
end

-- busy and idle -------------------------------------------------------------------------------------------

function Loop:_wake_up()
  set_busy(self, true)
  if self.socket then self.socket:counts(true) end
  self.active_at = self.transport.now()
  self.liveness:busy()
end

function Loop:is_busy()
  return is_busy(self)
end

-- Lets go of itself when nothing is in flight.
function Loop:_settle()
  if self.lost or not self.was_ready or self.flushing then return end
  if not core_rest(self.core) or self.hold then return end
  set_busy(self, false)
  self.socket:counts(false)
  self:close_if_drained()
end

function Loop:keep(holder)
  self.hold = holder
  if not holder then
    if not self.pumping then self:_settle() end -- (else at the end of the read)
    return
  end
  if not is_busy(self) then
    set_busy(self, true)
    self.socket:counts(true)
  end
  self.liveness:busy()
end

function Loop:within(seconds)
  self.liveness:set_patience(seconds)
end

-- the end -------------------------------------------------------------------------------------------------

function Loop:hang_up()
  if self.opening then self.opening:stop() end
  self.liveness:stop()
  if self.socket and not self.transport.is_forked() then self.socket:close() end
end

local function tell(err, waiter, token, sent, pipeline)
  if not waiter then return false end
  resume(waiter, token, err, sent, pipeline)
  return true
end

function Loop:tell_all(err)
  self.openers:drain(function(waiter)
    task.wake(waiter, nil, err)
  end)
  self.backpressure:close()
  while tell(err, core_next(self.core, self.waiters)) do end
  set_busy(self, false) -- until now, what waits and has not been told may be cancelled by what has
end

--- Chains in flight, and bytes that the network has not taken.
function Loop:load()
  local waiting, bytes = core_waiting(self.core)
  return waiting, bytes + self:unwritten()
end

return M
