-- SPDX-License-Identifier: MIT
-- Every option: its type, how to read it from the query of a URL, and the names that other clients have for it. A wrong
-- option raises a string without a position. No message shows a value, as it may be a password in the wrong place.
-- Specs: unit/settings, unit/url

local core = require "redio.core"
local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"

local M = {}

local INT_MAX = 2 ^ 31 - 1 -- the server keeps a database number in a C int

local function fail(message, ...)
  error(message:format(...), 0)
end

-- A type has `expects`, for messages, and `check(value)` -> ok, value to keep. A type that can stand in a query has
-- `read(text)` -> value or nil. A type that may be a table of options has their types as `fields`.

local BOOLEANS = { ["true"] = true, yes = true, ["1"] = true, ["false"] = false, no = false, ["0"] = false }

local function read_boolean(word)
  return BOOLEANS[word:lower()]
end

local function read_number(word)
  if word:find "^%-?%d+$" or word:find "^%-?%d*%.%d+$" then -- (tonumber takes hex, and "inf" on LuaJIT)
    return tonumber(word)
  end
end

local function check_string(value)
  return type(value) == "string", value
end

local STRING = {
  expects = "a string",
  check = check_string,
  read = function(word)
    return word
  end,
}

local PLACE = {
  expects = "a string, not empty, without NUL",
  check = function(value)
    return type(value) == "string" and value ~= "" and not value:find("\0", 1, true), value
  end,
  read = STRING.read,
}

local SOCKET = {
  expects = PLACE.expects .. ", of at most " .. core.socket_path_max .. " bytes",
  check = function(value)
    local ok, kept = PLACE.check(value)
    return ok and #value <= core.socket_path_max, kept
  end,
  read = STRING.read,
}

local BOOLEAN = {
  expects = "true or false",
  check = function(value)
    return type(value) == "boolean", value
  end,
  read = read_boolean,
}

local FUNCTION = {
  expects = "a function",
  check = function(value)
    return type(value) == "function", value
  end,
}

local TABLE = {
  expects = "a table",
  check = function(value)
    return type(value) == "table", value
  end,
}

local function integer(lowest, highest, expects)
  return {
    expects = expects,
    check = function(value)
      local ok = lua_version.is_integer(value) and value >= lowest and value <= (highest or value)
      return ok, ok and math.floor(value) -- (2.0 becomes 2 on Lua 5.3 and later)
    end,
    read = read_number,
  }
end

-- Seconds. `zero` allows 0, and `off` allows false for "without".
local function duration(expects, zero, off)
  return {
    expects = expects,
    check = function(value)
      if value == false then return off, false end
      local ok = type(value) == "number" and value < math.huge and (value > 0 or zero and value == 0)
      return ok, value
    end,
    read = function(word)
      local value = read_number(word)
      if value == nil and off and (read_boolean(word) == false or word:lower() == "none") then return false end
      return value
    end,
  }
end

local function choice(words, expects)
  return {
    expects = expects,
    check = function(value)
      return words[value] ~= nil, words[value]
    end,
    read = function(word)
      return word
    end,
  }
end

-- One of two types. In a query it is read as the first.
local function either(one, other, expects)
  return {
    expects = expects,
    check = function(value)
      local ok, kept = one.check(value)
      if ok then return ok, kept end
      return other.check(value)
    end,
    read = one.read,
    fields = one.fields or other.fields,
  }
end

local function group(fields, expects)
  return {
    expects = expects,
    fields = fields,
    check = function()
      return false
    end,
  }
end

local TIMEOUT = duration("a positive number of seconds, or false for none", false, true)
local SECONDS = duration "a positive number of seconds"
local COUNT = integer(1, nil, "an integer, 1 or more")
local COUNT_OR_NONE = integer(0, nil, "an integer, 0 or more")

local DECODE = choice({
  none = "none",
  str = "str",
  auto = "auto",
  strdecode = "str",
  autodecode = "auto",
  [false] = "none",
}, "'none', 'str', 'auto' or a function")

local HEALTH = duration("a number of seconds, or false for none", true, true)

local OPTIONS = {
  username = STRING,
  password = STRING,
  database = integer(0, INT_MAX, "an integer, 0 or more"),
  client_name = STRING,
  protocol = integer(2, 3, "the number 2 or 3"),
  tls = either(
    BOOLEAN,
    group({
      ca = PLACE,
      cert = PLACE,
      key = PLACE,
      server_name = PLACE,
      verify = BOOLEAN,
      min_version = choice({ ["1.2"] = "1.2", ["1.3"] = "1.3" }, "'1.2' or '1.3'"),
    }),
    "true, false or a table of ca, cert, key, server_name, verify, min_version"
  ),
  connect_timeout = TIMEOUT,
  timeout = either(
    TIMEOUT,
    group { read = TIMEOUT, write = TIMEOUT },
    "a positive number of seconds, false for none, or a table of read and write"
  ),
  max_connections = COUNT,
  max_receivers = COUNT,
  min_connections = COUNT_OR_NONE,
  pool_timeout = duration("a number of seconds (0: do not wait), or false to wait for ever", true, true),
  multiplex = BOOLEAN,
  retry = either(
    BOOLEAN,
    group { max = COUNT_OR_NONE, base = SECONDS, cap = SECONDS },
    "true, false or a table of max, base and cap"
  ),
  health_check_interval = {
    expects = HEALTH.expects,
    check = function(value)
      local ok, kept = HEALTH.check(value)
      return ok, kept ~= 0 and kept -- (aioredis has 0 for "off")
    end,
    read = HEALTH.read,
  },
  decode = either(DECODE, FUNCTION, DECODE.expects),
  null = {
    expects = "a value",
    check = function(value)
      return true, value
    end,
  },
  json = {
    expects = "a table with the functions encode and decode",
    check = function(value)
      local ok = type(value) == "table" and type(value.encode) == "function" and type(value.decode) == "function"
      return ok, ok and { encode = value.encode, decode = value.decode }
    end,
  },
  on_connect = FUNCTION,
  queue_limit = COUNT,
  max_queued_bytes = COUNT,
  limits = group(
    { max_bulk = COUNT, max_elements = COUNT, max_line = COUNT, max_depth = COUNT },
    "a table of max_bulk, max_elements, max_line, max_depth"
  ),
  host = PLACE,
  port = integer(1, 65535, "an integer from 1 to 65535"),
  path = SOCKET,
  transport = TABLE,
}

--- The names of all options, sorted.
---@type string[]
M.names = {}
for name in pairs(OPTIONS) do
  M.names[#M.names + 1] = name
end
table.sort(M.names)

-- Names of aioredis 2 -> {option, or `tls.` and its field; type}
local ALIASES = {
  db = { "database", OPTIONS.database },
  socket_timeout = { "timeout", OPTIONS.timeout },
  socket_connect_timeout = { "connect_timeout", OPTIONS.connect_timeout },
  decode_responses = {
    "decode",
    {
      expects = BOOLEAN.expects,
      check = function(value)
        return type(value) == "boolean", value and "str" or "none"
      end,
      read = read_boolean,
    },
  },
  ssl_ca_certs = { "tls.ca", PLACE },
  ssl_certfile = { "tls.cert", PLACE },
  ssl_keyfile = { "tls.key", PLACE },
  ssl_cert_reqs = {
    "tls.verify",
    choice({ none = false, optional = true, required = true }, "'none', 'optional' or 'required'"),
  },
}

-- The type of an option and redio's name for it; nil when there is no such option.
local function find(name)
  local alias = ALIASES[name]
  if alias then return alias[2], alias[1] end
  return OPTIONS[name], name
end

local function unknown(name, names, prefix)
  fail("unknown option %s%s", messages.quote(prefix .. name), messages.did_you_mean(name, names))
end

local check

local function check_fields(name, value, fields)
  local names, kept = {}, {}
  for field in pairs(fields) do
    names[#names + 1] = field
  end
  for field, given in pairs(value) do
    local kind = fields[field]
    if not kind then unknown(tostring(field), names, name .. ".") end
    kept[field] = check(name .. "." .. field, given, kind)
  end
  return kept
end

-- Checks a value. Returns the value to keep, a copy if it is a table of options.
function check(name, value, kind)
  if kind.fields and type(value) == "table" then return check_fields(name, value, kind.fields) end
  local ok, kept = kind.check(value)
  if not ok then
    local got = value ~= value and "NaN" or type(value)
    local expected = kind.expects:find(got, 1, true) or got == "number" and kind.expects:find("integer", 1, true)
    fail("option %s must be %s%s", messages.quote(name), kind.expects, expected and "" or ", got " .. got)
  end
  return kept
end

--- Reads an option from a table. Returns redio's name for it (`tls.ca` for a field of `tls`) and the value to keep.
---@param name any
---@param value any
---@return string place, any value
function M.from_value(name, value)
  if type(name) ~= "string" then
    fail("the options are a table by name, like {timeout = 5}; got a key of type %s", type(name))
  end
  local kind, place = find(name)
  if not kind then unknown(name, M.names, "") end
  return place, check(name, value, kind)
end

--- Reads an option from the query of a URL.
---@param name string a name for which `knows` returns true
---@param word string
---@return string place, any value
function M.from_text(name, word)
  local kind, place = find(name)
  if not kind.read then
    fail("option %s cannot be given in a URL, only in the table of options", messages.quote(name))
  end
  local value = kind.read(word)
  local ok, kept = false, nil
  if value ~= nil then ok, kept = kind.check(value) end
  if not ok then fail("option %s must be %s", messages.quote(name), kind.expects) end
  return place, kept
end

--- True when there is an option of this name.
---@param name string
---@return boolean
function M.knows(name)
  return (find(name)) ~= nil
end

return M
