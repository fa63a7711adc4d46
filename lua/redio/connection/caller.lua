-- SPDX-License-Identifier: MIT
-- The driver of hosts that call nothing back: the light thread that waits for a reply writes what was submitted, and
-- reads until its reply is there. How it waits for messages is in caller_messages.lua.
-- Specs: unit/drivers, hosts/nginx/connections, hosts/nginx/aborts, hosts/nginx/timeouts

local caller_messages = require "redio.connection.caller_messages"
local core = require "redio.core"
local link = require "redio.connection"
local queue = require "redio.base.queue"
local task = require "redio.task"

local HANDSHAKE, LOST, CANCEL = core.HANDSHAKE, core.LOST, task.CANCEL

local M = {}

-- Output of more bytes than this is written beside the reading: a server that has written more than the network holds
-- reads on only when that is taken.
local LONG = 64 * 1024

---@class redio.CallerConnection: redio.Link
---@field socket redio.ngx.Socket?
---@field patience number|false seconds that a reply may take
---@field clean boolean nothing in flight, nothing unread: the socket may go back to the host's pool
---@field parked redio.Queue what waits for messages
---@field reading boolean? one of these reads
---@field pinged boolean? a health check is not answered yet
local Caller = link.driver()

for name, method in pairs(caller_messages) do
  Caller[name] = method
end

local core_next, core_feed, core_output, core_is_clean, core_submit
do
  local methods = getmetatable(core.connection()).__index
  core_next, core_feed, core_output = methods.next, methods.feed, methods.output
  core_is_clean, core_submit = methods.is_clean, methods.submit
end

--- A connection without socket.
---@param settings table
---@param transport table
---@param hooks table see link.init
---@return redio.CallerConnection
function M.new(settings, transport, hooks)
  hooks.exclusive = true
  return link.init(setmetatable({
    patience = settings.read_timeout,
    interval = hooks.receiver and settings.health_check_interval or false,
    parked = queue.new(),
    clean = true,
  }, Caller), settings, transport, hooks)
end

-- opening and keeping -------------------------------------------------------------------------------------

--- Takes a socket.
function Caller:attach(socket)
  self.socket, self.used = socket, false
  -- the socket was opened with these limits
  self._write, self._read = self.settings.write_timeout, self.settings.read_timeout
end

--- From connected to ready, or lost; `started` is when the way here began.
function Caller:greet(started)
  local limit = self.settings.connect_timeout
  self.deadline = limit and started + limit
  self:advance "connect"
  self:advance "connected"
  self:log_in()
  self.deadline = nil
end

--- Its socket comes from the host's pool, and is logged in.
function Caller:established()
  self:advance "connect"
  self:advance "connected"
  self:advance "established"
end

--- There is no socket for it.
function Caller:refuse(why, permanent)
  self:fail(why == "timeout" and self:overdue_connect() or self:unreachable(why, permanent))
end

--- True when its socket was closed with its request, of which nothing is told.
function Caller:is_gone()
  return self.socket ~= nil and self.socket:is_gone()
end

--- Gives the socket away, if another may have it.
---@return redio.ngx.Socket? socket nil when it is not clean
function Caller:detach()
  if self.lost or not self.clean or self.writing then return nil end
  local socket = self.socket
  self.socket = nil
  self.patience = self.settings.read_timeout
  return socket
end

-- limits --------------------------------------------------------------------------------------------------

function Caller:within(seconds)
  self.patience = seconds
end

local function least(a, b)
  if not a or not b then return a or b end
  return a < b and a or b
end

-- Limits the next operation: to patience, and to the deadline of the handshake or of the task. False when there is no
-- time left. (As a rule the socket has its limits already, and this is not called.)
local function limit(self, record)
  local write, read = self.settings.write_timeout, self.patience
  if self.interval then read = least(read, self.interval) end
  local left = record and record:left()
  if self.deadline then left = least(left, self.deadline - self.transport.now()) end
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
  if self.pinged then return self:overdue_ping() end
  local seconds = self.stage == link.WRITING and self.settings.write_timeout or self.patience
  return self:overdue(seconds, self.stage)
end

-- Time is out: the caller's own, which it is told (CANCEL), or that of the connect, or the server's.
local function timed_out(self, record)
  if not self.was_ready then return self:fail(self:overdue_connect()) end
  local err = record and record:overdue(self.stage)
  if not err then return self:fail(overdue_reply(self)) end
  record.raised = err
  return CANCEL
end

-- writing -------------------------------------------------------------------------------------------------

--- Without a reply to come the chain is sent at once, else by `wait`.
function Caller:submit(pipeline, mode, collected)
  if self.used and not self:_may_go_on() then return nil, "lost" end
  self.clean = false
  if not self.was_ready then mode = mode + HANDSHAKE end
  local slot, why = core_submit(self.core, pipeline, self.waiters, mode, collected)
  if slot == false then self:flush() end
  return slot, why
end

-- True when another chain may go where one has been: in the same request, and with nothing unread that it would take
-- for its own.
function Caller:_may_go_on()
  if self.lost then return false end
  if not self.socket:is_ours() then
    self.socket = nil -- its request closes it, or has done so
    self:fail(self:foreign_error())
    return false
  end
  if not self.hooks.receiver then self:settle() end
  return not self.lost
end

--- Takes what has come for no chain. (The core tells a reply that has only begun to come from that of the next chain.
--- Chains that nothing waits for, as the login's last ones, may still be in flight: the next one follows them.)
function Caller:settle()
  if self.clean or self.lost then return end
  self:take_unasked()
  self.clean = core_is_clean(self.core)
end

--- Writes what was submitted. (The stage follows once the connection is ready: until then it is the connection's own.)
---@return userdata? token CANCEL when the caller's time was up
function Caller:flush(record)
  local ok, data, size = pcall(core_output, self.core)
  if not ok then return self:fail(self:core_error(data, "ConnectionError")) end
  if not data or self.lost then return end
  self.used = true
  local is_limited = not record and not self.deadline and not self.interval and self._read == self.patience
  if not is_limited and not limit(self, record) then return timed_out(self, record) end
  if self.was_ready then self.stage = link.WRITING end
  if size > LONG then return self:_write_beside(data) end
  local sent, why = self.socket:send(data)
  if sent then
    if self.was_ready then self.stage = link.READING end
  elseif why == "timeout" then
    return timed_out(self, record)
  else
    self:fail(self:closed_error(why))
  end
end

-- In a light thread of its own, while the caller reads.
function Caller:_write_beside(data)
  local socket = self.socket
  self.writing = true
  self.writer = self.transport.spawn(function()
    local ok, why = socket:send(data)
    if not ok then
      self._write_error = why
    elseif self.was_ready then
      self.stage = link.READING
    end
    self.writing = false
  end)
end

--- A caller has its connection for itself, and its chain is written before the next one is submitted.
function Caller:wait_room()
  self:flush()
end

-- reading -------------------------------------------------------------------------------------------------

--- Waits for bytes and takes them.
---@return userdata? token CANCEL when the caller's time was up
function Caller:read_more(record)
  local is_limited = not record and not self.deadline and not self.interval and self._read == self.patience
  if not is_limited and not limit(self, record) then return timed_out(self, record) end
  local bytes, why = self.socket:receive()
  if self.lost then return end
  if bytes then
    self.proved, self.pinged = self.was_ready, false
    if not core_feed(self.core, bytes) then self:fail(self:core_error "not enough memory") end
  elseif why == "timeout" then
    if not self:may_ping(record) or not self:ping() then return timed_out(self, record) end
  else
    why = self._write_error or why
    self:fail(self:closed_error(why ~= "closed" and why or nil))
  end
end

--- Takes what has come while nothing waits for a reply.
function Caller:take_unasked()
  while not self.lost and self:told(core_next(self.core, self.waiters)) do end
end

-- When the replies are in, the writer is done with. One that still writes is ended, and its socket with it.
local function end_writer(self)
  local writer = self.writer
  self.writer = nil
  if not self.writing then return self.transport.reap(writer) end
  self.writing = false
  self.transport.kill(writer)
  self:fail(self:closed_error "it was answered before it was written")
end

local function finished(self, record, token, ...)
  if record then record.conn = nil end
  if self.writer then end_writer(self) end
  if token == LOST then return token, self.lost, ... end
  self.clean = core_is_clean(self.core)
  if self.retiring then self:close_if_drained() end
  return token, ...
end

-- Reads until the core has the caller's result: takes what its `next` gives, in a protected call. The core of a lost
-- connection has the result at once, or does not have the chain. An error of the core's own (no memory, no place on the
-- stack) ends the connection.
local function take(self, record, ok, waiter, ...)
  if not ok then
    self:fail(self:core_error(waiter))
    return take(self, record, true, core_next(self.core, self.waiters))
  end
  if waiter then return finished(self, record, ...) end
  if waiter == nil and self.lost then return finished(self, record, LOST, false) end
  if not self:told(waiter, ...) and not self.lost then
    local token = self:read_more(record)
    if token then return finished(self, record, token) end
  end
  return take(self, record, pcall(core_next, self.core, self.waiters))
end

function Caller:wait()
  local record = task.current()
  if record then record.conn = self end
  local token = record and record:take_cancel() and CANCEL or self:flush(record)
  if not token and not self.lost then token = self:read_more(record) end -- (nothing has come yet)
  if token then return finished(self, record, token) end
  return take(self, record, pcall(core_next, self.core, self.waiters))
end

-- the end -------------------------------------------------------------------------------------------------

--- A thread that reads holds the socket: then the read ends when the server hangs up.
function Caller:hang_up()
  local socket = self.socket
  self.socket = nil
  if not socket or socket:close() or not self.hooks.receiver then return end
  socket:send "QUIT\r\n"
end

--- A thread that waits for a reply sees the loss when it looks. Threads that wait for messages are woken to look.
function Caller:tell_all()
  self:nudge_all()
end

return M
