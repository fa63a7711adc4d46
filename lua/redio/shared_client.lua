-- SPDX-License-Identifier: MIT
-- Clients where the host keeps the idle connections: those of one worker that are made with the same URL and options
-- share their settings and their topology, and each is closed on its own. So each request may make its client, which
-- costs next to nothing.
-- Specs: hosts/nginx/clients

local identity = require "redio.base.identity"
local transports = require "redio.transport"

local M = {}

-- Key -> the client that the others with this key are copies of.
local originals = setmetatable({}, { __mode = "v" })

-- The last ones that were made. They stay while no copy exists, for the next request makes one.
local recent = { most = 32, turn = 0 }

--- True when clients are shared on this host.
M.is_usual = transports.tasks() ~= nil

--- A key for the arguments of redio.Redis: the same for clients that may share. nil when such a client is of its own,
--- or when the arguments are wrong.
---@return string?
function M.key(url, opts)
  if url ~= nil and type(url) ~= "string" then return nil end
  if opts == nil then return "url " .. (url or "") end
  if type(opts) ~= "table" or opts.transport ~= nil then return nil end
  local null = opts.null -- as an object, whatever its contents
  return identity.of_all(url, opts, null ~= nil and identity.object(null))
end

--- The original with that key, if there is one.
---@param key string?
---@return redio.Client?
function M.find(key)
  return key and originals[key] or nil
end

--- Keeps an original, of which copies are to be made. It is never closed itself.
---@param key string?
---@param original redio.Client
function M.keep(key, original)
  if not key then return end
  originals[key] = original
  recent.turn = recent.turn % recent.most + 1
  recent[recent.turn] = original
end

--- A client that shares all with the original but its end.
---@param original redio.Client
---@return redio.Client
function M.copy(original)
  return setmetatable({
    false,
    false,
    closed = false,
    settings = original.settings,
    transport = original.transport,
    json_encode = original.json_encode,
    json_decode = original.json_decode,
    topology = original.topology,
    _original = original, -- which is there as long as a copy is
  }, getmetatable(original))
end

-- a URL that is missing -----------------------------------------------------------------------------------

local NAMES_PLACE = { host = true, port = true, path = true }
local has_warned = false

--- Warns, once, when a client is made of a URL that is nil and no option says where the server is: nginx takes the
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
