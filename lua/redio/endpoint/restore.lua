-- SPDX-License-Identifier: MIT
-- Takes back what a handle has left on its connection, where that can be done: then another may have it, and it need
-- not be closed.
-- Specs: promises/20, regress/undone_sessions

local command = require "redio.command"
local core = require "redio.core"
local task = require "redio.task"

local MODE = core.COLLECT + core.LIST + core.OWN

local M = {}

local function queue(pipeline, name, ...)
  return core.encode(pipeline, command.find(name).core, ...)
end

-- The commands that undo the session of the pipeline, in itself; false when there is more to undo than can be.
local function queue_all(pipeline, settings)
  local in_multi, watching, _, quits, muted = pipeline:session()
  local database, name, other = pipeline:leftovers()
  if other or quits or muted then return false end
  local ok = true
  if in_multi then ok = queue(pipeline, "DISCARD") elseif watching then ok = queue(pipeline, "UNWATCH") end
  if database then ok = ok and queue(pipeline, "SELECT", settings.database or 0) end
  if name then ok = ok and queue(pipeline, "CLIENT SETNAME", settings.client_name or "") end
  return ok
end

-- In a coroutine of its own.
local function run(conn, pipeline, done)
  local slot = conn:submit(pipeline, MODE, { {}, {} })
  done(slot and conn:wait() == core.DONE or false)
end

--- Starts it. In the end `done(ok)` is called: with true the session is as it was when the connection was new.
---@param conn redio.Connection with nothing in flight
---@param pipeline userdata that follows the session; whatever is queued in it is forgotten
---@param done fun(ok: boolean)
---@return boolean started false: it cannot be undone, and `done` is not called
function M.start(conn, pipeline, done)
  if conn.lost or not conn.ready or conn:load() > 0 then return false end
  pipeline:clear()
  if not queue_all(pipeline, conn.settings) or pipeline:count() == 0 then return false end
  task.resume(coroutine.create(run), conn, pipeline, done)
  return true
end

return M
