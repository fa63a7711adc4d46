-- SPDX-License-Identifier: MIT
-- The link: one connection to a server, as far as that takes no I/O. It holds the core, the waiters, the state, the
-- reason of its end and every text. A driver moves the bytes. Drivers are named by what reads:
--
--   loop.lua    the host's loop, which calls back
--   caller.lua  the coroutine that waits for the reply
--   timer.lua   a light thread of a timer, for all requests of a worker
--
-- A driver is a class made by `M.driver`, and has these functions beside the link's:
--
--   submit(pipeline, mode, collected) -> slot | false | nil, why
--                      queues a chain; false: no reply will come; nil: it cannot be sent, and the core's word why
--   flush()            writes what was submitted
--   wait() -> token, ...   waits for the chain that was submitted last: its outcome, as the core has it
--   wait_room()        after submit has said "full": returns when it may be tried again
--   hang_up()          closes the socket, and stops all that it has begun. The link calls it once
--   tell_all(err)      tells all that wait. The link calls it once, after `hang_up` and `hooks.on_lost`
--
-- The connections of handles, receivers and monitors, which one owner has for itself, also have these:
--
--   within(seconds)    how long a reply may take from now on; false: for ever
--   park(waiter) -> ...    waits for what answers no chain, until `task.wake(waiter, ...)`
--   keep(holder)       the connection stays alive for `holder`, which waits for messages; false: no longer
--   read_stop(), read_start()  leaves what comes to the network, and reads again
--
-- spec/unit/drivers_spec.lua holds every driver to this list.
-- Specs: unit/drivers, promises/01, promises/04

local core = require "redio.core"
local errors = require "redio.base.errors"
local handshake = require "redio.connection.handshake"
local messages = require "redio.base.messages"
local queue = require "redio.base.queue"

local new_core = core.connection

local M = {}

M.DRIVER = { "submit", "flush", "wait", "wait_room", "hang_up", "tell_all" }
M.DRIVER_OF_ONE_OWNER = { "within", "park", "keep", "read_stop", "read_start" }

-- The stages of a chain, as errors name them.
M.UNSENT = "to be written when the loop comes to it"
M.WRITING = "writing: the server reads nothing"
M.READING = "waiting for a reply"
M.ROOM = "waiting until what others write is gone: the server reads nothing"

-- The stages of a connection, by the state of its core. A lost one keeps the last.
local STAGES = {
  closed = "waiting to connect",
  connecting = "connecting",
  handshake = "logging in",
  ready = "ready",
}

-- Pushes that confirm a subscription. On a connection for commands something has sent what was no command of ours, and
-- the reply to it never comes.
local SUBSCRIPTIONS = { subscribe = true, psubscribe = true, ssubscribe = true }

local PING = core.command { name = "PING", reply = "nothing" }
local PING_AS_MESSAGE = core.command { name = "PING", silent = true }

---@class redio.Link
---@field home redio.Endpoint? the server that it leads to
---@field address string
---@field core userdata
---@field waiters table for the core: coroutines and results by slot; `connection` is the connection
---@field exclusive boolean it has one owner at a time
---@field ready boolean chains may be submitted
---@field retiring boolean what is in flight may finish, and no chain more be submitted
---@field was_ready boolean it was ready once
---@field leaves boolean it is to retire
---@field lost table? the error that it has ended with
---@field proved boolean? the server has answered after the login
---@field stage string for errors
---@field openers redio.Queue what waits for it to be ready
---@field hold any what waits for messages on it
local Link = {}

--- A new driver's class, with the link's methods in it.
function M.driver()
  local driver = {}
  for name, method in pairs(Link) do
    driver[name] = method
  end
  driver.__index = driver
  return driver
end

--- Makes a connection of `self`.
---@param settings table from settings.resolve
---@param transport table
---@param hooks table on_lost(conn, err), on_connect(conn)?, on_ready(conn)?, on_push(conn, kind, ...)?, after_read()?,
--- receiver: boolean?, lines: boolean?, exclusive: boolean?, home: redio.Endpoint?
function M.init(self, settings, transport, hooks)
  self.settings, self.address, self.transport, self.hooks = settings, settings.address, transport, hooks
  self.home, self.exclusive = hooks.home, hooks.exclusive or false
  self.openers = queue.new()
  self.was_ready, self.leaves = false, false
  self:start_core()
  return self
end

--- Takes a new core, for a new socket.
function Link:start_core()
  local settings = self.settings
  self.core, self.waiters = new_core(self.hooks.receiver, settings.limits), { connection = self }
  if settings.null ~= nil then
    self.waiters.null = settings.null
    self.core:null()
  end
  self.ready, self.retiring, self.stage = false, false, STAGES.closed
end

-- state ---------------------------------------------------------------------------------------------------

--- The core takes a step, which its table of states must have.
---@param event "connect"|"connected"|"established"|"drain"|"lose"
function Link:advance(event)
  self.core:event(event)
  self:follow()
end

--- Takes over what the core's state says.
function Link:follow()
  local state = self.core:state()
  self.ready, self.retiring = state == "ready", state == "draining"
  self.was_ready = self.was_ready or self.ready
  self.stage = STAGES[state] or self.stage
end

--- Logs in, on a socket that is connected.
---@return boolean done false: the connection is lost
function Link:log_in()
  local ok, err = pcall(handshake.perform, self)
  if self.lost then return false end
  if ok then
    self:advance "established"
    return true
  end
  self:fail(errors.is(err) and err or self:error("ConnectionError", messages.of_error(err)))
  return false
end

--- The connection is lost: closes the socket and tells all that wait. Only the first time counts.
function Link:fail(err)
  if self.lost then return end
  self.lost = err
  self:advance "lose"
  self:hang_up()
  self.hooks.on_lost(self, err)
  self:tell_all(err)
end

--- Closes it on purpose.
---@param why string? the error's message
function Link:close(why)
  self:fail(self:error("ConnectionForcedCloseError", why or "closed by close()"))
end

--- Closes it as soon as nothing is in flight. One that is not ready yet does so once it is.
function Link:retire()
  self.leaves = true
  if not self.ready then return end
  self:advance "drain"
  self:close_if_drained()
end

--- Closes one that retires, when nothing is in flight any more.
function Link:close_if_drained()
  if self.retiring and not self:is_waiting() then self:close() end
end

--- Chains in flight, and bytes not written yet.
---@return integer chains
---@return integer bytes
function Link:load()
  return self.core:waiting()
end

--- How many wait for it to be ready.
---@return integer
function Link:waiting_to_open()
  return self.openers:count()
end

--- True when replies are to come.
function Link:is_waiting()
  return self.core:waiting() > 0
end

-- unasked replies and pushes ------------------------------------------------------------------------------

--- Takes from the core's `next` or `wake` all that is no chain's outcome.
---@return boolean more the core may have more
function Link:told(waiter, ...)
  if waiter == false then
    self:unasked(...)
    return not self.lost
  end
  local why = ...
  if why then self:fail(self:error("ProtocolError", why)) end
  return false
end

--- Takes a push; or a reply that no command has asked for, after which no reply here can be trusted.
function Link:unasked(is_push, ...)
  local hooks = self.hooks
  if is_push and hooks.on_push then return hooks.on_push(self, ...) end
  local value = ...
  if is_push then
    if not SUBSCRIPTIONS[value] then return end
    self:fail(self:error("ProtocolError", "the server has subscribed a connection that serves commands"))
  elseif errors.is(value) then
    self.proved = false -- the server accepts connections, and refuses what they are for
    self:fail(errors.complete(value, self.address))
  elseif hooks.lines and self.ready then
    hooks.on_push(self, value)
  elseif not (hooks.receiver and value == "PONG") then -- (RESP3's answer to a health check)
    self:fail(self:error("ProtocolError", "a reply that no command asked for"))
  end
end

--- Submits a PING. On a receiver's connection its answer comes as a message.
---@return integer|boolean? slot as `submit` has it
function Link:submit_ping()
  local pipeline = core.pipeline(true) -- (one that is refused is forgotten without a warning)
  core.encode(pipeline, self.hooks.receiver and PING_AS_MESSAGE or PING)
  return (self:submit(pipeline, core.OWN))
end

-- errors --------------------------------------------------------------------------------------------------

--- An error that concerns this connection.
---@param permanent boolean? the next attempt would end the same way
function Link:error(kind, message, permanent)
  return errors.new(kind, message, { address = self.address, permanent = permanent })
end

--- The error for a socket that has ended.
---@param reason string? nil when the server has closed it
function Link:closed_error(reason)
  return self:error("ConnectionClosedError",
    reason and "connection lost: " .. reason or "connection closed by the server")
end

--- The error for a socket that cannot be had.
function Link:unreachable(reason, permanent)
  return self:error("ConnectionError", "cannot connect: " .. reason, permanent)
end

--- The error for one that is not ready in time.
function Link:overdue_connect()
  local words = "no connection within %g s (connect_timeout): still %s"
  return self:error("TimeoutError", words:format(self.settings.connect_timeout or 0, self.stage))
end

--- The error for one on which nothing has moved for `seconds`.
---@param stage string what the chain was at
function Link:overdue(seconds, stage)
  return self:error("TimeoutError", ("nothing within %g s (timeout), %s"):format(seconds or 0, stage))
end

--- The error for a health check without answer.
function Link:overdue_ping()
  return self:error("TimeoutError", "PING was not answered (health_check_interval)")
end

--- The error for a connection that came over fork.
function Link:forked_error()
  return self:error("ConnectionForcedCloseError", "this connection belongs to the parent of this process (fork): make "
    .. "a client of its own in the child, before which nothing of redio was loaded")
end

--- The error for a socket of another request, of which each needs its own.
function Link:foreign_error()
  return self:error("ConnectionError", "this connection belongs to another request: each needs one of its own", true)
end

--- The error for what the core could not do: it has no memory, or no place on Lua's stack.
function Link:core_error(err, kind)
  return self:error(kind or "ProtocolError", messages.of_error(err))
end

return M
