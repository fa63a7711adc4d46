-- SPDX-License-Identifier: MIT
-- One chain's way over a connection and back: which connection it takes, what its wait may end with, and what
-- becomes of the connection afterwards.

local compat = require "redio.compat"
local core = require "redio.core"
local decode = require "redio.decode"
local errors = require "redio.errors"
local task = require "redio.task"

local DONE, FAILED, LOST = core.DONE, core.FAILED, core.LOST
local COLLECT, LIST, OWN = core.COLLECT, core.LIST, core.OWN
local recycle = core.recycle
local unpack = compat.unpack

local M = {}

-- Ends one exchange on a connection of the handle's own: keeps it while it has state, else gives it back.
local function leave_private(self, conn, pipeline, is_done_with)
  if self._greets then return recycle(pipeline) end
  local in_multi, watching, dirty, quits = pipeline:session()
  if quits then conn:close "it was told QUIT" end -- before the server does, which would be a loss
  self._busy = false
  if self._private_client or in_multi or watching or dirty then
    pipeline:settle()
    self.in_transaction = in_multi
    if self._conn ~= conn then self:_pin(conn, pipeline) end
    return
  end
  self:_unpin()
  self[1]._pool:release(conn, not (self._no_pool or is_done_with))
  recycle(pipeline)
end

--- The chain is over, and a connection of the handle's own is of no more use to it.
local function forsake(self, conn, pipeline)
  if conn and conn.exclusive then
    pipeline:reset()
    self._busy = false
    self[1]._pool:release(conn, false)
    if self._private_client then
      self.closed, self.in_transaction = true, false
      return -- it stays with the lost connection: every await from now on says so
    end
    self:_unpin()
  end
  if pipeline then recycle(pipeline) end
end

local function decoded(self, collected, n, places)
  local fn = self._fn
  if places > 0 then decode.places(collected[2], places, fn) end
  return collected[1], n
end

local function false_for_nil(self, n, ...)
  local list = { ... }
  local null = self[1].settings.null
  if null == nil then null = false end
  for i = 1, n do
    if list[i] == nil then list[i] = null end
  end
  return list
end

--- Completes the error replies of a chain; the first is the one to raise.
local function complete(client, failed, count, replies)
  for i = 1, #failed do
    failed[i].count = count
    errors.complete(failed[i], client.settings.address)
  end
  local first = failed[1]
  first.replies = replies
  return first
end

-- Whether a chain may be sent once more.
local function may_retry(self, pipeline, err, tries, sent)
  local client = self[1]
  if client.closed or self._conn or not pipeline then return false end
  if not sent then return client._backoff:may_retry_unsent(err, tries) end
  local _, is_readonly = pipeline:flags()
  return client._backoff:may_retry_sent(err, tries, is_readonly)
end

--- Each caller gets an error object of his own, that says whether his commands were sent.
local function error_of(cause, sent)
  return errors.new(cause.kind, cause.message, {
    address = cause.address, sent = sent and "maybe" or "no", code = cause.code, command = cause.command, cause = cause,
  })
end

local function has_list(mode)
  return mode % 8 >= COLLECT
end

-- Error replies are among the results.
local function with_errors(self, mode, failed, count, ...)
  if not has_list(mode) then
    error(complete(self[1], failed, count, false_for_nil(self, select("#", ...), ...)), 0)
  end
  local list = decoded(self, ...)
  local err = complete(self[1], failed, count, list)
  if mode % 16 >= LIST then return list end
  error(err, 0)
end

local function after_loss(self, conn, pipeline, mode, tries, err, sent, recovered)
  pipeline = pipeline or recovered
  if may_retry(self, pipeline, err, tries, sent) then return M.run(self, pipeline, mode, tries + 1) end
  forsake(self, conn, pipeline)
  error(error_of(err, sent), 0)
end

-- Cancelled, out of time, or resumed by a stranger.
local function interrupted(self, conn, pipeline, token)
  local reason = task.interrupted(token)
  if token ~= task.CANCEL then task.abandon_chain((coroutine.running())) end
  if conn and conn.exclusive then conn:close "its command was cancelled" end
  forsake(self, conn, pipeline)
  error(reason, 0)
end

-- Whether the connection is of no more use: it leads to a read-only replica, where the next one may find the master,
-- or the server is about to hang up on what it could not read.
local function is_done_with(failed)
  for i = 1, #failed do
    local err = failed[i]
    if err.code == "READONLY" or (err.code == "ERR" and (err.message or ""):find "^Protocol error") then return true end
  end
  return false
end

--- Everything but plain success: what the wait ended with instead. `conn` and `pipeline` are given where they are the
--- handle's own; those of the shared connection are the core's.
local function unhappy(self, conn, pipeline, mode, tries, token, ...)
  if token == FAILED then
    local done_with = is_done_with((...))
    if conn then
      leave_private(self, conn, pipeline, done_with)
    elseif done_with then
      self[1]:_leave_shared()
    end
    return with_errors(self, mode, ...)
  end
  if token == LOST then return after_loss(self, conn, pipeline, mode, tries, ...) end
  interrupted(self, conn, pipeline, token)
end
M.unhappy = unhappy

local function settle(self, conn, pipeline, mode, tries, token, ...)
  if token ~= DONE then return unhappy(self, conn, pipeline, mode, tries, token, ...) end
  if conn then leave_private(self, conn, pipeline) end
  if not has_list(mode) then return ... end
  local list, n = decoded(self, ...)
  if mode % 16 >= LIST then return list end
  return unpack(list, 1, n)
end

-- The connection for a chain: the handle's own, a private one, or the shared one; ready.
local function route(self, pipeline)
  local client = self[1]
  if self._conn then
    if self._conn.lost then return nil, self._conn.lost end
    return self._conn
  end
  if self.closed then return nil, errors.new("ConnectionClosedError", "this handle is closed") end
  if not client.settings.multiplex or self._private_client or self._no_pool or pipeline:flags() then
    local conn, err = client._pool:acquire()
    if conn and self._private_client then self:_pin(conn, pipeline) end
    return conn, err
  end
  return client:_shared_connection()
end

-- The chain will not be sent.
local function forget(self, pipeline)
  if self._own == pipeline then pipeline:reset() else recycle(pipeline) end
end

-- As `route`; who is cancelled while it waits for the connection leaves nothing behind.
local function connection_for(self, pipeline)
  local ok, conn, err = pcall(route, self, pipeline)
  if ok then return conn, err end
  forget(self, pipeline)
  error(conn, 0)
end

local function refused(why)
  if why == "results" then
    return "these are more results than a call can return: use replies(), which returns them as one list"
  end
  return "not enough memory"
end

local function patience(self, conn, pipeline)
  if not conn.exclusive then return end
  local usual = conn.settings.read_timeout
  local own = self._patience
  if not own then return conn.liveness:set_patience(usual) end
  self._patience = false
  local _, _, blocking = pipeline:flags()
  if not blocking then
    conn.liveness:set_patience(usual)
  elseif own == math.huge or not usual then
    conn.liveness:set_patience(false)
  else
    conn.liveness:set_patience(usual + own)
  end
end

-- No connection was to be had.
local function without_connection(self, pipeline, mode, tries, err)
  if may_retry(self, pipeline, err, tries, false) then return M.run(self, pipeline, mode, tries + 1) end
  forget(self, pipeline)
  if self._conn and not self._private_client then self:_unpin() end
  error(error_of(err, false), 0)
end

-- As `conn:submit`, but waits for room; nil when the connection is lost.
local function submit(self, conn, pipeline, mode, collected)
  while true do
    local slot, why = conn:submit(pipeline, mode, collected)
    if slot ~= nil or conn.lost then return slot end
    local ok, err = false, refused(why)
    if why == "full" then ok, err = pcall(conn.wait_room, conn) end
    if not ok then
      forsake(self, conn, pipeline)
      error(err, 0)
    end
  end
end

--- Sends the chain and waits; returns its results, or the list of them, as the mode says.
function M.run(self, pipeline, mode, tries)
  if task.cancelling > 0 then task.check_cancelled((coroutine.running())) end
  local conn, err = connection_for(self, pipeline)
  if not conn then return without_connection(self, pipeline, mode, tries, err) end
  local is_own = self._conn or conn.exclusive
  if conn.exclusive then
    self._busy = true
    patience(self, conn, pipeline)
  end
  local collected = has_list(mode) and { {}, {} } or false
  local slot = submit(self, conn, pipeline, is_own and mode + OWN or mode, collected)
  if slot == nil then return after_loss(self, is_own and conn, pipeline, mode, tries, conn.lost, false) end
  if slot == false then -- CLIENT REPLY OFF: nothing will come
    if is_own then leave_private(self, conn, pipeline) end
    return
  end
  if not is_own then return settle(self, nil, nil, mode, tries, conn:wait()) end
  return settle(self, conn, pipeline, mode, tries, conn:wait())
end

return M
