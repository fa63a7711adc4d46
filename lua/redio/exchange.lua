-- SPDX-License-Identifier: MIT
-- One chain's way over a connection and back: which connection it takes, what its wait may end with, and what
-- becomes of the connection afterwards.

local compat = require "redio.compat"
local connection = require "redio.connection"
local core = require "redio.core"
local decode = require "redio.decode"
local errors = require "redio.errors"
local pipelines = require "redio.pipelines"
local task = require "redio.task"

local DONE, FAILED, LOST = core.DONE, core.FAILED, core.LOST
local COLLECT, LIST, OWN = connection.COLLECT, connection.LIST, connection.OWN
local yield = coroutine.yield
local recycle = pipelines.recycle
local tasks, unpack = task.tasks, compat.unpack

local M = {}

-- Ends one exchange on a connection of the handle's own: keeps it while it has state, else gives it back.
local function leave_private(self, conn, pipeline)
  local in_multi, watching, dirty = pipeline:session()
  self._busy = false
  pipeline:settle()
  if self._private_client or in_multi or watching or dirty then
    self.in_transaction = in_multi
    if self._conn ~= conn then self:_pin(conn, pipeline) end
    return
  end
  self:_unpin()
  self._client._pool:release(conn, not self._no_pool)
  recycle(pipeline)
end

local function leave(self, conn, pipeline)
  if conn.exclusive then return leave_private(self, conn, pipeline) end
  recycle(pipeline)
end

--- The connection is of no more use to this handle.
local function forsake(self, conn, pipeline)
  pipeline:reset()
  if conn.exclusive then
    self._busy = false
    self._client._pool:release(conn, false)
    if self._private_client then
      self.closed, self.in_transaction = true, false
      return -- it stays with the lost connection: every await from now on says so
    end
    self:_unpin()
  end
  recycle(pipeline)
end

local function decoded(self, collected, n, places)
  local fn = self._fn
  if places > 0 then decode.places(collected[2], places, fn) end
  return collected[1], n
end

local function false_for_nil(self, n, ...)
  local list = { ... }
  local null = self._client.settings.null
  if null == nil then null = false end
  for i = 1, n do
    if list[i] == nil then list[i] = null end
  end
  return list
end

--- Completes the error replies of a chain; the first is the one to raise.
local function complete(conn, pipeline, failed, replies)
  local count = pipeline:sent()
  for i = 1, #failed do
    failed[i].count = count
    errors.complete(failed[i], conn.address)
  end
  if failed[1].kind == "ReadOnlyError" then conn.stale = true end
  failed[1].replies = replies
  return failed[1]
end

-- Whether a chain may be sent once more.
local function may_retry(self, pipeline, err, tries, sent)
  local client = self._client
  if client.closed or self._conn then return false end
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

-- Everything but success: what the wait ended with instead.
local function unhappy(self, conn, pipeline, mode, tries, slot, token, ...)
  if token == FAILED then
    local failed, first, n, places = ...
    if mode >= COLLECT and mode % 8 >= COLLECT then
      local list = decoded(self, first, n, places)
      local err = complete(conn, pipeline, failed, list)
      leave(self, conn, pipeline)
      if mode % 16 >= LIST then return list end
      error(err, 0)
    end
    local err = complete(conn, pipeline, failed, false_for_nil(self, select("#", ...) - 1, select(2, ...)))
    leave(self, conn, pipeline)
    error(err, 0)
  end
  if token == LOST then
    local sent = ...
    if may_retry(self, pipeline, conn.lost, tries, sent) then return M.run(self, pipeline, mode, tries + 1) end
    local err = error_of(conn.lost, sent)
    forsake(self, conn, pipeline)
    error(err, 0)
  end
  -- cancelled, out of time, or resumed by a stranger
  local reason = task.interrupted(token)
  if token ~= task.CANCEL then conn:abandon(slot) end
  if errors.is(reason, "TimeoutError") and reason.stage then
    reason.message = ("no reply within %g s (timeout)"):format(reason.stage)
    reason.sent = "maybe"
  end
  if conn.exclusive then conn:close "its command was cancelled" end
  forsake(self, conn, pipeline)
  error(reason, 0)
end

--- What became of a chain that was submitted and waited for.
local function settle(self, conn, pipeline, mode, tries, slot, token, ...)
  if token ~= DONE then return unhappy(self, conn, pipeline, mode, tries, slot, token, ...) end
  if mode % 8 >= COLLECT then
    local list, n = decoded(self, ...)
    leave(self, conn, pipeline)
    if mode % 16 >= LIST then return list end
    return unpack(list, 1, n)
  end
  leave(self, conn, pipeline)
  return ...
end

--- Marks where the coroutine waits, so that its task can be cancelled there.
local function mark(co, conn, slot)
  local record = tasks[co]
  if record then
    record._conn, record._slot = conn, slot
  end
end

-- The connection for a chain: the handle's own, a private one, or the shared one; ready.
local function route(self, pipeline)
  local client = self._client
  local is_private = self._private_client or self._no_pool or pipeline:flags()
  if self._conn then
    if self._conn.lost then return nil, self._conn.lost end
    return self._conn
  end
  if self.closed then return nil, errors.new("ConnectionClosedError", "this handle is closed") end
  if is_private or not client.settings.multiplex then
    local conn, err = client._pool:acquire()
    if conn and self._private_client then self:_pin(conn, pipeline) end
    return conn, err
  end
  return client:_shared_connection()
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
  self._patience = false
  local _, _, blocking = pipeline:flags()
  if not blocking then
    conn.liveness:set_patience(usual)
  elseif own == math.huge or not usual then
    conn.liveness:set_patience(false)
  else
    conn.liveness:set_patience(usual + (own or 0))
  end
end

--- Sends the chain and waits; returns its results, or the list of them, as the mode says.
function M.run(self, pipeline, mode, tries)
  if task.cancelling > 0 then task.check_cancelled((coroutine.running())) end
  local conn, err = route(self, pipeline)
  if not conn then
    if may_retry(self, pipeline, err, tries, false) then return M.run(self, pipeline, mode, tries + 1) end
    pipeline:reset()
    if self._own ~= pipeline then recycle(pipeline) end
    if self._conn and not self._private_client then self:_unpin() end
    error(error_of(err, false), 0)
  end
  if conn.exclusive then
    self._busy = true
    patience(self, conn, pipeline)
  end
  local slot, co = conn:submit(pipeline, (self._conn or conn.exclusive) and mode + OWN or mode)
  if slot == nil then
    if co == "full" then
      conn:wait_room()
      return M.run(self, pipeline, mode, tries)
    end
    forsake(self, conn, pipeline)
    error(refused(co), 0)
  end
  if slot == false then -- CLIENT REPLY OFF: nothing will come
    leave(self, conn, pipeline)
    return
  end
  if mode >= COLLECT and mode % 8 >= COLLECT then conn.waiters[2 * slot + 2] = { {}, {} } end
  mark(co, conn, slot)
  return settle(self, conn, pipeline, mode, tries, slot, yield())
end

M.settle = settle

return M
