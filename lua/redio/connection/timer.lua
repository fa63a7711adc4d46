-- SPDX-License-Identifier: MIT
-- One connection for all requests of a worker, where a socket is its request's: it belongs to a timer, in which one
-- light thread writes and another reads. Requests leave their chains in the core and wait on a semaphore, so that what
-- several of them ask leaves in one write. The methods are those of connection.lua.

local connection = require "redio.connection.loop"
local errors = require "redio.base.errors"
local messages = require "redio.base.messages"
local pull = require "redio.connection.caller"
local queue = require "redio.base.queue"
local task = require "redio.task"

local wake = task.wake

local M = {}

local IDLE = 10 -- seconds without work after which it is closed
local GLANCE = 1 -- seconds between two looks at whether the worker is to end

---@class redio.Shared
local Shared = {}
Shared.__index = Shared

--- A connection that is not yet open.
---@param settings table
---@param transport table
---@param hooks table on_lost(conn, err), on_connect(conn)?, on_ready(conn)?
---@param pool table as `transport.open` takes it: one where none is ever kept
function M.new(settings, transport, hooks, pool)
  return setmetatable({
    settings = settings,
    address = settings.address,
    home = hooks.home,
    transport = transport,
    hooks = hooks,
    exclusive = false,
    ready = false,
    spare = {}, -- semaphores
    stage = "waiting to connect",
    _pool = pool,
    _bell = transport.semaphore(), -- for the writer
    _room = queue.new(), -- those that wait until more may be written
    _writing = false, -- (it is not waiting for the bell)
  }, Shared)
end

Shared._closed_error, Shared._unasked = connection.closed_error, connection.unasked

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

--- Waits until submit may be tried again, or the connection is lost. (In any case for no longer than a glance takes:
--- those that were let in may have been aborted with their request.)
function Shared:wait_room()
  local waiter = { stage = connection.ROOM, room = self._room, abandon = leave_room }
  self._room:enter(waiter)
  task.begin(waiter)
  task.idle(waiter, GLANCE)
  leave_room(waiter)
  task.leave(waiter)
end

-- what requests do ----------------------------------------------------------------------------------------

-- Has the writer look.
local function ring(self)
  if self._writing then return end
  self._writing = true
  self._bell:post(1)
end

--- Sends the handle's pipeline; `wait` is to be called next.
function Shared:submit(pipeline, mode, collected)
  local waiter = { conn = self }
  local core = self.core
  if core:waiting() == 0 then self.active_at = self.transport.now() end
  local slot, why = core:submit(pipeline, self.waiters, mode, collected, waiter)
  if slot == nil then return nil, why end
  self._last = waiter
  ring(self)
  if self._room:count() > 0 then let_in(self, 1) end
  return slot
end

--- Waits for the chain that was just submitted: a token, then its results, or what became of them.
function Shared:wait()
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

--- Nothing waits for that chain any more. What was not written yet never will be; the reply to what was is dropped
--- where it belongs.
function Shared:abandon(waiter)
  local slot = self.core and self.core:find(self.waiters, waiter)
  if slot then self.core:drop(self.waiters, slot) end
end

--- What a waiter waits for, in words.
function Shared:stage_of(waiter)
  local slot, sent
  if self.core then slot, sent = self.core:find(self.waiters, waiter) end
  if not slot then return self.stage end
  return not sent and connection.UNSENT or self._sending and connection.WRITING or connection.READING
end

-- the timer -----------------------------------------------------------------------------------------------

local function deliver(self, waiter, token, ...)
  if waiter then
    wake(waiter, token, ...)
    return true
  end
  if waiter == false then
    self:_unasked(token, ...)
    return not self.lost
  end
  if token then self:fail(errors.new("ProtocolError", token, { address = self.address })) end
  return false
end

local function pump(self)
  local core, waiters = self.core, self.waiters
  while not self.lost and deliver(self, core:next(waiters)) do end
end

-- Seconds until a reply is overdue, or the next glance.
local function patience(self)
  local limit = self.settings.read_timeout
  if not limit or self.core:waiting() == 0 then return GLANCE end
  return math.max(0.001, math.min(GLANCE, self.active_at + limit - self.transport.now()))
end

-- Whether the server still answers, and whether there still is work.
local function glance(self)
  local idle, limit = self.transport.now() - self.active_at, self.settings.read_timeout
  if self.core:waiting() > 0 then
    if not limit or idle < limit - 0.0005 then return end
    return self:fail(errors.new("TimeoutError", ("nothing within %g s (timeout), %s"):format(limit, connection.READING),
      { address = self.address }))
  end
  if self.retiring or idle >= IDLE or self.transport.is_leaving() then self:close "it was idle" end
end

-- (However long it takes: the writer looks after that.)
local function read(self)
  local socket = self.socket
  while not self.lost do
    local bytes, why = socket:receive()
    if self.lost then return end
    if not bytes then return self:fail(self:_closed_error(why ~= "closed" and why or nil)) end
    self.active_at, self.proved = self.transport.now(), true
    if not self.core:feed(bytes) then
      return self:fail(errors.new("ProtocolError", "not enough memory", { address = self.address }))
    end
    pump(self)
    if self.retiring and not self.lost and self.core:waiting() == 0 then self:close() end
  end
end

-- Whatever happens in a thread of the timer, the waiters are told.
local function guarded(self, fn)
  return function()
    local ok, err = pcall(fn, self)
    if not ok then self:fail(errors.new("ConnectionError", messages.of_error(err), { address = self.address })) end
  end
end

local function write(self)
  local core, socket, bell = self.core, self.socket, self._bell
  while not self.lost do
    local data = core:output()
    if data then
      let_in(self, AT_ONCE)
      self._sending = true
      local ok, why = socket:send(data)
      self._sending = false
      if not ok and not self.lost then
        self:fail(why == "timeout" and errors.new("TimeoutError",
          ("nothing within %g s (timeout), %s"):format(self.settings.write_timeout, connection.WRITING),
          { address = self.address }) or self:_closed_error(why))
      end
    else
      self._writing = false
      local due = self.transport.catch_up() -- (this timer may be the only one that nginx has room for)
      bell:wait(due and math.min(due, patience(self)) or patience(self))
      self._writing = true
      if not self.lost then glance(self) end
    end
  end
end

-- From nothing to ready, or lost.
local function establish(self)
  local settings, transport = self.settings, self.transport
  local started = transport.now()
  local hooks = { home = self.home, on_connect = self.hooks.on_connect, on_lost = function(_, err)
    self:fail(err)
  end }
  local conn = pull.new(settings, transport, hooks)
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
  conn:settle()
  conn.core:limit(settings.max_queued_bytes)
  conn.waiters.connection = self
  self.core, self.waiters, self.socket = conn.core, conn.waiters, socket
  self.active_at, self.ready, self.stage = transport.now(), true, "ready"
  self.hooks.on_ready(self)
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
function Shared:open(delay)
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

--- The connection is gone: tells all that wait. The timer closes the socket. Only the first time counts.
function Shared:fail(err)
  if self.lost then return end
  self.lost = err
  self.was_ready, self.ready = self.ready, false
  self.hooks.on_lost(self, err)
  if not self.core then return end
  self.core:event "lose"
  while tell(err, self.core:next(self.waiters)) do end
  let_in(self, math.huge)
  self._bell:post(1)
end

--- Closes it on purpose.
function Shared:close(why)
  self:fail(errors.new("ConnectionForcedCloseError", why or "closed by close()", { address = self.address }))
end

--- Closes it as soon as nothing is in flight.
function Shared:retire()
  self.retiring = true
  if self.core and self.core:waiting() == 0 then self:close() end
end

function Shared.waiting_to_open()
  return 0
end

--- Chains in flight, bytes not written yet.
function Shared:load()
  if not self.core then return 0, 0 end
  return self.core:waiting()
end

return M
