-- SPDX-License-Identifier: MIT
-- A handle's own connection: pinned while its session has state (MULTI, WATCH, SELECT ...), or for good. `handle.conn`
-- is the connection, `handle.session` the pipeline that follows its state.
-- Specs: promises/20, regress/undone_sessions, regress/selected_database

local core = require "redio.core"
local places = require "redio.chain.places"

local recycle = core.recycle
local CLIENT, PIPELINE, IS_SET = places.CLIENT, places.PIPELINE, places.IS_SET

local M = {}

--- The handle keeps the connection from now on.
---@param handle redio.Handle
---@param conn redio.Connection
---@param pipeline userdata
function M.pin(handle, conn, pipeline)
  handle.conn, handle.session, handle[IS_SET] = conn, pipeline, true
  conn.pinned = true -- its session is the handle's affair
  if not handle.greets then handle._guard = conn.home:guard(conn) end
end

--- The handle does not keep its connection any longer. Does nothing when it has none.
---@param handle redio.Handle
function M.unpin(handle)
  if not handle.conn then return end
  if handle._guard then handle._guard.held.conn = nil end
  handle.conn.pinned = false
  handle.conn, handle.session, handle._guard, handle[PIPELINE] = false, false, false, false
  handle[IS_SET] = handle.is_private or handle.unpooled
  handle.in_transaction = false
end

-- Which database the connection is in, by the SELECTs that were answered.
local function follow_database(handle, failed)
  local selects, refused = handle.selects, {}
  handle.selects = false
  for i = 1, failed and #failed or 0 do
    if failed[i].command == "SELECT" then refused[failed[i].index] = true end
  end
  for i = 1, #selects do
    if not refused[selects[i].at] then handle.db = selects[i].database end
  end
end

--- A chain on this connection was answered: keeps the connection while its session has state, else releases it.
---@param handle redio.Handle
---@param conn redio.Connection
---@param pipeline userdata of the chain
---@param is_useless boolean? not to be used again
---@param failed table[]? the error replies
function M.leave(handle, conn, pipeline, is_useless, failed)
  if handle.selects then follow_database(handle, failed) end
  local in_multi, watching, dirty, quits = pipeline:session()
  if quits then conn:close "it was told QUIT" end -- before the server does, which would be a loss
  if in_multi or watching or dirty or handle.is_private or handle.greets then
    pipeline:settle()
    handle.in_transaction = in_multi
    if handle.session ~= pipeline then M.pin(handle, conn, pipeline) end
    return
  end
  if handle.conn then M.unpin(handle) end
  conn.home:release(conn, not (handle.unpooled or is_useless))
  recycle(pipeline)
end

--- A chain on this connection has ended otherwise, and the connection is closed.
---@param handle redio.Handle
---@param conn redio.Connection
---@param pipeline userdata of the chain
function M.abandon(handle, conn, pipeline)
  pipeline:reset()
  conn.home:release(conn, false)
  if handle.is_private then
    -- the lost connection stays: each await from now on says so
    handle.closed, handle.in_transaction = true, false
    return
  end
  M.unpin(handle)
  recycle(pipeline)
end

--- Gives the connection back, if there is one. It undoes the state that its session has left, or closes the connection.
--- One that was the handle's for good is closed.
---@param handle redio.Handle
function M.close(handle)
  local conn, session = handle.conn, handle.session
  if not conn then return end
  M.unpin(handle)
  if handle.is_private then conn.home:release(conn, false) else conn.home:restore(conn, session) end
  handle[CLIENT].transport.flush()
end

--- Ends the handle of an on_connect; the connection goes on.
---@param handle redio.Handle
---@return boolean is_plain others can use the connection as its commands have left it
function M.detach(handle)
  local pipeline = handle.session
  handle:clear()
  local in_multi, watching, quits, muted, _
  if pipeline then in_multi, watching, _, quits, muted = pipeline:session() end
  handle.conn.pinned = false
  handle.conn, handle.session, handle.closed = false, false, true
  return not (in_multi or watching or quits or muted)
end

return M
