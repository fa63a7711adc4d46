-- SPDX-License-Identifier: MIT
-- One connection: a core, a socket, and the coroutines that wait for its replies.
--
-- While something is in flight the connection holds itself alive and keeps the loop running; idle, it does
-- neither, so that a client nobody refers to can be collected, and its sockets with it.

local backpressure = require "redio.connection.backpressure"
local core = require "redio.core"
local errors = require "redio.base.errors"
local handshake = require "redio.connection.handshake"
local liveness = require "redio.connection.liveness"
local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"
local queue = require "redio.base.queue"
local task = require "redio.task"
local tls_socket = require "redio.connection.tls_socket"

local new_core, HANDSHAKE = core.connection, core.HANDSHAKE
local resume, wait_alone, yield = task.resume, task.wait_alone, coroutine.yield
local is_busy, set_busy = task.is_busy, task.set_busy

local M = {}

-- Pushes that answer a subscription: on a connection for commands something has been sent that was no command of
-- ours, and its reply never comes.
local SUBSCRIPTIONS = { subscribe = true, psubscribe = true, ssubscribe = true }

-- Stages of a chain, for people.
M.WRITING, M.READING = "writing: the server reads nothing", "waiting for a reply"
M.ROOM = backpressure.STAGE
M.UNSENT = "to be written when the loop comes to it"

---@class redio.Connection
---@field core userdata
---@field waiters table coroutines by slot, for the core
---@field ready boolean
---@field lost table? why it is gone
---@field heard boolean? something has come (since the last PING of a health check)
---@field proved boolean? it has answered after the handshake
---@field paused boolean? nothing is read just now
local Connection = {}
Connection.__index = Connection

local core_next, core_wake, core_feed, core_output, core_waiting, core_rest
do
  local methods = getmetatable(new_core()).__index
  core_next, core_wake, core_feed = methods.next, methods.wake, methods.feed
  core_output, core_waiting, core_rest = methods.output, methods.waiting, methods.rest
end

--- A connection that is not yet open.
---@param settings table from options.resolve
---@param transport table
---@param hooks table on_lost(conn, err), on_connect(conn)?, on_ready(conn)?, on_push(conn, kind, ...)?, after_read()?,
--- receiver: boolean?, lines: boolean?, exclusive: boolean?
function M.new(settings, transport, hooks)
  local self = setmetatable({
    settings = settings,
    address = settings.address,
    home = hooks.home,
    transport = transport,
    hooks = hooks,
    exclusive = hooks.exclusive or false,
    ready = false,
    pumping = false,
    flushing = false,
    openers = queue.new(),
    stage = "waiting to connect",
  }, Connection)
  self.liveness = liveness.new(self)
  self.room = backpressure.new(self)
  self.core, self.waiters = self:_new_core()
  -- for callbacks that the loop keeps: an idle connection must not live by them
  local weak = setmetatable({ self = self }, { __mode = "v" })
  self._flush = function()
    return self:flush()
  end
  self._on_data = function(bytes)
    local conn = weak.self
    if conn then conn:_read(bytes) end
  end
  -- A write may fail at once, in the coroutine that is about to wait for what it has written.
  self._on_unwritten = function(reason, certain)
    self.transport.defer(function()
      self._on_end(reason, certain)
    end)
  end
  self._on_end = function(reason, certain)
    local conn = weak.self
    if not conn or conn.lost then return end
    if certain and reason and not conn.ready then return conn:_cannot_connect(reason, true) end
    if not conn:_listen_first() then conn:fail(conn:_closed_error(reason)) end
  end
  return self
end

function Connection:_new_core()
  local connection, waiters = new_core(self.hooks.receiver, self.settings.limits), { connection = self }
  connection:limit(self.settings.max_queued_bytes)
  if self.settings.null ~= nil then
    waiters.null = self.settings.null
    connection:null()
  end
  return connection, waiters
end

function Connection:_closed_error(reason)
  return errors.new("ConnectionClosedError",
    reason and ("connection lost: " .. reason) or "connection closed by the server", { address = self.address })
end

function Connection:_forked_error()
  return errors.new("ConnectionForcedCloseError",
    "this connection belongs to the parent of this process (fork): make a client of its own in the child, before "
      .. "which nothing of redio was loaded", { address = self.address })
end

-- opening -------------------------------------------------------------------------------------------------

local function establish(self)
  self.stage = "logging in"
  local ok, err = pcall(handshake.perform, self)
  if self.lost then return end
  if not ok then
    if not errors.is(err) then
      err = errors.new("ConnectionError", messages.of_error(err), { address = self.address })
    end
    return self:fail(err)
  end
  self.core:event "established"
  self.ready, self.stage = true, "ready"
  self:_stop_deadline()
  set_busy(self, false)
  if self.flushing then self:_wake_up() end
  if self.hooks.on_ready then self.hooks.on_ready(self) end
  self.openers:drain(function(waiter)
    task.wake(waiter, true)
  end)
  self.liveness:watch_health()
  self:_settle()
end

-- A server without room says so and hangs up, and when it hangs up on bytes that it has not read the reason is
-- lost on the way: so the second time we let it speak first.
local LISTEN_SECONDS = 0.1

--- `permanent`: the next attempt would end the same way.
function Connection:_cannot_connect(reason, permanent)
  self:fail(errors.new("ConnectionError", "cannot connect: " .. reason,
    { address = self.address, permanent = permanent }))
end

function Connection:_connected(socket, reason, permanent)
  self._attempt = nil
  if self.lost then return socket and socket:close() end
  if not socket then return self:_cannot_connect(reason, permanent) end
  self.socket = socket
  local transport = self.transport
  local live = self.liveness
  self._guard = lua_version.finalizer(function()
    transport.defer_finalizer(function()
      live:stop()
      socket:close()
    end)
  end)
  self.core:event "connected"
  self:read_start()
  if not self._listens then return resume(coroutine.create(establish), self) end
  self.transport.start_timer(LISTEN_SECONDS, function()
    if not self.lost then resume(coroutine.create(establish), self) end
  end)
end

function Connection:_connect()
  self.core:event "connect"
  self.stage = "connecting"
  local secures = self.settings.tls and not self.transport.native_tls
  self._attempt = self.transport.connect(self.settings, function(socket, reason)
    if socket and secures then return self:_secure(socket) end
    self:_connected(socket, reason)
  end)
end

function Connection:_secure(socket)
  self._attempt = nil
  if self.lost then return socket:close() end
  self.stage = "in the TLS handshake (is it a port for TLS?)" -- to redis-server's plain one it is half a request
  local function done(secured, reason, certain)
    self:_connected(secured, reason, certain)
  end
  self._attempt = tls_socket.wrap(socket, self.settings, done, self.transport)
end

-- Whether it was hung up on before the server said anything, for the first time: then it is tried once more.
function Connection:_listen_first()
  if self.ready or self._listens or self.heard or not self.socket then return false end
  self._listens = true
  self.socket:close()
  self.socket = nil
  self.core, self.waiters = self:_new_core()
  self:_connect()
  return true
end

--- Reads from the socket (again).
function Connection:read_start()
  self.paused = false
  self.socket:read_start(self._on_data, self._on_end)
end

--- Leaves what comes to the network until `read_start`.
function Connection:read_stop()
  self.paused = true
  self.socket:read_stop()
end

function Connection:_stop_deadline()
  if self._deadline then self.transport.stop_timer(self._deadline) end
  self._deadline = nil
end

function Connection:_start()
  local seconds, transport = self.settings.connect_timeout, self.transport
  if seconds then
    self._deadline = transport.start_timer(seconds, function()
      task.after_reading(transport, function()
        if not self.ready then self:_overdue(seconds) end
      end)
    end)
  end
  self:_connect()
end

function Connection:_overdue(seconds)
  local words = "no connection within %g s (connect_timeout): still %s"
  self:fail(errors.new("TimeoutError", words:format(seconds, self.stage), { address = self.address }))
end

--- Connects, `delay` seconds from now; `wait_ready` waits for it.
function Connection:open(delay)
  set_busy(self, true)
  if self.transport.is_forked() then
    return self.transport.defer(function()
      self:fail(self:_forked_error())
    end)
  end
  if delay <= 0 then return self:_start() end
  self._deadline = self.transport.start_timer(delay, function()
    self:_start()
  end)
end

local function stop_opening(waiter)
  local conn = waiter.conn
  conn.openers:leave(waiter)
  if conn.exclusive then conn:close "nothing waits for it any more" end
end

--- Waits until it is ready.
---@return boolean? ready, table? err why it is not
function Connection:wait_ready()
  if self.ready then return true end
  if self.lost then return nil, self.lost end
  local waiter = { conn = self, abandon = stop_opening }
  self.openers:enter(waiter)
  return task.wait(waiter)
end

--- How many wait for it to be ready.
function Connection:waiting_to_open()
  return self.openers:count()
end

-- writing -------------------------------------------------------------------------------------------------

--- Sees to it that what was submitted is written: at the end of the read that is being worked on, or in the next
--- turn of the loop, so that all that is submitted until then leaves in one write.
function Connection:schedule()
  self.flushing = true
  if not is_busy(self) then self:_wake_up() end
  if not self.pumping then self.transport.defer(self._flush) end
end

--- Writes what was submitted so far.
function Connection:write_now()
  self.flushing = true
  if not is_busy(self) then self:_wake_up() end
  self:flush()
end

function Connection:flush()
  if not self.flushing then return end
  self.flushing = false
  if self.transport.is_forked() then return self:_fail_soon(self:_forked_error()) end
  local ok, data, size, waiting = pcall(core_output, self.core)
  if not ok then
    return self:_fail_soon(errors.new("ConnectionError", messages.of_error(data), { address = self.address }))
  end
  if not data or not self.socket then return self:_settle() end
  self.socket:write(data, self._on_unwritten)
  self.room:wrote(size)
  if waiting == 0 then self:_settle() end
end

-- Not at once: the running coroutine may be about to wait for what it has submitted, and would be told too early.
function Connection:_fail_soon(err)
  self.transport.defer(function()
    self:fail(err)
  end)
end

--- Waits until submit may be tried again, or the connection is lost.
function Connection:wait_room()
  self.room:wait()
end

--- Sends the handle's pipeline; the caller yields for its results afterwards.
---@param mode integer
---@param collected table? {results, places}, where the mode asks for it
---@return integer? slot false when no reply will come; nil and a word when it cannot be sent
---@return string
function Connection:submit(pipeline, mode, collected)
  if not self.ready then mode = mode + HANDSHAKE end
  local slot, why = self.core:submit(pipeline, self.waiters, mode, collected)
  if slot ~= nil and not self.flushing then self:schedule() end
  return slot, why
end

--- Waits for the chain that was submitted: the core wakes whoever submitted it with a token of its own, then the
--- results, or what became of them.
function Connection:wait()
  if self.exclusive then return wait_alone(self) end
  return yield()
end

--- Waits for something that does not answer a chain, a message as a rule: until `task.wake(waiter, ...)`.
function Connection.park(_, waiter)
  return task.wait(waiter)
end

--- What a chain that was submitted waits for.
---@param sent boolean whether bytes of it may be on their way
function Connection:chain_stage(sent)
  if not sent then return M.UNSENT end
  return self.socket:unwritten() > 0 and M.WRITING or M.READING
end

--- Nobody waits for that chain any more. What was not written yet never will be. The reply to what was is read and
--- dropped where it belongs; a private connection, on which it may be a blocking command or half a transaction, is
--- closed instead.
function Connection:abandon(slot)
  self.core:drop(self.waiters, slot)
  if self.exclusive then self:close "its command was cancelled" end
end

-- reading -------------------------------------------------------------------------------------------------

-- What the core tells when it has woken whom it could; true when there may be more.
local function take(self, waiter, ...)
  if waiter == true then -- it cannot be resumed
    if self.exclusive or not self.ready then self:close "the coroutine that waited for its reply is gone" end
    return not self.lost
  end
  if waiter then
    task.ended_by(waiter, (...))
    return true
  end
  if waiter == false then
    self:_unasked(...)
    return not self.lost
  end
  local why = ...
  if why then self:fail(errors.new("ProtocolError", why, { address = self.address })) end
  return false
end

local function pump(self)
  local connection, waiters = self.core, self.waiters
  while take(self, core_wake(connection, waiters)) do end
end

function Connection:_read(bytes)
  self.active_at = self.transport.now()
  self.heard, self.proved = true, self.ready
  self.pumping = true
  local ok, err = core_feed(self.core, bytes), "not enough memory"
  if ok then ok, err = pcall(pump, self) end
  if ok and self.hooks.after_read then ok, err = pcall(self.hooks.after_read) end
  self.pumping = false
  if not ok then self:fail(errors.new("ProtocolError", messages.of_error(err), { address = self.address })) end
  if self.flushing then self:flush() end
  self:_settle()
end

--- A push, or a reply that nobody asked for: then nothing on this connection can be trusted any more.
function Connection:_unasked(is_push, ...)
  local hooks = self.hooks
  if is_push and hooks.on_push then return hooks.on_push(self, ...) end
  local value = ...
  if is_push then
    if not SUBSCRIPTIONS[value] then return end
    self:fail(errors.new("ProtocolError", "the server has subscribed a connection that serves commands",
      { address = self.address }))
  elseif errors.is(value) then
    self.proved = false -- it accepts, and refuses what it is then asked
    self:fail(errors.complete(value, self.address))
  elseif hooks.lines and self.ready then
    hooks.on_push(self, value)
  elseif not (hooks.receiver and value == "PONG") then -- (RESP3's answer to a health check)
    self:fail(errors.new("ProtocolError", "a reply that nobody asked for", { address = self.address }))
  end
end

M.unasked, M.closed_error = Connection._unasked, Connection._closed_error -- for connections of another kind

-- busy and idle -------------------------------------------------------------------------------------------

function Connection:_wake_up()
  set_busy(self, true)
  self.active_at = self.transport.now()
  if self.socket then self.socket:counts(true) end
  self.liveness:busy()
end

function Connection:is_busy()
  return is_busy(self)
end

--- Whether replies are to come.
function Connection:is_waiting()
  return core_waiting(self.core) > 0
end

--- Lets go of itself when nothing is in flight.
function Connection:_settle()
  if self.lost or not self.ready or self.flushing then return end
  if core_rest(self.core) and not self.hold then
    set_busy(self, false)
    self.socket:counts(false)
    if self.retiring then self:close() end
  end
end

--- Closes it as soon as nothing is in flight.
function Connection:retire()
  self.retiring = true
  self:_settle()
end

--- Keeps the connection alive although nothing is in flight, and with it `holder`: what waits for messages, which
--- nothing else may refer to. False: no longer.
function Connection:keep(holder)
  self.hold = holder
  if not holder then
    if not self.pumping then self:_settle() end -- (else at the end of the read)
  elseif not is_busy(self) then
    set_busy(self, true)
    if self.socket then self.socket:counts(true) end
  end
end

-- the end -------------------------------------------------------------------------------------------------

local function tell(err, waiter, token, sent, pipeline)
  if not waiter then return false end
  resume(waiter, token, err, sent, pipeline)
  return true
end

--- The connection is gone: closes the socket and tells everyone who waits. Only the first time counts.
function Connection:fail(err)
  if self.lost then return end
  self.lost = err
  self.was_ready = self.ready
  self.ready = false
  self.core:event "lose"
  self:_stop_deadline()
  self.liveness:stop()
  if self._attempt then self._attempt:cancel() end
  if self.socket and not self.transport.is_forked() then self.socket:close() end
  self.hooks.on_lost(self, err)
  self.openers:drain(function(waiter)
    task.wake(waiter, nil, err)
  end)
  self.room:close()
  while tell(err, core_next(self.core, self.waiters)) do end
  set_busy(self, false) -- until now, what waits and has not been told may be cancelled by what has
end

--- Closes it on purpose.
function Connection:close(why)
  self:fail(errors.new("ConnectionForcedCloseError", why or "closed by close()", { address = self.address }))
end

--- Chains in flight, bytes not written yet.
function Connection:load()
  local waiting, bytes = core_waiting(self.core)
  return waiting, bytes + (self.socket and self.socket:unwritten() or 0)
end

return M
