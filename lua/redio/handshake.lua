-- SPDX-License-Identifier: MIT
-- What is said before anyone else may speak: protocol, user, name, database. Each step fails closed.

local command = require "redio.command"
local compat = require "redio.compat"
local core = require "redio.core"
local errors = require "redio.errors"
local version = require "redio.version"

local M = {}

local OWN = core.OWN
local LIST = core.COLLECT + core.LIST + OWN

local function queue(pipeline, name, ...)
  core.encode(pipeline, command.find(name).core, ...)
end

local function results(conn, pipeline, list, token, failed)
  pipeline:reset()
  if token == core.LOST then error(conn.lost, 0) end
  for i = 1, token == core.FAILED and #failed or 0 do
    errors.complete(failed[i], conn.address)
  end
  return list
end

--- Sends the pipeline and waits: all results in a list, error replies in their places.
local function exchange(conn, pipeline)
  local list = {}
  conn:submit(pipeline, LIST, { list, {} })
  return results(conn, pipeline, list, conn:wait())
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

-- A server that has no HELLO, or will not let us use it, may still speak RESP2.
local function can_fall_back(err)
  local kind = err.kind
  return kind == "NoProtoError" or kind == "NoPermissionError" or (kind == "ReplyError" and err.code == "ERR")
end

--- Tells a server that keeps such notes (7.2) which library this is. Nobody waits for the answer.
local function introduce(conn, pipeline, server)
  local major, minor = tostring(type(server) == "table" and server.version):match "^(%d+)%.(%d+)"
  if not major or tonumber(major) * 100 + tonumber(minor) < 702 then return end
  queue(pipeline, "CLIENT SETINFO", "LIB-NAME", "redio")
  queue(pipeline, "CLIENT SETINFO", "LIB-VER", version)
  local slot = conn:submit(pipeline, OWN)
  conn:flush() -- what is dropped before it is written never is
  conn.core:drop(conn.waiters, slot)
  pipeline:reset()
end

local function hello(conn, pipeline, settings)
  local args = { "3" }
  if settings.password then
    args[2], args[3], args[4] = "AUTH", settings.username or "default", settings.password
  end
  if settings.client_name then
    args[#args + 1] = "SETNAME"
    args[#args + 1] = settings.client_name
  end
  queue(pipeline, "HELLO", compat.unpack(args))
  if settings.database and settings.database ~= 0 then queue(pipeline, "SELECT", settings.database) end
  local list = exchange(conn, pipeline)
  local err = errors.is(list[1]) and list[1]
  if err and can_fall_back(err) then return false end
  err = err or first_error(list)
  if err then refuse(err) end
  introduce(conn, pipeline, list[1])
  return true
end

local function is_old_auth(err)
  return err.message:find("wrong number of arguments", 1, true)
end

local function authenticate(conn, pipeline, settings)
  if not settings.password then return end
  if settings.username then
    queue(pipeline, "AUTH", settings.username, settings.password)
    local err = first_error(exchange(conn, pipeline))
    if not err then return end
    if not is_old_auth(err) then refuse(err) end
  end
  queue(pipeline, "AUTH", settings.password)
  local err = first_error(exchange(conn, pipeline))
  if err then refuse(err) end
end

local function plain(conn, pipeline, settings)
  authenticate(conn, pipeline, settings)
  if settings.client_name then queue(pipeline, "CLIENT SETNAME", settings.client_name) end
  if settings.database and settings.database ~= 0 then queue(pipeline, "SELECT", settings.database) end
  if pipeline:count() == 0 then return end
  local err = first_error(exchange(conn, pipeline))
  if err then refuse(err) end
end

--- Takes a connection from connected to ready; raises an error object when the server refuses.
function M.perform(conn)
  local settings, pipeline = conn.settings, core.pipeline()
  conn.protocol = settings.protocol
  if settings.protocol == 3 and not hello(conn, pipeline, settings) then conn.protocol = 2 end
  if conn.protocol == 2 then plain(conn, pipeline, settings) end
  if conn.hooks.on_connect then conn.hooks.on_connect(conn) end
end

return M
