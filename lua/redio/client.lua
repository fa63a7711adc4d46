-- SPDX-License-Identifier: MIT
-- A client: one shared connection that all its coroutines pipeline into, a pool of private ones, and its settings.

local arg_check = require "redio.base.arg_check"
local backoff = require "redio.endpoint.backoff"
local connection = require "redio.connection.loop"
local decode = require "redio.command.decode"
local errors = require "redio.base.errors"
local handle = require "redio.chain.handle"
local host_pool = require "redio.endpoint.host_pool"
local lock = require "redio.recipe.lock"
local lua_version = require "redio.base.lua_version"
local monitor = require "redio.receive.monitor"
local pool = require "redio.endpoint.pool"
local pull_shared = require "redio.connection.timer"
local receiver = require "redio.receive.receiver"
local scan = require "redio.recipe.scan"
local script = require "redio.recipe.script"
local settings_of = require "redio.settings"
local shared_client = require "redio.shared_client"
local task = require "redio.task"
local tls_socket = require "redio.connection.tls_socket"
local transaction = require "redio.recipe.transaction"
local transports = require "redio.transport"

local isyieldable = task.can_wait

local M = {}

---@class redio.Client
---@field closed boolean
local Client = {}

local metatable = { __index = Client, __name = "redio.Client" }

--- A fresh handle; handles are for one coroutine each.
metatable.__call = handle.new

function metatable:__tostring()
  local settings = self.settings
  local tls = settings.tls and (settings.tls.verify and ", TLS" or ", TLS not verified") or ""
  return ("redio.Client(%s%s, database %d%s)"):format(settings.address, tls, settings.database,
    self.closed and ", closed" or "")
end

-- A client of its own, for whatever calls the caller.
local function make(url, opts)
  local settings = settings_of.resolve(url, opts, 4)
  local transport = settings.transport or transports.default()
  local refusal = transport.refuses and transport.refuses(settings)
  if refusal then error(refusal, 3) end
  if settings.tls and not transport.native_tls then
    local ok, why = tls_socket.load()
    if not ok then error(why, 3) end
  end
  local json = settings.json or decode.json
  local self = setmetatable({
    false, -- for core.send: the core of the shared connection while it is ready
    false, -- and its waiters
    settings = settings,
    transport = transport,
    json_encode = json.encode or decode.json.encode,
    json_decode = json.decode or decode.json.decode,
    closed = false,
    reconnects = 0,
    _shared = nil,
    _always_slow = not settings.multiplex or settings.decode ~= "none" or transport.pulls,
  }, metatable)
  self._on_connect = settings.on_connect and function(conn)
    return self:_greet(conn)
  end
  self._backoff = backoff.new(settings.retry, self.transport)
  self._pool = (transport.pulls and host_pool or pool).new(settings, self.transport, {
    on_connect = self._on_connect,
    on_lost = function(conn)
      self:_count_loss(conn)
    end,
    delay = function()
      return self._backoff:delay()
    end,
  })
  return self
end

local is_shared = transports.tasks() ~= nil -- (see shared_client.lua)

--- A client. No I/O until it is used.
---@param url string? see docs/reference.md; nil is redis://localhost:6379/0
---@param opts table?
---@return redio.Client
--- Raises at once, naming it, when the URL or an option is wrong.
function M.new(...)
  local url, opts = ...
  if not is_shared then return (make(url, opts)) end
  if url == nil and select("#", ...) > 0 then shared_client.check_url(opts) end
  local key = shared_client.key(url, opts)
  local root = key and shared_client.find(key)
  if not root then
    root = make(url, opts)
    if not root.transport.pulls then return root end
    shared_client.share(key, root)
  end
  return shared_client.of(root)
end

-- The user's on_connect, with a handle on the new connection.
function Client:_greet(conn)
  local greeter = handle.on(self, conn)
  local ok, err = pcall(self.settings.on_connect, greeter)
  local is_plain = greeter:_detach()
  if not ok then error(err, 0) end
  if is_plain then return end
  error(errors.new("ConnectionError", "on_connect has left a MULTI or a WATCH open, replies turned off, or QUIT: "
    .. "every chain on this connection would suffer from it", { address = conn.address, permanent = true }), 0)
end

function Client:_count_loss(conn)
  self._backoff:failed(conn)
  if conn.was_ready and not errors.is(conn.lost, "ConnectionForcedCloseError") then
    self.reconnects = self.reconnects + 1
  end
end

function Client:_closed_error()
  return errors.new("PoolClosedError", "the client is closed", { address = self.settings.address, sent = "no" })
end

-- The next chain takes a new shared connection; this one, if it still is the shared one, closes when what is in flight
-- is in.
function Client:_leave_shared(conn)
  if self._shared ~= conn then return end
  self._shared, self[1] = nil, false
  conn:retire()
end

function Client:_shared_hooks()
  return {
    on_connect = self._on_connect,
    on_ready = function(ready)
      self[1], self[2] = not self._always_slow and not self.closed and ready.core, ready.waiters
    end,
    on_lost = function(lost)
      if self._shared == lost then self._shared, self[1] = nil, false end
      self:_count_loss(lost)
    end,
  }
end

-- Where a socket is its request's: the shared connection while it is ready, else one of `from`. The shared one is worth
-- having where others are at work, if it is not for one request alone.
function Client:_pull_connection(from)
  local conn = self._shared
  if conn and conn.ready then return conn end
  if not conn and from:outlives_request() and from:is_busy() then
    conn = pull_shared.new(self.settings, self.transport, self:_shared_hooks(), from.stock.new_options)
    if conn:open(self._backoff:delay()) then self._shared = conn end
  end
  return from:acquire()
end

-- The shared connection, ready; opened when there is none.
function Client:_shared_connection()
  if self.closed then return nil, self:_closed_error() end
  local conn = self._shared
  if not conn then
    conn = connection.new(self.settings, self.transport, self:_shared_hooks())
    self._shared = conn
    self._pool:warm()
    conn:open(self._backoff:delay())
  end
  local ready, err = conn:wait_ready()
  if not ready then return nil, err end
  return conn
end

--- A handle with a private connection that does not reconnect, until it is closed.
---@return redio.Handle
function Client:connection()
  return handle.private(self)
end

--- Calls `fn(handle)` with such a handle, and closes it whatever happens.
---@param fn fun(handle: redio.Handle): ...
---@return any ... what fn returned
function Client:with_connection(fn)
  arg_check.callable(fn, 1, "with_connection", 2)
  local borrowed = handle.private(self)
  return lua_version.with_close(borrowed, fn, borrowed)
end

--- A receiver of messages.
---@param ... string channels to subscribe to
---@return redio.Receiver
function Client:pubsub(...)
  return receiver.new(self, ...)
end

--- An iterator of what the server does, a line for each command it executes.
function Client:monitor()
  return monitor.new(self)
end

--- WATCH `keys`, `fn(handle)` reads and queues, EXEC; again when a watched key changed.
---@param keys string|string[]
---@param fn fun(handle: redio.Handle)
---@param opts table? retries: how many times more (default 16)
---@return table|boolean results as from exec
--- Raises WatchError when the keys changed each time.
function Client:transaction(keys, fn, opts)
  return transaction.run(self, keys, fn, opts)
end

--- A Lua script of the server's: call it with a list of keys and a list of arguments.
---@param source string
---@return redio.Script
function Client:script(source)
  return script.new(self, source)
end

--- Iterates over all keys: `for key in redis:scan{match = "user:*"} do`.
---@param opts table? match, count, type
function Client:scan(opts)
  return scan.keys(self, opts)
end

--- Iterates over the fields and values of a hash.
function Client:hscan(key, opts)
  return scan.fields(self, key, opts)
end

--- Iterates over the members of a set.
function Client:sscan(key, opts)
  return scan.members(self, key, opts)
end

--- Iterates over the members and scores of a sorted set.
function Client:zscan(key, opts)
  return scan.scored(self, key, opts)
end

--- A lock that many clients compete for.
---@param name string its key
---@param opts table? timeout, blocking_timeout, see recipe/lock.lua
---@return redio.Lock
function Client:lock(name, opts)
  return lock.new(self, name, opts)
end

--- Numbers about the connections, as they are now.
---@return table stats connections, idle, waiting (callers without one), in_flight (chains), queued_bytes, reconnects,
--- receivers (connections of receivers and monitors, which are not among the others)
function Client:stats()
  local connections, idle, waiting = self._pool:counts()
  local stats = { connections = connections, idle = idle, waiting = waiting, in_flight = 0, queued_bytes = 0,
    reconnects = self.reconnects, receivers = self._pool:count_receivers() }
  local function add(conn)
    local in_flight, bytes = conn:load()
    stats.in_flight = stats.in_flight + in_flight
    stats.queued_bytes = stats.queued_bytes + bytes
  end
  self._pool:each(add, true)
  local shared = self._shared
  if shared then
    add(shared)
    stats.connections = stats.connections + 1
    if shared:load() == 0 then stats.idle = stats.idle + 1 end
    stats.waiting = stats.waiting + shared:waiting_to_open()
  end
  return stats
end

--- Closes connections: the idle ones with `{idle = true}`, else all, with whatever is in flight on them. The
--- client stays usable.
---@param opts table?
function Client:disconnect(opts)
  self._pool:close_idle()
  local shared = self._shared
  if opts and opts.idle then
    if shared and shared.ready and shared:load() == 0 then shared:close() end
  else
    if shared then shared:close() end
    self._pool:each(function(conn)
      conn:close()
    end)
  end
  self.transport.flush()
end

local function in_flight(self)
  local count = 0
  if self._shared then count = self._shared:load() end
  self._pool:each(function(conn)
    if not conn.hold then count = count + (conn:load()) end
  end)
  return count
end

local function pause(transport, seconds)
  local waiter = {}
  transport.start_timer(seconds, function()
    task.wake(waiter)
  end)
  task.wait(waiter)
end

-- Waits until nothing is in flight, for so many seconds.
local function drain(self, seconds)
  local transport = self.transport
  local deadline = transport.now() + seconds
  while in_flight(self) > 0 and transport.now() < deadline do
    pause(transport, math.min(0.005, seconds))
  end
end

--- Stops new work, lets what is in flight finish within `drain` seconds, and closes everything. Again: does nothing.
---@param opts table? drain: seconds, default 1
function Client:close(opts)
  local seconds = opts and opts.drain or 1
  arg_check.seconds_option(seconds, "drain", 2)
  if self.closed then return end
  if not isyieldable() and not self.transport.in_loop() and in_flight(self) > 0 and seconds > 0 then
    return task.block(self.transport, self.close, self, opts)
  end
  self.closed, self[1] = true, false
  self._pool:stop()
  if isyieldable() and seconds > 0 then drain(self, seconds) end
  self:disconnect()
end

metatable.__close = function(self)
  self:close()
end

return M
