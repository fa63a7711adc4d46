-- SPDX-License-Identifier: MIT
-- A client: one shared connection that all its coroutines pipeline into, a pool of private ones, and its settings.
-- Specs: client/client, client/ancestor

local arg_check = require "redio.base.arg_check"
local decode = require "redio.command.decode"
local handle = require "redio.chain.handle"
local lock = require "redio.recipe.lock"
local lua_version = require "redio.base.lua_version"
local monitor = require "redio.receive.monitor"
local places = require "redio.chain.places"
local receiver = require "redio.receive.receiver"
local scan = require "redio.recipe.scan"
local script = require "redio.recipe.script"
local settings_of = require "redio.settings"
local shared_client = require "redio.shared_client"
local task = require "redio.task"
local tls_socket = require "redio.connection.tls_socket"
local topology = require "redio.topology"
local transaction = require "redio.recipe.transaction"
local transports = require "redio.transport"

local CORE, WAITERS = places.CORE, places.WAITERS

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

-- The functions that arguments and results of JSON take.
local function json_of(settings)
  local json = settings.json or decode.json
  return json.encode or decode.json.encode, json.decode or decode.json.decode
end

-- True when core.send may submit a chain to the shared connection.
local function is_usual(settings)
  return settings.multiplex and settings.decode == "none"
end

-- A client that shares nothing with another. Errors are at the line that called M.new.
local function make(url, opts)
  local settings = settings_of.resolve(url, opts, 4)
  local transport = settings.transport or transports.default()
  local refusal = transport.refuses and transport.refuses(settings)
  if refusal then error(refusal, 3) end
  if settings.tls and not transport.native_tls then
    local ok, why = tls_socket.load()
    if not ok then error(why, 3) end
  end
  local self = setmetatable({ false, false, settings = settings, transport = transport, closed = false }, metatable)
  self.json_encode, self.json_decode = json_of(settings)
  local on_connect = settings.on_connect
  self.topology = topology.new(settings, transport, {
    on_connect = on_connect and function(conn)
      handle.greet(self, conn, on_connect)
    end,
    on_shared = is_usual(settings) and function(conn)
      self[CORE] = conn and not self.closed and conn.core or false
      if conn then self[WAITERS] = conn.waiters end
    end,
  })
  return self
end

--- A client. No I/O until it is used.
---@param url string? see docs/reference.md; nil is redis://localhost:6379/0
---@param opts table?
---@return redio.Client
--- Raises at once, naming it, when the URL or an option is wrong.
function M.new(...)
  local url, opts = ...
  if not shared_client.is_usual then return (make(url, opts)) end
  if url == nil and select("#", ...) > 0 then shared_client.check_url(opts) end
  local key = shared_client.key(url, opts)
  local original = shared_client.find(key)
  if not original then
    original = make(url, opts)
    if not original.topology.is_common then return original end
    shared_client.keep(key, original)
  end
  return shared_client.copy(original)
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
  local stats = { connections = 0, idle = 0, waiting = 0, in_flight = 0, queued_bytes = 0, reconnects = 0,
    receivers = 0 }
  self.topology:each(function(endpoint)
    endpoint:add_stats(stats)
  end)
  return stats
end

--- Closes connections: the idle ones with `{idle = true}`, else all, with the chains in flight on them. Where clients
--- share connections, those that others use are left alone. The client stays usable.
---@param opts table?
function Client:disconnect(opts)
  self.topology:each(function(endpoint)
    endpoint:disconnect(self, opts and opts.idle)
  end)
  self.transport.flush()
end

--- Stops new work, lets chains in flight finish within `drain` seconds, and closes its connections. Where clients share
--- connections, those that others use are left alone. Again: does nothing.
---@param opts table? drain: seconds, default 1
function Client:close(opts)
  local seconds = opts and opts.drain or 1
  arg_check.seconds_option(seconds, "drain", 2)
  if self.closed then return end
  local can_wait = task.can_wait()
  if not can_wait and not self.transport.in_loop() and seconds > 0 and self.topology:in_flight(self) > 0 then
    return task.block(self.transport, self.close, self, opts)
  end
  self.closed, self[CORE] = true, false
  self.topology:close(self, can_wait and seconds or 0)
  self.transport.flush()
end

metatable.__close = function(self)
  self:close()
end

return M
