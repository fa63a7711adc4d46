-- SPDX-License-Identifier: MIT
-- How each generation of servers answers a login, word for word: recorded from Redis 6.0.16, 7.0.15, 8.0.2 and Valkey
-- 8.0.1, 8.1.1; the others as their sources have it.

local M = {}

-- `since`: the Redis with the same commands. `valkey`: the version of a Valkey, where it does not pass for a Redis.
local LIST = {
  { name = "Redis 5.0", version = "5.0.14", since = 5.0 },
  { name = "Redis 6.0", version = "6.0.16", since = 6.0 },
  { name = "Redis 6.2", version = "6.2.17", since = 6.2 },
  { name = "Redis 7.0", version = "7.0.15", since = 7.0 },
  { name = "Redis 7.2", version = "7.2.8", since = 7.2 },
  { name = "Redis 7.4", version = "7.4.3", since = 7.4 },
  { name = "Redis 8.0", version = "8.0.2", since = 8.0, modules = { "vectorset", "ReJSON" } },
  { name = "Valkey 7.2", version = "7.2.4", since = 7.2 }, -- it says that it is a Redis
  { name = "Valkey 8.0", version = "8.0.1", since = 7.2, valkey = 8.0 },
  { name = "Valkey 8.1", version = "8.1.1", since = 7.2, valkey = 8.1, zone = "eu-west-1a" },
  { name = "Valkey 9.0", version = "9.0.1", since = 7.2, valkey = 9.0, zone = "eu-west-1a" },
  -- extended-redis-compatibility yes
  { name = "Valkey 8.1 in disguise", version = "7.2.4", since = 7.2 },
}

---@class spec.Generation
local Generation = {}
Generation.__index = Generation

for _, generation in ipairs(LIST) do
  setmetatable(generation, Generation)
end

M.list = LIST

local function short(name)
  return (name:lower():gsub(" ", "-"))
end

--- The generation of that name: "Valkey 8.1", or "valkey-8.1".
---@param name string
---@return spec.Generation
function M.named(name)
  for _, generation in ipairs(LIST) do
    if short(generation.name) == short(name) then return generation end
  end
  error("no generation is called " .. name, 2)
end

function Generation:has_hello()
  return self.since >= 6
end

function Generation:has_users()
  return self.since >= 6
end

function Generation:has_setinfo()
  return self.since >= 7.2
end

--- True where an ACL can deny HELLO itself.
function Generation:guards_hello()
  return self.since >= 6 and self.since < 7
end

-- replies -------------------------------------------------------------------------------------------------

function M.bulk(text)
  return ("$%d\r\n%s\r\n"):format(#text, text)
end

function M.list_of(items, mark)
  return (mark or "*") .. #items .. "\r\n" .. table.concat(items)
end

local bulk = M.bulk

local function map(protocol, fields)
  if protocol == 2 then return M.list_of(fields) end
  return ("%%%d\r\n"):format(#fields / 2) .. table.concat(fields)
end

function Generation:_modules(protocol)
  local modules = {}
  for i, name in ipairs(self.modules or {}) do
    modules[i] = map(protocol, { bulk "name", bulk(name), bulk "ver", ":1\r\n", bulk "path", bulk "", bulk "args",
      M.list_of {} })
  end
  return M.list_of(modules)
end

local function add(fields, name, value)
  fields[#fields + 1] = bulk(name)
  fields[#fields + 1] = value
end

--- The answer of a HELLO that succeeds.
---@param protocol integer
---@param id integer
---@param role? string of a server that is no sentinel
---@param mode? string standalone
function Generation:hello(protocol, id, role, mode)
  local fields = {
    bulk "server", bulk(self.valkey and "valkey" or "redis"), bulk "version", bulk(self.version),
    bulk "proto", (":%d\r\n"):format(protocol), bulk "id", (":%d\r\n"):format(id),
    bulk "mode", bulk(mode or "standalone"),
  }
  if role then add(fields, "role", bulk(role)) end
  add(fields, "modules", self:_modules(protocol))
  if self.zone then add(fields, "availability_zone", bulk(self.zone)) end
  return map(protocol, fields)
end

-- errors --------------------------------------------------------------------------------------------------

--- It echoes its arguments, whatever they are.
function Generation:unknown_command(words)
  local quoted = {}
  for i = 2, #words do
    quoted[#quoted + 1] = (self.since < 7 and "`%s`, " or "'%s' "):format(words[i])
  end
  local text = self.since < 7 and "-ERR unknown command `%s`, with args beginning with: %s\r\n"
    or "-ERR unknown command '%s', with args beginning with: %s\r\n"
  return text:format(words[1], table.concat(quoted))
end

function Generation:unknown_subcommand(words)
  if self.since >= 7 then
    return ("-ERR unknown subcommand '%s'. Try %s HELP.\r\n"):format(words[2], words[1]:upper())
  end
  return ("-ERR Unknown subcommand or wrong number of arguments for '%s'. Try %s HELP%s\r\n")
    :format(words[2], words[1]:upper(), self.since < 6.2 and "" or ".")
end

function Generation:wrong_password()
  if self.since < 6 then return "-ERR invalid password\r\n" end
  if self.since < 6.2 then return "-WRONGPASS invalid username-password pair\r\n" end
  return "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
end

function Generation:needless_password()
  if self.since < 6 then return "-ERR Client sent AUTH, but no password is set\r\n" end
  return "-ERR AUTH <password> called without any password configured for the default user. "
    .. "Are you sure your configuration is correct?\r\n"
end

function Generation:hello_needs_password()
  return ("-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO %sAUTH <user> "
    .. "<pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n")
    :format(self.since < 7.2 and "" or "<proto> ")
end

--- `command` as ACLs write it: client|setinfo.
function Generation:no_permission(user, command)
  if self.since < 7 then
    return ("-NOPERM this user has no permissions to run the '%s' command or its subcommand\r\n")
      :format(command:match "^[^|]*")
  elseif self.since < 7.2 then
    return ("-NOPERM this user has no permissions to run the '%s' command\r\n"):format(command)
  end
  return ("-NOPERM User %s has no permissions to run the '%s' command\r\n"):format(user, command)
end

function Generation:loading()
  return ("-LOADING %s is loading the dataset in memory\r\n"):format(self.valkey and "Valkey" or "Redis")
end

function Generation:denied()
  return ("-DENIED %s in protected mode because protected mode is enabled and no password is set for the default "
    .. "user. In this mode connections are only accepted from the loopback interface.\r\n")
    :format(self.valkey and "Running" or "Redis is running")
end

M.NEEDS_PASSWORD = "-NOAUTH Authentication required.\r\n"
M.NO_DATABASE = "-ERR DB index is out of range\r\n"
M.NO_PROTOCOL = "-NOPROTO unsupported protocol version\r\n"
M.BAD_NAME = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
M.NO_ROOM = "-ERR max number of clients reached\r\n"
M.MASTER_IS_DOWN = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"

function M.wrong_number(command)
  return ("-ERR wrong number of arguments for '%s' command\r\n"):format(command)
end

return M
