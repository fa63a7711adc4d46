-- SPDX-License-Identifier: MIT
-- The login: protocol, user, name, database, on_connect, before any chain of a caller. Each step fails closed. It needs
-- `submit`, `flush` and `wait` of its connection, and so is the same for all drivers.
-- Specs: promises/11, promises/35, hosts/nginx/login, regress/swallowed_auth

local command = require "redio.command"
local core = require "redio.core"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local task = require "redio.task"
local version = require "redio.base.version"

local M = {}

local DONE, FAILED, OWN = core.DONE, core.FAILED, core.OWN
local LIST = core.COLLECT + core.LIST + OWN

local function queue(pipeline, name, ...)
  core.encode(pipeline, command.find(name).core, ...)
end

local function fail(conn, kind, message)
  error(errors.new(kind, message, { address = conn.address, sent = "no" }), 0)
end

--- Sends the pipeline and waits. Returns the results in a list, with error replies in their places; OK is true, or is
--- left out. Raises the reason when the connection is lost.
local function exchange(conn, pipeline)
  local list = {}
  local slot, why = conn:submit(pipeline, LIST, { list, {} })
  local token = slot and conn:wait()
  pipeline:reset()
  if conn.lost then error(conn.lost, 0) end
  if not slot then fail(conn, "ConnectionError", "the login cannot be sent: " .. tostring(why)) end
  if token ~= DONE and token ~= FAILED then error(task.interrupted(token), 0) end
  for i = 1, #list do
    if errors.is(list[i]) then errors.complete(list[i], conn.address) end
  end
  return list
end

--- The first error of a list of results.
local function first_error(list)
  for i = 1, #list do
    if errors.is(list[i]) then return list[i] end
  end
end

local function refuse(err)
  err.sent = "no" -- nothing of the caller's was
  error(err, 0)
end

-- A server without HELLO, or one that refuses it to this user, may still speak RESP2.
local function can_fall_back(err)
  local kind = err.kind
  return kind == "NoProtoError" or kind == "NoPermissionError" or (kind == "ReplyError" and err.code == "ERR")
end

local IN_BETWEEN = "is this a Redis server, and does nothing between here and there say anything of its own?"

-- Each command of the login is answered by OK or an error. Any other answer belongs to none of them, and would shift
-- all that follow.
local function check_silent(conn, list, from)
  for i = from, #list do
    if list[i] ~= true then
      fail(conn, "ProtocolError", "a command of the login was answered by something else than OK or an error: "
        .. IN_BETWEEN)
    end
  end
end

local function describe(answer)
  if answer == nil or answer == true then return "OK" end
  if type(answer) == "string" or type(answer) == "number" then return "a " .. type(answer) end
  if type(answer) ~= "table" then return "null" end
  return answer.proto == nil and "a list or map without 'proto'" or "a map with another 'proto'"
end

-- HELLO 3 is answered by a map with proto = 3. Any other answer is not HELLO's, or the server does not go on in RESP3.
local function check_hello(conn, answer)
  if type(answer) == "table" and answer.proto == 3 then return end
  fail(conn, "ProtocolError", ("HELLO 3 was answered by %s instead of a map with proto = 3: "
    .. IN_BETWEEN):format(describe(answer)))
end

--- Names the library to servers that note it (CLIENT SETINFO, from 7.2 on). Nothing waits for the answers, which are
--- dropped as they come, so it takes no round trip.
local function introduce(conn, pipeline, server)
  local major, minor = tostring(server.version):match "^(%d+)%.(%d+)"
  if not major or tonumber(major) * 100 + tonumber(minor) < 702 then return end
  queue(pipeline, "CLIENT SETINFO", "LIB-NAME", "redio")
  queue(pipeline, "CLIENT SETINFO", "LIB-VER", version)
  local slot = conn:submit(pipeline, OWN)
  conn:flush() -- (a chain that is dropped before it is written never is)
  pipeline:reset()
  if conn.lost then error(conn.lost, 0) end
  conn.core:drop(conn.waiters, slot)
end

local function hello(conn, pipeline, settings)
  local args = { "3" }
  if settings.password then args[2], args[3], args[4] = "AUTH", settings.username or "default", settings.password end
  if settings.client_name then
    args[#args + 1] = "SETNAME"
    args[#args + 1] = settings.client_name
  end
  queue(pipeline, "HELLO", lua_version.unpack(args))
  if settings.database and settings.database ~= 0 then queue(pipeline, "SELECT", settings.database) end
  local list = exchange(conn, pipeline)
  local err = errors.is(list[1]) and list[1]
  if err and can_fall_back(err) then return false end
  if not err then check_hello(conn, list[1]) end
  err = err or first_error(list)
  if err then refuse(err) end
  check_silent(conn, list, 2)
  introduce(conn, pipeline, list[1])
  return true
end

local function is_old_auth(err)
  return err.message:find("wrong number of arguments", 1, true)
end

-- Sends the pipeline, and raises the first error. Else every command was answered by OK.
local function succeed(conn, pipeline)
  local list = exchange(conn, pipeline)
  local err = first_error(list)
  if err then refuse(err) end
  check_silent(conn, list, 1)
end

local function authenticate(conn, pipeline, settings)
  if not settings.password then return end
  if settings.username then
    queue(pipeline, "AUTH", settings.username, settings.password)
    local list = exchange(conn, pipeline)
    local err = first_error(list)
    if not err then return check_silent(conn, list, 1) end
    if not is_old_auth(err) then refuse(err) end
  end
  queue(pipeline, "AUTH", settings.password)
  succeed(conn, pipeline)
end

local function plain(conn, pipeline, settings)
  authenticate(conn, pipeline, settings)
  if settings.client_name then queue(pipeline, "CLIENT SETNAME", settings.client_name) end
  if settings.database and settings.database ~= 0 then queue(pipeline, "SELECT", settings.database) end
  if pipeline:count() > 0 then succeed(conn, pipeline) end
end

--- Logs in on a connection with a connected socket. Raises an error object when the server refuses.
function M.perform(conn)
  local settings, pipeline = conn.settings, core.pipeline()
  conn.protocol = settings.protocol
  if settings.protocol == 3 and not hello(conn, pipeline, settings) then conn.protocol = 2 end
  if conn.protocol == 2 then plain(conn, pipeline, settings) end
  if conn.hooks.on_connect then conn.hooks.on_connect(conn) end
end

return M
