-- SPDX-License-Identifier: MIT
-- One connection where nothing calls back: the light thread that waits for a reply writes what was submitted and reads
-- until the reply is there. The methods are those of connection.lua; those for messages are in pull_park.lua.

local connection = require "redio.connection.loop"
local core = require "redio.core"
local errors = require "redio.base.errors"
local handshake = require "redio.connection.handshake"
local messages = require "redio.base.messages"
local pull_park = require "redio.connection.caller_park"
local queue = require "redio.base.queue"
local task = require "redio.task"

local new_core, HANDSHAKE, LOST, CANCEL = core.connection, core.HANDSHAKE, core.LOST, task.CANCEL

local M = {}

-- Output of more bytes than this is written beside the reading: a server that has written more than the network
-- holds reads on only when that is taken.
local LONG = 64 * 1024

---@class redio.Pull
local Pull = {}
Pull.__index = Pull

for name, method in pairs(pull_park) do
  Pull[name] = method
end

local core_next, core_feed, core_output, core_is_clean, core_submit
do
  local methods = getmetatable(new_core()).__index
  core_next, core_feed, core_output = methods.next, methods.feed, methods.output
  core_is_clean, core_submit = methods.is_clean, methods.submit
end

-- How long a read may take: what liveness.lua is where a loop looks after it.
local Patience = {}
Patience.__index = Patience

--- How long a reply may take from now on; false: for ever.
function Patience:set_patience(seconds)
  self.seconds = seconds
end

function Patience.busy() end

--- A connection without socket.
---@param settings table from options.resolve
---@param transport table
---@param hooks table on_lost(conn, err), on_connect(conn)?, on_push(conn, kind, ...)?, after_read()?,
--- receiver: boolean?, lines: boolean?
function M.new(settings, transport, hooks)
  local self = setmetatable({
    settings = settings,
    address = settings.address,
    transport = transport,
    hooks = hooks,
    exclusive = true,
    ready = false,
    liveness = setmetatable({ seconds = settings.read_timeout }, Patience),
    _interval = hooks.receiver and settings.health_check_interval or false,
    stage = "waiting to connect",
    core = new_core(hooks.receiver, settings.limits),
    waiters = {},
    parked = queue.new(),
    clean = true, -- nothing was sent to which an answer may still come, and all that has come was taken
  }, Pull)
  if settings.null ~= nil then
    self.waiters.null = settings.null
    self.core:null()
  end
  self.waiters.connection = self
  self.core:event "connect"
  self.core:event "connected"
  return self
end

Pull._closed_error, Pull._unasked = connection.closed_error, connection.unasked

--- From connected to ready, or lost; `started` is when the way here began.
function Pull:greet(started)
  self.stage = "logging in"
  local limit = self.settings.connect_timeout
  self.until_ = limit and started + limit
  local ok, err = pcall(handshake.perform, self)
  self.until_ = nil
  if self.lost then return end
  if ok then return self:established() end
  if not errors.is(err) then err = errors.new("ConnectionError", messages.of_error(err), { address = self.address }) end
  self:fail(err)
end

--- There is no socket for it.
function Pull:refuse(why, permanent)
  if why == "timeout" then return self:fail(self:overdue_connect()) end
  self:fail(errors.new("ConnectionError", "cannot connect: " .. why, { address = self.address, permanent = permanent }))
end

--- From now on it is for the caller's chains.
function Pull:established()
  self.core:event "established"
  self.ready, self.stage = true, "ready"
end

--- Takes a socket.
function Pull:attach(socket)
  self.socket, self.used = socket, false
  -- the socket has these limits: it was opened with them
  self._write, self._read = self.settings.write_timeout, self.settings.read_timeout
end

--- Whether its socket was closed with the request that it is of, of which nothing is told.
function Pull:is_gone()
  return self.socket ~= nil and self.socket:is_gone()
end

--- Gives the socket away, if another may have it.
---@return redio.ngx.Socket? socket nil when it is not clean
function Pull:detach()
  if self.lost or not self.clean or self.writing then return nil end
  local socket = self.socket
  self.socket = nil
  self.liveness.seconds = self.settings.read_timeout
  return socket
end

-- limits --------------------------------------------------------------------------------------------------

local function least(a, b)
  if not a or not b then return a or b end
  return a < b and a or b
end

-- Whether the socket has the limits that hold for the next operation: as a rule it has.
local function is_limited(self, record)
  return not record and not self.until_ and not self._interval and self._read == self.liveness.seconds
end

-- Before each operation: no longer than patience, and the deadline of the handshake or of the task, allow. False when
-- there is no time left.
local function limit(self, record)
  local write, read, interval = self.settings.write_timeout, self.liveness.seconds, self._interval
  if interval then read = least(read, interval) end
  local left = record and record:left()
  if self.until_ then left = least(left, self.until_ - self.transport.now()) end
  if left then
    if left <= 0.0005 then return false end
    write, read = least(write, left), least(read, left)
  end
  if write ~= self._write or read ~= self._read then
    self._write, self._read = write, read
    self.socket:limit(write, read)
  end
  return true
end

local function overdue_reply(self)
  if self._pinged then
    return errors.new("TimeoutError", "PING was not answered (health_check_interval)", { address = self.address })
  end
  local writing = self.stage == connection.WRITING
  local seconds = writing and self.settings.write_timeout or self.liveness.seconds
  return errors.new("TimeoutError", ("nothing within %g s (timeout), %s"):format(seconds or 0, self.stage),
    { address = self.address })
end

-- Time is out: of the caller, which is for him to be told (CANCEL), of the connect, or of the server.
local function timed_out(self, record)
  if not self.ready then return self:fail(self:overdue_connect()) end
  local err = record and record:overdue(self.stage)
  if not err then return self:fail(overdue_reply(self)) end
  record.raised = err
  return CANCEL
end

--- What to say when it was not ready in time.
function Pull:overdue_connect()
  local words = "no connection within %g s (connect_timeout): still %s"
  return errors.new("TimeoutError", words:format(self.settings.connect_timeout or 0, self.stage),
    { address = self.address })
end

-- What the caller waits for, for people; until it is ready that is something else.
local function set_stage(self, stage)
  if self.ready then self.stage = stage end
end

-- writing -------------------------------------------------------------------------------------------------

--- The handle's pipeline is to be sent; `wait` does it. Without a reply to come it is sent at once.
---@param mode integer
---@param collected table? {results, places}, where the mode asks for it
---@return integer? slot false when no reply will come; nil and a word when it cannot be sent
---@return string
function Pull:submit(pipeline, mode, collected)
  if self.used and not self:_may_go_on() then return nil, "lost" end
  self.clean = false
  if not self.ready then mode = mode + HANDSHAKE end
  local slot, why = core_submit(self.core, pipeline, self.waiters, mode, collected)
  if slot == false then self:flush() end
  return slot, why
end

-- Whether another chain may go where one has been: in the same request, and with nothing unread that it would take for
-- its own.
function Pull:_may_go_on()
  if self.lost then return false end
  if not self.socket:is_ours() then
    self.socket = nil -- its request closes it, or has done so
    self:fail(errors.new("ConnectionError", "this connection belongs to another request: each needs one of its own",
      { address = self.address, permanent = true }))
    return false
  end
  if not self.hooks.receiver then self:settle() end
  return not self.lost
end

--- Takes what has come for no chain. (What has only begun to come the core tells from the next chain's reply. Chains
--- that nothing waits for, as the login's last ones, may still be in flight: the next one follows them.)
function Pull:settle()
  if self.clean or self.lost then return end
  self:_pump()
  self.clean = core_is_clean(self.core)
end

function Pull:_cannot_write(why)
  self:fail(self:_closed_error(why))
end

--- Writes what was submitted.
---@return userdata? token CANCEL when the caller's time was up
function Pull:flush(record)
  local ok, data, size = pcall(core_output, self.core)
  if not ok then
    return self:fail(errors.new("ConnectionError", messages.of_error(data), { address = self.address }))
  end
  if not data or self.lost then return end
  self.used = true
  if not is_limited(self, record) and not limit(self, record) then return timed_out(self, record) end
  set_stage(self, connection.WRITING)
  if size > LONG then return self:_write_beside(data) end
  local sent, why = self.socket:send(data)
  if sent then
    set_stage(self, connection.READING)
  elseif why == "timeout" then
    return timed_out(self, record)
  else
    self:_cannot_write(why)
  end
end

-- In a light thread of its own, while the caller reads.
function Pull:_write_beside(data)
  local socket = self.socket
  self.writing = true
  self.writer = self.transport.spawn(function()
    local ok, why = socket:send(data)
    if ok then set_stage(self, connection.READING) else self._write_error = why end
    self.writing = false
  end)
end

-- reading -------------------------------------------------------------------------------------------------

-- Waits for bytes and takes them.
---@return userdata? token CANCEL when the caller's time was up
function Pull:_read_more(record)
  if not is_limited(self, record) and not limit(self, record) then return timed_out(self, record) end
  local bytes, why = self.socket:receive()
  if self.lost then return end
  if bytes then
    self.proved, self._pinged = self.ready, false
    if not core_feed(self.core, bytes) then
      self:fail(errors.new("ProtocolError", "not enough memory", { address = self.address }))
    end
  elseif why == "timeout" then
    if not (self:_may_be_idle(record) and self:_ping()) then return timed_out(self, record) end
  else
    why = self._write_error or why
    self:fail(self:_closed_error(why ~= "closed" and why or nil))
  end
end

-- What the core tells other than a result: true when there may be more.
local function heard(self, waiter, ...)
  if waiter == false then
    self:_unasked(...)
    return not self.lost
  end
  local why = ...
  if why then self:fail(errors.new("ProtocolError", why, { address = self.address })) end
  return false
end

-- Takes what has come while nothing waits for a reply.
function Pull:_pump()
  while not self.lost and heard(self, core_next(self.core, self.waiters)) do end
end

-- The writer is done with, too, when the replies are in; else it is ended, and its socket with it.
local function end_writer(self)
  local writer = self.writer
  self.writer = nil
  if not self.writing then return self.transport.reap(writer) end
  self.writing = false
  self.transport.kill(writer)
  self:fail(self:_closed_error "it was answered before it was written")
end

local function finished(self, record, token, ...)
  if record then record.conn = nil end
  if self.writer then end_writer(self) end
  if token == LOST then return token, self.lost, ... end
  self.clean = core_is_clean(self.core)
  return token, ...
end

local take

-- What the core has next: an error of its own (no memory, no place on the stack) is the connection's end.
local function take_next(self, record, ok, ...)
  if ok then return take(self, record, ...) end
  self:fail(errors.new("ProtocolError", messages.of_error((...)), { address = self.address }))
  return take(self, record, core_next(self.core, self.waiters))
end

-- Reads until the core has the caller's result. A lost connection's core has it at once, or does not have the chain.
function take(self, record, waiter, ...)
  if waiter then return finished(self, record, ...) end
  if waiter == nil and self.lost then return finished(self, record, LOST, false) end
  if not heard(self, waiter, ...) and not self.lost then
    local token = self:_read_more(record)
    if token then return finished(self, record, token) end
  end
  return take_next(self, record, pcall(core_next, self.core, self.waiters))
end

--- Waits for the chain that was submitted: a token, then its results, or what became of them.
function Pull:wait()
  local record = task.current()
  if record then record.conn = self end
  local token = record and record:take_cancel() and CANCEL or self:flush(record)
  if token then return finished(self, record, token) end
  if self.lost then return take(self, record, core_next(self.core, self.waiters)) end
  return take(self, record) -- (nothing has come yet)
end

-- the end -------------------------------------------------------------------------------------------------

-- A thread that reads holds the socket: the read ends when the server hangs up.
local function hang_up(self)
  local socket = self.socket
  if not socket or socket:close() or not self.hooks.receiver then return end
  socket:send "QUIT\r\n"
end

--- The connection is gone. A thread that waits for a reply sees it when it looks. Only the first time counts.
function Pull:fail(err)
  if self.lost then return end
  self.lost = err
  self.was_ready, self.ready = self.ready, false
  self.core:event "lose"
  hang_up(self)
  self.socket = nil
  self.hooks.on_lost(self, err)
  self:_nudge_all()
end

--- Closes it on purpose.
function Pull:close(why)
  self:fail(errors.new("ConnectionForcedCloseError", why or "closed by close()", { address = self.address }))
end

--- Chains in flight, bytes not written yet.
function Pull:load()
  return self.core:waiting()
end

--- A socket of a request's holds itself, and nginx the light threads that wait for it.
function Pull.keep() end

return M
