-- SPDX-License-Identifier: MIT
-- One chain's way over a connection and back: which connection it takes, what its wait may end with, and what
-- becomes of the connection afterwards.

local command = require "redio.command"
local core = require "redio.core"
local decode = require "redio.command.decode"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local task = require "redio.task"

local BUSY, DONE, FAILED, LOST = core.BUSY, core.DONE, core.FAILED, core.LOST
local COLLECT, LIST, OWN = core.COLLECT, core.LIST, core.OWN
local recycle = core.recycle
local unpack = lua_version.unpack

local M = {}

-- Where the handle's connection is, as far as it follows from the SELECTs that were answered.
local function follow_database(self, failed)
  local selects, refused = self._selects, {}
  self._selects = false
  for i = 1, failed and #failed or 0 do
    if failed[i].command == "SELECT" then refused[failed[i].index] = true end
  end
  for i = 1, #selects do
    if not refused[selects[i].at] then self.db = selects[i].database end
  end
end

-- Ends one exchange on a connection of the handle's own: keeps it while it has state, else gives it back.
local function leave_private(self, conn, pipeline, is_done_with, failed)
  if self._selects then follow_database(self, failed) end
  local in_multi, watching, dirty, quits = pipeline:session()
  if quits then conn:close "it was told QUIT" end -- before the server does, which would be a loss
  if self._private_client or self._greets or in_multi or watching or dirty then
    pipeline:settle()
    self.in_transaction = in_multi
    if self._own ~= pipeline then self:_pin(conn, pipeline) end
    return
  end
  self:_unpin()
  conn.home:release(conn, not (self._no_pool or is_done_with))
  recycle(pipeline)
end

--- The chain is over, and a connection of the handle's own is of no more use to it.
local function forsake(self, conn, pipeline)
  self[2] = false
  if conn and conn.exclusive then
    pipeline:reset()
    conn.home:release(conn, false)
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

local function fill_holes(self, list, n)
  local null = self[1].settings.null
  if null == nil then null = false end
  for i = 1, n do
    if list[i] == nil then list[i] = null end
  end
  return list
end

-- Whether a chain may be sent once more.
local function may_retry(self, pipeline, err, tries, sent)
  local client = self[1]
  if client.closed or self._conn or not pipeline then return false end
  local backoff = client.topology:pick().backoff
  if not sent then return backoff:may_retry_unsent(err, tries) end
  local _, is_readonly = pipeline:flags()
  return backoff:may_retry_sent(err, tries, is_readonly)
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

local TOO_MANY = "these are more results than a call can return: use replies(), which returns them as one list"

-- Error replies are among the results, or there are too many of these.
local function with_errors(self, mode, failed, list)
  local n = failed.values
  if has_list(mode) then list = decoded(self, list, n, failed.places) else fill_holes(self, list, n) end
  if mode % 16 >= LIST then return list end
  local first = failed[1]
  if not first then error(TOO_MANY, 0) end
  first.replies = list
  error(first, 0)
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
  if conn and conn.exclusive then conn:close "its command was cancelled" end
  forsake(self, conn, pipeline)
  error(reason, 0)
end

-- An EXEC or DISCARD that the server refuses leaves MULTI open, or none was: then the commands between were not
-- executed as one. (EXECABORT has ended it.)
local function leaves_multi_open(err)
  return (err.command == "EXEC" or err.command == "DISCARD") and err.code ~= "EXECABORT"
end

-- Of what use the connection is after these error replies: nil, all as before; LEAVE, the next chain takes another, for
-- the server is about to hang up on what it could not read, or is a read-only replica where another connection may find
-- the master; BROKEN, nothing that comes on it can be trusted.
local LEAVE, BROKEN = 1, 2

local function usefulness(client, from, failed)
  local is_replica, use = false, nil
  for i = 1, #failed do
    local err = failed[i]
    if leaves_multi_open(err) then return BROKEN end
    is_replica = is_replica or err.code == "READONLY"
    if err.code == "ERR" and (err.message or ""):find "^Protocol error" then use = LEAVE end
  end
  if is_replica and not from.retiring and client.topology:suspect(from.home, "READONLY") then use = LEAVE end
  return use
end

local function break_off(from)
  from:fail(errors.new("ProtocolError", "the server has refused EXEC or DISCARD: its MULTI may still be open",
    { address = from.address }))
end

-- Error replies have come. `conn` is the handle's own connection, `from` the one they came by.
local function refused(self, conn, pipeline, mode, failed, list)
  local from, client = failed.waiters.connection, self[1]
  for i = 1, #failed do
    failed[i].count = failed.count
    errors.complete(failed[i], from.address)
  end
  local use = usefulness(client, from, failed)
  if use == BROKEN then break_off(from) end
  if conn then
    leave_private(self, conn, pipeline, use, failed)
  elseif use == LEAVE then
    from.home:leave(from)
  end
  return with_errors(self, mode, failed, list)
end

--- Everything but plain success: what the wait ended with instead. `conn` and `pipeline` are given where they are the
--- handle's own; those of the shared connection are the core's.
local function unhappy(self, conn, pipeline, mode, tries, token, ...)
  if token == FAILED then return refused(self, conn, pipeline, mode, ...) end
  if token == LOST then return after_loss(self, conn, pipeline, mode, tries, ...) end
  interrupted(self, conn, pipeline, token)
end
M.unhappy = unhappy

local function settle(self, conn, pipeline, mode, tries, token, ...)
  self[2] = false
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
    local conn, err = client.topology:pick():acquire(client)
    if conn and self._private_client then self:_pin(conn, pipeline) end
    return conn, err
  end
  return client.topology:pick():shared(client)
end

-- The chain will not be sent.
local function forget(self, pipeline)
  self[2] = false
  if self._own == pipeline then pipeline:reset() else recycle(pipeline) end
end

-- As `route`; who is cancelled while it waits for the connection leaves nothing behind.
local function connection_for(self, pipeline)
  local ok, conn, err = pcall(route, self, pipeline)
  if ok then return conn, err end
  forget(self, pipeline)
  error(conn, 0)
end

local function no_submission(why)
  return why == "results" and TOO_MANY or "not enough memory"
end

local function patience(self, conn, pipeline)
  if not conn.exclusive then return end
  local usual = conn.settings.read_timeout
  local own = self._patience
  if not own then return conn:within(usual) end
  self._patience = false
  local _, _, blocking = pipeline:flags()
  if not blocking then
    conn:within(usual)
  elseif own == math.huge or not usual then
    conn:within(false)
  else
    conn:within(usual + own)
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
    local ok, err = false, no_submission(why)
    if why == "full" then ok, err = pcall(conn.wait_room, conn) end
    if not ok then
      forsake(self, conn, pipeline)
      error(err, 0)
    end
  end
end

-- Sends a command that changes nothing, and waits: when it is answered, so is all that was sent before.
---@return boolean? ok
---@return table? err
local function probe(conn, name, ...)
  local pipeline = core.pipeline(true)
  core.encode(pipeline, command.find(name).core, ...)
  local slot, why = conn:submit(pipeline, OWN)
  if not slot then return nil, conn.lost or no_submission(why) end
  local token, failed = conn:wait()
  if token == DONE then return true end
  if token == LOST then return nil, conn.lost end
  if token == FAILED then return nil, errors.complete(failed[1], conn.address) end
  return nil, task.interrupted(token)
end

-- A CLIENT REPLY that the server refuses is answered where no answer is due, and every reply after it would be taken
-- for another's. So before the first one a connection is asked whether it may.
local function may_mute(conn)
  local err
  if not conn.may_mute then conn.may_mute, err = probe(conn, "CLIENT REPLY", "ON") end
  return conn.may_mute, err
end

-- An AUTH that fails while other replies wait is not answered at all by servers of 7.2 to 8. So it leaves when nothing
-- is due, not even what the login asked for without waiting.
local function may_auth(conn)
  if conn:load() == 0 then return true end
  local ok, err = probe(conn, "PING")
  return ok or errors.is(err, "ReplyError"), err
end

-- Whether the chain may go where it is to go; raises when not.
local function check_chain(self, conn, pipeline)
  local _, _, _, mutes, auths = pipeline:flags()
  local ok, err = true, nil
  if mutes then ok, err = may_mute(conn) end
  if ok and auths then ok, err = may_auth(conn) end
  if ok then return end
  forsake(self, conn, pipeline)
  error(err, 0)
end

--- Sends the chain and waits; returns its results, or the list of them, as the mode says.
function M.run(self, pipeline, mode, tries)
  if task.cancelling > 0 then task.check_cancelled() end
  self[2] = BUSY
  local conn, err = connection_for(self, pipeline)
  if not conn then return without_connection(self, pipeline, mode, tries, err) end
  local is_own = self._conn or conn.exclusive
  if conn.exclusive then patience(self, conn, pipeline) end
  if is_own then check_chain(self, conn, pipeline) end
  local collected = has_list(mode) and { {}, {} } or false
  local slot = submit(self, conn, pipeline, is_own and mode + OWN or mode, collected)
  if slot == nil then return after_loss(self, is_own and conn, pipeline, mode, tries, conn.lost, false) end
  if slot == false then -- CLIENT REPLY OFF: nothing will come
    self[2] = false
    if is_own then leave_private(self, conn, pipeline) end
    return
  end
  if not is_own then return settle(self, nil, nil, mode, tries, conn:wait()) end
  return settle(self, conn, pipeline, mode, tries, conn:wait())
end

return M
