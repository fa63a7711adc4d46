-- SPDX-License-Identifier: MIT
-- Error objects, for failures of the network and errors of the server. (Misuse raises a plain Lua error at the caller's
-- line.)

local core = require "redio.core"
local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"

local M = {}

-- kind -> the kind that it belongs to
local PARENT = {
  RedisError = false,

  ConnectionError = "RedisError",
  ConnectionClosedError = "ConnectionError",
  ConnectionForcedCloseError = "ConnectionClosedError",
  TimeoutError = "ConnectionError",

  ProtocolError = "RedisError",

  ReplyError = "RedisError",
  AskError = "ReplyError",
  AuthError = "ReplyError",
  BusyError = "ReplyError",
  BusyGroupError = "ReplyError",
  BusyKeyError = "ReplyError",
  ClusterDownError = "ReplyError",
  CrossSlotError = "ReplyError",
  ExecAbortError = "ReplyError",
  LoadingError = "ReplyError",
  MasterDownError = "ReplyError",
  MaxClientsError = "ReplyError",
  MisconfError = "ReplyError",
  MovedError = "ReplyError",
  NoGroupError = "ReplyError",
  NoPermissionError = "ReplyError",
  NoProtoError = "ReplyError",
  NoReplicasError = "ReplyError",
  NoScriptError = "ReplyError",
  OutOfMemoryError = "ReplyError",
  ProtectedModeError = "ReplyError",
  ReadOnlyError = "ReplyError",
  TryAgainError = "ReplyError",
  UnblockedError = "ReplyError",
  WrongTypeError = "ReplyError",

  WatchError = "RedisError",
  PoolClosedError = "RedisError",
  ChannelClosedError = "RedisError",
  CancelledError = "RedisError",
  OverflowError = "RedisError",
  MasterNotFoundError = "RedisError",
  ReplicaNotFoundError = "RedisError",
}

local BY_CODE = {
  ASK = "AskError",
  BUSY = "BusyError",
  BUSYGROUP = "BusyGroupError",
  BUSYKEY = "BusyKeyError",
  CLUSTERDOWN = "ClusterDownError",
  CROSSSLOT = "CrossSlotError",
  DENIED = "ProtectedModeError",
  ERR = "ReplyError",
  EXECABORT = "ExecAbortError",
  IOERR = "ReplyError",
  LOADING = "LoadingError",
  MASTERDOWN = "MasterDownError",
  MISCONF = "MisconfError",
  MOVED = "MovedError",
  NOAUTH = "AuthError",
  NOGROUP = "NoGroupError",
  NOPERM = "NoPermissionError",
  NOPROTO = "NoProtoError",
  NOREPLICAS = "NoReplicasError",
  NOSCRIPT = "NoScriptError",
  OOM = "OutOfMemoryError",
  READONLY = "ReadOnlyError",
  TRYAGAIN = "TryAgainError",
  UNBLOCKED = "UnblockedError",
  WRONGPASS = "AuthError",
  WRONGTYPE = "WrongTypeError",
}

-- Conditions without a code of their own.
local BY_MESSAGE = {
  { "^max number of clients", "MaxClientsError" },
  { "^invalid password", "AuthError" },
  { "^AUTH .*without any password configured", "AuthError" }, -- since 6
  { "^Client sent AUTH, but no password is set", "AuthError" }, -- before 6
}

local kinds = {}
for kind in pairs(PARENT) do
  M[kind] = kind
  kinds[#kinds + 1] = kind
end
table.sort(kinds)

-- A mistyped kind raises: with nil, `errors.is(e, errors.TimoutError)` would be true for every error.
setmetatable(M, {
  __index = function(_, name)
    if type(name) == "string" and name:find "Error$" then
      error("unknown kind of error " .. messages.quote(name) .. messages.did_you_mean(name, kinds), 2)
    end
  end,
})

local function check_kind(kind, level)
  if PARENT[kind] == nil then
    error("unknown kind of error " .. messages.quote(kind) .. messages.did_you_mean(kind, kinds), level + 1)
  end
end

--- The kind of an error reply.
---@param code? string the first word of the reply
---@param message? string the rest of it
---@return string
function M.kind_of(code, message)
  if code == nil then return "RedisError" end
  if code == "ERR" and message then
    for _, case in ipairs(BY_MESSAGE) do
      if message:find(case[1]) then return case[2] end
    end
  end
  return BY_CODE[code] or "ReplyError"
end

local LONGEST = 1000 -- bytes of a message that are shown. (The error of a script may have millions.)

-- "ERR syntax error": code and message, as the server sent them.
local function headline(err)
  local code, message = err.code, err.message
  local line = tostring(message or code or "")
  if code and code ~= message then line = code .. " " .. (message or "") end
  return #line > LONGEST and ("%s... (%d bytes)"):format(line:sub(1, LONGEST), #line) or line
end

local function command_of(err)
  local index, count = err.index, err.count
  if not index or count == 1 then return err.command end
  local place = count and ("command %d of %d"):format(index, count) or ("command %d"):format(index)
  return err.command and err.command .. ", " .. place or place
end

-- "LPUSH, command 2 of 3, localhost:6379; it may have been executed"
local function details(err)
  local parts = {}
  parts[#parts + 1] = command_of(err)
  parts[#parts + 1] = err.address
  if err.sent == "maybe" then parts[#parts + 1] = "it may have been executed" end
  return table.concat(parts, ", ")
end

local metatable = core.error_metatable
metatable.__name = "redio.error"
--- The metatable of error objects. Objects that the core builds from error replies have it too, and no `kind`.
M.metatable = metatable

function metatable.__index(err, name)
  if name == "kind" then return M.kind_of(rawget(err, "code"), rawget(err, "message")) end
end

function metatable.__tostring(err)
  local line = err.kind .. ": " .. headline(err)
  local more = details(err)
  if more ~= "" then line = line .. " (" .. more .. ")" end
  return messages.printable(line)
end

---@class redio.Error
---@field kind string one of the kinds
---@field message string the text; of an error reply, the part after the code
---@field code? string first word of an error reply
---@field command? string name of the command, never its arguments
---@field index? integer place of the command in the chain
---@field count? integer how many commands the chain had
---@field replies? table all results of the chain
---@field sent? "no"|"yes"|"maybe" whether the server may have executed it
---@field address? string the server's address

--- A new error object.
---@param kind string
---@param message string
---@param fields? table copied into the object
---@return redio.Error
M.new = lua_version.interpreted(function(kind, message, fields)
  check_kind(kind, 2)
  local err = {}
  for name, value in pairs(fields or {}) do
    err[name] = value
  end
  err.kind, err.message = kind, message
  return setmetatable(err, metatable)
end)

--- True when `value` is an error of redio. With `kind`, also true only for errors of that kind.
---@param value any
---@param kind? string raises when there is no such kind
---@return boolean
function M.is(value, kind)
  if kind ~= nil then check_kind(kind, 2) end
  if type(value) ~= "table" or getmetatable(value) ~= metatable then return false end
  if kind == nil then return true end
  local is = value.kind
  while is and is ~= kind do
    is = PARENT[is]
  end
  return is == kind
end

-- secrets -------------------------------------------------------------------------------------------------

-- Error texts of the server may repeat arguments: a server without HELLO repeats the password of HELLO ... AUTH.

-- Texts that repeat arguments of any command, and the same without them. (Errors that a script makes are not changed.)
local ECHOES = {
  { ",? with args beginning with:.*$", "" },
  { "^(No such key ').*(' or consumer group ').*'", "%1...%2...'" },
  { "^(No such consumer group ').*(' for key name ').*'", "%1...%2...'" },
  { "^(No such user ').*'", "%1...'" },
  { "^(Unknown client type ').*'", "%1...'" },
  { "^(Unknown node ).*", "%1..." },
  { "^(invalid longitude,latitude pair ).*", "%1..." },
}

-- For these commands only known texts are shown.
local SECRET = { ACL = true, AUTH = true, CONFIG = true, HELLO = true, MIGRATE = true }

local WITHHELD = "refused by the server; its words are withheld, for they may repeat a secret"

local KNOWN = {} -- texts that never repeat an argument
for _, known in ipairs {
  "AUTH <password> called without any password configured for the default user. "
    .. "Are you sure your configuration is correct?",
  "Authentication required.",
  "Client names cannot contain spaces, newlines or special characters.",
  "Client sent AUTH, but no password is set",
  "Permission denied",
  "Protocol version is not an integer or out of range",
  "Redis is loading the dataset in memory",
  "The 'default' user cannot be removed",
  "The server is running without a config file",
  "Usernames can't contain spaces or null characters",
  "Valkey is loading the dataset in memory",
  "You can't write against a read only replica.",
  "error or timeout connecting to the client",
  "error or timeout reading from target instance",
  "error or timeout reading to target instance",
  "error or timeout writing to target instance",
  "invalid password",
  "invalid username-password pair",
  "invalid username-password pair or user is disabled.",
  "max number of clients reached",
  "operation not permitted",
  "sorry this protocol version is not supported",
  "sorry, this protocol version is not supported",
  "syntax error",
  "unsupported protocol version",
  "value is not an integer or out of range",
  -- redio's own texts, from the tables below
  WITHHELD,
  "HELLO must be called with the client already authenticated",
  "Redis is busy running a script",
  "Redis is running in protected mode: it has no password, and serves its own machine only",
  "Valkey is busy running a script",
  "a rule of ACL SETUSER is wrong",
  "it is running in protected mode: it has no password, and serves its own machine only",
  "not configured to use an ACL file",
  "the target server refused it",
  "the user has no permission to run it",
  "unknown parameter, or wrong number of arguments",
  "unknown subcommand",
  "wrong argument",
  "wrong number of arguments",
} do
  KNOWN[known] = true
end

local REWORDED = { -- beginnings of texts that may repeat an argument -> redio's text for them
  { "^CONFIG SET failed", "wrong argument" },
  { "^Error in ACL SETUSER modifier", "a rule of ACL SETUSER is wrong" },
  { "^HELLO must be called with", "HELLO must be called with the client already authenticated" },
  { "^Invalid argument", "wrong argument" },
  { "^Redis is busy", "Redis is busy running a script" },
  {
    "^Running in protected mode", -- Valkey
    "it is running in protected mode: it has no password, and serves its own machine only",
  },
  {
    "^Redis is running in protected mode",
    "Redis is running in protected mode: it has no password, and serves its own machine only",
  },
  { "^Target instance replied with error", "the target server refused it" },
  { "^This instance is not configured to use an ACL file", "not configured to use an ACL file" }, -- Valkey
  { "^This Redis instance is not configured to use an ACL file", "not configured to use an ACL file" },
  { "^Unknown option or number of arguments", "unknown parameter, or wrong number of arguments" },
  { "^Unknown subcommand", "unknown subcommand" },
  { "^Unsupported CONFIG parameter", "unknown parameter, or wrong number of arguments" },
  { "^Valkey is busy", "Valkey is busy running a script" },
  { "^[Uu]ser .*has no permissions", "the user has no permission to run it" },
  { "^this user has no permissions", "the user has no permission to run it" },
  { "^unknown subcommand", "unknown subcommand" },
  { "^wrong number of arguments", "wrong number of arguments" },
}

local REASONS = { -- endings of those texts that are kept
  "Syntax error",
  "Unknown command or category name in ACL",
  "argument couldn't be parsed into an integer",
  "argument must be 'yes' or 'no'",
  "argument must be a memory value",
  "can't set immutable config",
  "can't set protected config",
  "duplicate parameter",
}
for _, beginning in ipairs { "wrong argument", "a rule of ACL SETUSER is wrong" } do
  for _, reason in ipairs(REASONS) do
    KNOWN[beginning .. ": " .. reason] = true
  end
end

local function reworded(message)
  for _, case in ipairs(REWORDED) do
    if message:find(case[1]) then
      for _, reason in ipairs(REASONS) do
        local words = case[2] .. ": " .. reason
        if KNOWN[words] and message:sub(-#reason) == reason then return words end
      end
      return case[2]
    end
  end
  return WITHHELD
end

local function scrub_secret(err, name)
  if not BY_CODE[err.code] then err.code = "ERR" end
  if err.message:find "^unknown command" then
    err.message = "unknown command '" .. name .. "'"
  elseif not KNOWN[err.message] then
    err.message = reworded(err.message)
  end
end

local function scrub(err)
  local name = tostring(err.command or ""):upper():match "^%S*"
  if SECRET[name] then return scrub_secret(err, name) end
  for _, echo in ipairs(ECHOES) do
    err.message = err.message:gsub(echo[1], echo[2])
  end
end

--- Completes an error reply that the core has built: sets `kind`, `sent` and `address`, and takes repeated arguments
--- out of the text. A second call changes nothing.
---@param err redio.Error
---@param address? string
---@return redio.Error
function M.complete(err, address)
  err.message = err.message or err.code or ""
  err.kind = M.kind_of(err.code, err.message)
  err.sent = "yes"
  err.address = address or err.address
  scrub(err)
  return err
end

return M
