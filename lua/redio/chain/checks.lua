-- SPDX-License-Identifier: MIT
-- Commands after which replies could not be told apart, if the server refused them: the connection is asked first.
-- Specs: regress/swallowed_auth, regress/refused_client_reply

local command = require "redio.command"
local core = require "redio.core"
local errors = require "redio.base.errors"
local task = require "redio.task"

local DONE, FAILED, LOST, OWN = core.DONE, core.FAILED, core.LOST, core.OWN

local M = {}

-- Sends a command that changes nothing, and waits. When it is answered, so is all that was sent before.
---@return boolean? ok
---@return table? err
local function probe(conn, name, ...)
  local pipeline = core.pipeline(true)
  core.encode(pipeline, command.find(name).core, ...)
  local slot = conn:submit(pipeline, OWN)
  if not slot then return nil, conn.lost or "not enough memory" end
  local token, failed = conn:wait()
  if token == DONE then return true end
  if token == LOST then return nil, conn.lost end
  if token == FAILED then return nil, errors.complete(failed[1], conn.address) end
  return nil, task.interrupted(token)
end

-- A CLIENT REPLY that the server refuses is answered where no answer is due, and each later reply would be taken for
-- another's. So before the first one the connection is asked whether it may.
local function may_mute(conn)
  local err
  if not conn.may_mute then conn.may_mute, err = probe(conn, "CLIENT REPLY", "ON") end
  return conn.may_mute, err
end

-- An AUTH that fails while other replies are due is not answered at all by servers of 7.2 to 8. So it is sent when none
-- is, not even of the login's last commands.
local function may_auth(conn)
  if conn:load() == 0 then return true end
  local ok, err = probe(conn, "PING")
  return ok or errors.is(err, "ReplyError"), err
end

--- True when a chain with such commands may be sent.
---@param conn redio.Connection
---@param mutes boolean it has a CLIENT REPLY
---@param auths boolean it has an AUTH
---@return boolean? ok
---@return any err
function M.may_send(conn, mutes, auths)
  local ok, err = true, nil
  if mutes then ok, err = may_mute(conn) end
  if ok and auths then ok, err = may_auth(conn) end
  return ok, err
end

return M
