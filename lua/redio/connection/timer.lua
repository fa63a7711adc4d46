-- SPDX-License-Identifier: MIT
-- The driver for one connection of all requests of a worker, where a socket is its request's: it belongs to a timer, in
-- which one light thread writes and another reads. Requests leave their chains in the core and wait on a semaphore, so
-- that chains of several requests leave in one write.
-- Specs: unit/drivers, hosts/nginx/shared_connection

local caller = require "redio.connection.caller"
local link = require "redio.connection"
local queue = require "redio.base.queue"
local task = require "redio.task"

local wake = task.wake

local M = {}

local IDLE = 10 -- seconds without work after which it is closed
local GLANCE = 1 -- seconds between two looks at whether the worker is to end

---@class redio.TimerConnection: redio.Link
local Timer = link.driver()

--- A connection that is not yet open.
---@param settings table
---@param transport table
---@param hooks table see link.init
---@param pool table as `transport.open` takes it: one where none is ever kept
---@return redio.TimerConnection
function M.new(settings, transport, hooks, pool)
  return link.init(setmetatable({
    spare = {}, -- semaphores
    _pool = pool,
    _bell = transport.semaphore(), -- for the writer
    _room = queue.new(), -- waiters for room
    _writing = false, -- (it is not waiting for the bell)
  }, Timer), settings, transport, hooks)
end

-- room ----------------------------------------------------------------------------------------------------

-- So many of those that wait for room try again after a write; each that gets its chain in lets in the next one.
local AT_ONCE = 16

local function let_in(self, count)
  for _ = 1, math.min(count, self._room:count()) do
    wake(self._room:pop())
  end
end

local function leave_room(waiter)
  waiter.room:leave(waiter)
end

--- (No longer than a glance takes: those that were let in may have been aborted with their request.)
function Timer:wait_room()
  local waiter = { stage = link.ROOM, room = self._room, abandon = leave_room }
  self._room:enter(waiter)
  task.begin(waiter)
  task.idle(waiter, GLANCE)
  leave_room(waiter)
  task.leave(waiter)
end

-- in a request --------------------------------------------------------------------------------------------

--- Has the writer look.
function Timer:flush()
  if self._writing then return end
  self._writing = true
  self._bell:post(1)
end

function Timer:submit(pipeline, mode, collected)
  local waiter = { conn = self }
  local core = self.core
  if core:waiting() == 0 then self.active_at = self.transport.now() end
  local slot, why = core:submit(pipeline, self.waiters, mode, collected, waiter)
  if slot == nil then return nil, why end
  self._last = waiter
  self:flush()
  if self._room:count() > 0 then let_in(self, 1) end
  return slot
end

function Timer:wait()
  local waiter, spare = self._last, self.spare
  local count = #spare
  waiter.semaphore, spare[count] = spare[count], nil
  task.begin(waiter)
  while not waiter.values do
    task.idle(waiter)
  end
  spare[#spare + 1] = waiter.semaphore
  return task.woken(waiter)
end

--- The chain's waiter is gone. A chain that is not written yet never will be. The reply to one that is is dropped in
--- its place.
function Timer:abandon(waiter)
  local slot = self.core:find(self.waiters, waiter)
  if slot then self.core:drop(self.waiters, slot) end
end

--- The stage of a waiter's chain.
function Timer:stage_of(waiter)
  local slot, sent = self.core:find(self.waiters, waiter)
  if not slot then return self.stage end
  return not sent and link.UNSENT or self._sending and link.WRITING or link.READING
end

-- in the timer --------------------------------------------------------------------------------------------

local function deliver(self, waiter, token, ...)
  if not waiter then return self:told(waiter, token, ...) end
  wake(waiter, token, ...)
  return true
end

local function pump(self)
  local core, waiters = self.core, self.waiters
  while not self.lost and deliver(self, core:next(waiters)) do end
end

-- Seconds until a reply is overdue, or the next glance.
local function patience(self)
  local limit = self.settings.read_timeout
  if not limit or not self:is_waiting() then return GLANCE end
  return math.max(0.001, math.min(GLANCE, self.active_at + limit - self.transport.now()))
end

-- True when the server still answers, and whether there still is work.
local function glance(self)
  local idle, limit = self.transport.now() - self.active_at, self.settings.read_timeout
  if self:is_waiting() then
    if not limit or idle < limit - 0.0005 then return end
    return self:fail(self:overdue(limit, link.READING))
  end
  if self.retiring or idle >= IDLE or self.transport.is_leaving() then self:close "it was idle" end
end

-- (However long it takes: the writer looks after that.)
local function read(self)
  local socket = self.socket
  while not self.lost do
    local bytes, why = socket:receive()
    if self.lost then return end
    if not bytes then return self:fail(self:closed_error(why ~= "closed" and why or nil)) end
    self.active_at, self.proved = self.transport.now(), true
    if not self.core:feed(bytes) then return self:fail(self:core_error "not enough memory") end
    pump(self)
    self:close_if_drained()
  end
end

-- An error in a thread of the timer ends the connection, so that the waiters are told.
local function guarded(self, fn)
  return function()
    local ok, err = pcall(fn, self)
    if not ok then self:fail(self:core_error(err, "ConnectionError")) end
  end
end

local function send(self, data)
  self._sending = true
  local ok, why = self.socket:send(data)
  self._sending = false
  if ok or self.lost then return end
  self:fail(why == "timeout" and self:overdue(self.settings.write_timeout, link.WRITING) or self:closed_error(why))
end

local function write(self)
  local bell = self._bell
  while not self.lost do
    local data = self.core:output()
    if data then
      let_in(self, AT_ONCE)
      send(self, data)
    else
      self._writing = false
      local due = self.transport.catch_up() -- (this timer may be the only one that nginx has room for)
      bell:wait(due and math.min(due, patience(self)) or patience(self))
      self._writing = true
      if not self.lost then glance(self) end
    end
  end
end

-- The login is that of a caller's connection, of which this one then takes the core and the socket.
local function adopt(self, conn)
  conn:settle()
  conn.core:limit(self.settings.max_queued_bytes)
  conn.waiters.connection = self
  self.core, self.waiters, self.socket = conn.core, conn.waiters, conn.socket
  self.active_at = self.transport.now()
  self:follow()
end

-- From nothing to ready, or lost.
local function establish(self)
  local settings, transport = self.settings, self.transport
  local started = transport.now()
  local conn = caller.new(settings, transport, {
    home = self.home,
    on_connect = self.hooks.on_connect,
    on_lost = function(_, err)
      self:fail(err)
    end,
  })
  self.stage, conn.stage = "connecting", "connecting"
  local socket, why, permanent, at = transport.open(settings, self._pool, settings.connect_timeout)
  if not socket then
    conn.stage = at or conn.stage
    return conn:refuse(why, permanent)
  end
  self.stage = "logging in"
  conn:attach(socket)
  conn:greet(started)
  if self.lost or conn.lost then return conn:close() end
  adopt(self, conn)
  self.hooks.on_ready(self)
  if self.leaves then self:retire() end
end

-- The timer's own thread: connects, and then writes.
local function serve(self, premature)
  if premature then return self:close "nginx is about to end" end
  guarded(self, establish)()
  if self.lost then return end
  self.socket:limit(self.settings.write_timeout, false)
  local reader = self.transport.spawn(guarded(self, read))
  guarded(self, write)()
  if not self.transport.kill(reader) then self.socket:close() end
end

--- Connects, `delay` seconds from now. Nothing waits for it: until it is ready there is the pool.
---@return boolean? ok nil when there is no timer to be had
function Timer:open(delay)
  return self.transport.apart(delay, function(premature)
    serve(self, premature)
  end)
end

-- the end -------------------------------------------------------------------------------------------------

local function tell(err, waiter, token, ...)
  if not waiter then return false end
  wake(waiter, token, err, ...)
  return true
end

--- The timer's thread closes the socket.
function Timer:hang_up()
  self._bell:post(1)
end

function Timer:tell_all(err)
  while tell(err, self.core:next(self.waiters)) do end
  let_in(self, math.huge)
end

return M
