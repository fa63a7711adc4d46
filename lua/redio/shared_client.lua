-- SPDX-License-Identifier: MIT
-- Clients where the host keeps the idle connections: those of one worker that are made with the same URL and options
-- share all that they have (settings, connections, what is known of the server) but whether they are closed. So a
-- client may be made by each request, and costs next to nothing.

local arg_check = require "redio.base.arg_check"
local identity = require "redio.base.identity"
local task = require "redio.task"
local transports = require "redio.transport"

local M = {}

-- Key -> the client that has it all.
local roots = setmetatable({}, { __mode = "v" })

-- The last ones that were made: they stay though none of their clients does, for the next request makes one.
local recent = { most = 32, turn = 0 }

--- What the clients that share a root have in common; nil where nothing is shared, or where they are wrong.
---@return string?
function M.key(url, opts)
  if url ~= nil and type(url) ~= "string" then return nil end
  if opts == nil then return "url " .. (url or "") end
  if type(opts) ~= "table" or opts.transport ~= nil then return nil end
  local null = opts.null -- is itself, whatever is in it
  return identity.of_all(url, opts, null ~= nil and identity.object(null))
end

--- The client with that key that others are made of; nil when there is none.
function M.find(key)
  return roots[key]
end

-- methods of those that share -----------------------------------------------------------------------------

local Lease = {}

local function close_one(conn)
  conn:close()
end

function Lease:_shared_connection()
  return self._root:_pull_connection(self._pool)
end

function Lease:_leave_shared(conn)
  self._root:_leave_shared(conn)
end

function Lease:stats()
  return self._root:stats()
end

--- Closes the idle connections; else also those that this client's handles and receivers have, with whatever is in
--- flight on them, and the shared one as soon as nothing is in flight there. The client stays usable.
---@param opts table?
function Lease:disconnect(opts)
  local root = self._root
  root._pool:close_idle()
  if root._shared then root:_leave_shared(root._shared) end
  if opts and opts.idle then return end
  self._pool:each(close_one)
end

-- Waits until nothing is in flight on the connections of this client's handles, for so many seconds. (What is on the
-- shared one is finished in any case.)
local function drain(self, seconds)
  local transport, waiting = self.transport, 0
  local function count(conn)
    if not conn.hooks.receiver then waiting = waiting + (conn:load()) end
  end
  local deadline = transport.now() + seconds
  repeat
    waiting = 0
    self._pool:each(count)
    if waiting > 0 then task.sleep(0.005) end
  until waiting == 0 or transport.now() >= deadline
end

--- Stops new work, lets what is in flight finish within `drain` seconds, and closes the connections that this client's
--- handles and receivers have. Others of its kind go on.
---@param opts table? drain: seconds, default 1
function Lease:close(opts)
  local seconds = opts and opts.drain or 1
  arg_check.seconds_option(seconds, "drain", 2)
  if self.closed then return end
  self.closed = true
  self._pool:stop()
  if seconds > 0 and task.can_wait() then drain(self, seconds) end
  self._pool:each(close_one)
end

-- making them ---------------------------------------------------------------------------------------------

-- What is read from a client is the root's, but for the methods above.
local function metatable_of(root)
  local own = { _root = root }
  for name, method in pairs(Lease) do
    own[name] = method
  end
  local metatable = {}
  for name, value in pairs(getmetatable(root)) do
    metatable[name] = value
  end
  metatable.__index = setmetatable(own, { __index = root })
  return metatable
end

--- Lets others be made of this client, which is never to be closed itself.
---@param key string?
function M.share(key, root)
  root._leases = metatable_of(root)
  if not key then return end
  roots[key] = root
  recent.turn = recent.turn % recent.most + 1
  recent[recent.turn] = root
end

--- A client that shares all with the root, but its end.
function M.of(root)
  return setmetatable({ false, false, closed = false, _pool = root._pool:lease() }, root._leases)
end

-- a URL that is missing -----------------------------------------------------------------------------------

local NAMES_PLACE = { host = true, port = true, path = true }
local has_warned = false

--- Says it, once, when a client is made of a URL that is nil and nothing else says where the server is: nginx takes the
--- environment from its workers.
function M.check_url(opts)
  if has_warned then return end
  for name in pairs(type(opts) == "table" and opts or {}) do
    if NAMES_PLACE[name] then return end
  end
  has_warned = true
  transports.default().warn("a client was made of a URL that is nil, so it leads to localhost: for os.getenv "
    .. "nginx.conf has to name the variable (env REDIS_URL;); redio.Redis() is localhost without this warning")
end

return M
