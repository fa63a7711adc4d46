-- SPDX-License-Identifier: MIT
-- A lock on one server: a key that holds its owner's token and expires. It is as safe as that server is: what a
-- fail-over forgets, the lock forgets.
-- Specs: promises/27, promises/28, hosts/nginx/requests

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local handle = require "redio.chain.handle"
local script = require "redio.recipe.script"
local task = require "redio.task"

local M = {}

-- Only the owner may touch it, so the token is compared where nothing comes between.
local RELEASE = [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end
return 0]]
local EXTEND = [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("pexpire", KEYS[1], ARGV[2]) end
return 0]]

---@class redio.Lock
---@field name string
---@field token string? while it is held
---@field timeout number seconds until it expires by itself
local Lock = {}
Lock.__index = Lock
Lock.__name = "redio.Lock"

local KNOWN = { timeout = true, blocking_timeout = true, sleep = true }

-- Client:lock calls here last: so its caller is the caller of M.new.
local function check_options(opts)
  for name, value in pairs(opts) do
    if not KNOWN[name] then
      error(("unknown option '%s': there are timeout, blocking_timeout, sleep"):format(tostring(name)), 3)
    end
    arg_check.seconds_option(value, name, 3, name == "blocking_timeout")
  end
end

--- A lock, not yet acquired.
---@param opts table? timeout: seconds until it expires by itself (default 10); blocking_timeout: how long acquire
--- waits (default for ever, 0 not at all); sleep: seconds between two attempts (default 0.05)
function M.new(client, name, opts)
  opts = opts or {}
  check_options(opts)
  if opts.timeout == 0 then error("option 'timeout' must be more than 0", 2) end
  return setmetatable({
    name = name,
    timeout = opts.timeout or 10,
    _client = client,
    _patience = opts.blocking_timeout,
    _sleep = opts.sleep or 0.05,
    _release = script.new(client, RELEASE),
    _extend = script.new(client, EXTEND),
  }, Lock)
end

local function new_token()
  local file = io.open("/dev/urandom", "rb")
  if not file then
    return ("%x%x%s"):format(math.random(0, 0x7fffffff), math.random(0, 0x7fffffff), tostring({}):match "0x(%x+)" or "")
  end
  local bytes = file:read(16)
  file:close()
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

-- (The server's clock plus the largest still fits into what it counts with.)
local function milliseconds(seconds)
  return math.min(2 ^ 53, math.max(1, math.floor(seconds * 1000.0 + 0.5)))
end

local function try_until_acquired(self)
  local transport, token = self._client.transport, new_token()
  local deadline = self._patience and transport.now() + self._patience
  while true do
    if handle.new(self._client):set(self.name, token, "NX", "PX", milliseconds(self.timeout)):await() then
      self.token = token
      return true
    end
    if deadline and transport.now() + self._sleep > deadline then return false end
    task.sleep(self._sleep)
  end
end

--- Waits until the lock is ours.
---@return boolean acquired false when blocking_timeout ran out
function Lock:acquire()
  if not task.can_wait() then return task.block(self._client.transport, self.acquire, self) end
  if self.token then error("this lock is held already", 2) end
  if self._acquiring then error("another coroutine waits for this lock: each needs a redis:lock(...) of its own", 2) end
  self._acquiring = true
  local ok, acquired = pcall(try_until_acquired, self)
  self._acquiring = false
  if not ok then error(acquired, 0) end
  return acquired
end

local function lost(self, what)
  self.token = nil
  error(errors.new("RedisError", ("the lock was lost before it was %s: it expired, or was taken away"):format(what),
    { address = self._client.settings.address }), 0)
end

local function check_held(self, level)
  if not self.token then error("this lock is not held", level + 1) end
end

--- Holds it for so many seconds more, from now.
--- Raises RedisError when the lock was lost.
function Lock:extend(seconds)
  if seconds ~= nil then arg_check.seconds(seconds, 1, "extend", 2) end
  check_held(self, 2)
  seconds = seconds or self.timeout
  if self._extend({ self.name }, { self.token, milliseconds(seconds) }) == 0 then lost(self, "extended") end
  return true
end

--- Gives it back.
--- Raises RedisError when the lock was lost.
function Lock:release()
  check_held(self, 2)
  if self._release({ self.name }, { self.token }) == 0 then lost(self, "released") end
  self.token = nil
  return true
end

--- True when the server still knows it as ours.
function Lock:owned()
  return self.token ~= nil and handle.new(self._client):get(self.name):await() == self.token
end

function Lock:__close(err)
  if not self.token then return end
  if err == nil then return self:release() end
  pcall(self.release, self) -- the first error counts
end

return M
