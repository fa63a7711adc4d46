-- SPDX-License-Identifier: MIT
-- One chain over one connection: which connection it takes, how it is sent, what its wait may end with, and the next
-- attempt.
--
-- A chain of plain commands does not come here, but for its errors: core.send submits it to the shared connection.
-- Specs: client/handle, promises/05, promises/07, client/server_conditions

local checks = require "redio.chain.checks"
local connection = require "redio.connection"
local core = require "redio.core"
local decode = require "redio.command.decode"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local places = require "redio.chain.places"
local session = require "redio.chain.session"
local task = require "redio.task"

local BUSY, DONE, FAILED, LOST = core.BUSY, core.DONE, core.FAILED, core.LOST
local TEXT, PLACES, COLLECT, LIST, OWN = core.TEXT, core.PLACES, core.COLLECT, core.LIST, core.OWN
local CLIENT, PIPELINE, WAITERS = places.CLIENT, places.PIPELINE, places.WAITERS
local recycle = core.recycle
local unpack = lua_version.unpack

local M = {}

---@class redio.Chain
---@field handle redio.Handle
---@field pipeline userdata|false the commands; false while the core alone has them
---@field mode integer how the core is to give the results
---@field decoder function|false for values that the core cannot decode
---@field as_list boolean the results are to be one list
---@field collected table|false {results, places}: the core collects the results there
---@field tries integer attempts before this one
---@field overdue table|false the error of the chain's deadline
---@field home redio.Endpoint|false the endpoint that was picked for it
---@field conn redio.Connection|false the connection that it has for itself; false: it shares one
local Chain = {}
Chain.__index = Chain

-- how it ends ---------------------------------------------------------------------------------------------

-- The chain is over, and a connection that it had for itself is closed.
function Chain:_abandon()
  local handle, conn, pipeline = self.handle, self.conn, self.pipeline
  handle[PIPELINE] = false
  if conn and conn.exclusive then return session.abandon(handle, conn, pipeline) end
  if pipeline then recycle(pipeline) end
end

-- The chain is over, and was not sent.
function Chain:_forget()
  local handle, pipeline = self.handle, self.pipeline
  handle[PIPELINE] = false
  if handle.session == pipeline then pipeline:reset() else recycle(pipeline) end
end

-- Each chain gets an error object of its own, with what is known of its commands: whether they were sent.
local function error_of(cause, sent)
  return errors.new(cause.kind, cause.message, {
    address = cause.address, sent = sent and "maybe" or "no", code = cause.code, command = cause.command, cause = cause,
  })
end

-- True when the chain may be sent once more. One on the handle's own connection may not: another has not its session.
function Chain:_may_retry(err, sent)
  local home, pipeline, handle = self.home, self.pipeline, self.handle
  if not home or not pipeline or handle.conn or handle[CLIENT].closed then return false end
  if not sent then return home.backoff:may_retry_unsent(err, self.tries) end
  local _, is_readonly = pipeline:flags()
  return home.backoff:may_retry_sent(err, self.tries, is_readonly)
end

function Chain:_retry()
  self.tries, self.conn = self.tries + 1, false
  return self:_attempt()
end

-- The connection is lost. `recovered`: the chain's commands, where the core alone had them and still has.
function Chain:_lost(err, sent, recovered)
  self.pipeline = self.pipeline or recovered or false
  if self:_may_retry(err, sent) then return self:_retry() end
  self:_abandon()
  error(error_of(err, sent), 0)
end

-- No connection was to be had.
function Chain:_without_connection(err)
  if self:_may_retry(err, false) then return self:_retry() end
  self:_forget()
  local handle = self.handle
  if not handle.is_private then session.unpin(handle) end
  error(error_of(err, false), 0)
end

-- Cancelled, out of time, or resumed by foreign code.
function Chain:_interrupted(token)
  local conn, reason = self.conn, task.interrupted(token)
  if conn and conn.exclusive then conn:close "its command was cancelled" end
  self:_abandon()
  error(reason, 0)
end

-- results -------------------------------------------------------------------------------------------------

local TOO_MANY = "these are more results than a call can return: use replies(), which returns them as one list"

-- The collected results as a list, and their number.
function Chain:_decoded(collected, n, count)
  if count > 0 then decode.places(collected[2], count, self.decoder) end
  return collected[1], n
end

local function fill_holes(handle, list, n)
  local null = handle[CLIENT].settings.null
  if null == nil then null = false end
  for i = 1, n do
    if list[i] == nil then list[i] = null end
  end
  return list
end

-- The results, where error replies are among them, or more values than a call can return.
function Chain:_with_errors(failed, list)
  local n = failed.values
  if self.collected then list = self:_decoded(list, n, failed.places) else fill_holes(self.handle, list, n) end
  if self.as_list then return list end
  local first = failed[1]
  if not first then error(TOO_MANY, 0) end
  first.replies = list
  error(first, 0)
end

-- error replies -------------------------------------------------------------------------------------------

-- An EXEC or DISCARD that the server refuses leaves MULTI open, or none was: then the commands between were not
-- executed as one. (EXECABORT has ended it.)
local function leaves_multi_open(err)
  return (err.command == "EXEC" or err.command == "DISCARD") and err.code ~= "EXECABORT"
end

-- The server is about to hang up on what it could not read.
local function is_protocol_error(err)
  return err.code == "ERR" and (err.message or ""):find "^Protocol error" ~= nil
end

-- No reply on this connection can be trusted any more.
local function break_off(conn)
  conn:fail(errors.new("ProtocolError", "the server has refused EXEC or DISCARD: its MULTI may still be open",
    { address = conn.address }))
end

-- True when the connection is of no more use after these error replies. Where the server is a read-only replica,
-- another connection may find the master.
local function is_useless(client, conn, failed)
  local is_replica, leave = false, false
  for i = 1, #failed do
    local err = failed[i]
    if leaves_multi_open(err) then
      break_off(conn)
      return true
    end
    is_replica = is_replica or err.code == "READONLY"
    leave = leave or is_protocol_error(err)
  end
  return is_replica and not conn.retiring and client.topology:suspect(conn.home, "READONLY") or leave
end

function Chain:_refused(failed, list)
  local from, handle = failed.waiters.connection, self.handle
  for i = 1, #failed do
    failed[i].count = failed.count
    errors.complete(failed[i], from.address)
  end
  local useless = is_useless(handle[CLIENT], from, failed)
  if self.conn then
    session.leave(handle, self.conn, self.pipeline, useless, failed)
  elseif useless then
    from.home:leave(from)
  end
  return self:_with_errors(failed, list)
end

-- outcomes ------------------------------------------------------------------------------------------------

-- Every outcome but success.
function Chain:_unhappy(token, ...)
  if token == FAILED then return self:_refused(...) end
  if token == LOST then return self:_lost(...) end
  self:_interrupted(token)
end

function Chain:_settle(token, ...)
  local handle, conn = self.handle, self.conn
  handle[PIPELINE] = false
  if token ~= DONE then return self:_unhappy(token, ...) end
  if conn then session.leave(handle, conn, self.pipeline) end
  if not self.collected then return ... end
  local list, n = self:_decoded(...)
  if self.as_list then return list end
  return unpack(list, 1, n)
end

-- No reply will come: CLIENT REPLY OFF.
function Chain:_unanswered()
  self.handle[PIPELINE] = false
  if self.conn then session.leave(self.handle, self.conn, self.pipeline) end
end

-- sending -------------------------------------------------------------------------------------------------

-- The connection for the chain, ready: the handle's own, a private one, or the shared one.
function Chain:_route(is_private, is_readonly)
  local handle = self.handle
  local client, conn = handle[CLIENT], handle.conn
  if conn then return not conn.lost and conn, conn.lost end
  if handle.closed then return nil, errors.new("ConnectionClosedError", "this handle is closed") end
  local home, err = client.topology:pick(nil, is_readonly)
  if not home then return nil, err end
  self.home = home
  if not (is_private or handle.is_private or handle.unpooled) and client.settings.multiplex then
    return home:shared(client)
  end
  conn, err = home:acquire(client)
  if conn and handle.is_private then session.pin(handle, conn, self.pipeline) end
  return conn, err
end

-- How long a reply may take: a blocking command may take its own time beside. (A connection comes out of the pool with
-- the usual limit.)
local function limit(handle, conn, blocks)
  local usual, own = conn.settings.read_timeout, handle.allowance
  handle.allowance = false
  if blocks and own then usual = usual and own < math.huge and usual + own end
  conn:within(usual)
end

local function no_submission(why)
  return why == "results" and TOO_MANY or "not enough memory"
end

-- Submits where that was refused, while the connection takes chains: waits for room, and tries again.
function Chain:_submit_again(conn, mode, why)
  local slot
  while slot == nil and not conn.lost and not conn.retiring do
    local ok, err = false, no_submission(why)
    if why == "full" then ok, err = pcall(conn.wait_room, conn) end
    if not ok then
      self:_abandon()
      error(err, 0)
    end
    slot, why = conn:submit(self.pipeline, mode, self.collected)
  end
  return slot
end

-- Asks the connection before commands after which replies could not be told apart.
function Chain:_check(conn, mutes, auths)
  local ok, err = checks.may_send(conn, mutes, auths)
  if ok then return end
  self:_abandon()
  error(err, 0)
end

function Chain:_attempt()
  if task.cancelling > 0 then task.check_cancelled() end
  local handle, mode = self.handle, self.mode
  handle[PIPELINE] = BUSY
  local is_private, is_readonly, blocks, mutes, auths = self.pipeline:flags()
  local ok, conn, err = pcall(self._route, self, is_private, is_readonly)
  if not ok then -- interrupted while it waited for the connection
    self:_forget()
    error(conn, 0)
  end
  if not conn then return self:_without_connection(err) end
  if self.overdue then self.overdue.address = conn.address end
  if handle.conn or conn.exclusive then
    self.conn, mode = conn, mode + OWN
    if conn.exclusive and (handle.conn or handle.allowance) then limit(handle, conn, blocks) end
    if mutes or auths then self:_check(conn, mutes, auths) end
  end
  self.collected = (self.as_list or self.decoder) and { {}, {} } or false
  local slot, why = conn:submit(self.pipeline, mode, self.collected)
  if slot == nil and not conn.lost then slot = self:_submit_again(conn, mode, why) end
  if slot == nil and conn.retiring then return self:_attempt() end -- over another one
  if slot == nil then return self:_lost(conn.lost, false) end
  if slot == false then return self:_unanswered() end
  if not self.conn then self.pipeline = false end
  return self:_settle(conn:wait())
end

-- for handles ---------------------------------------------------------------------------------------------

-- The bits of the mode by which values are decoded, and the decoder where it is not the core.
local function decoding(client, how, as_list)
  if how == "str" then return TEXT, false end
  return as_list and PLACES or PLACES + COLLECT, decode.of_mode(how, client.json_decode)
end

--- Sends a chain and waits for its results.
---@param handle redio.Handle
---@param pipeline userdata
---@param how string|function how values are decoded
---@param as_list boolean
---@param overdue table|false the error of a deadline
---@return any ... the results, or a list of them
function M.run(handle, pipeline, how, as_list, overdue)
  local mode, decoder = 0, false
  if how ~= "none" then mode, decoder = decoding(handle[CLIENT], how, as_list) end
  if as_list then mode = mode + COLLECT + LIST end
  return setmetatable({
    handle = handle, pipeline = pipeline, mode = mode, decoder = decoder, as_list = as_list, collected = false,
    tries = 0, overdue = overdue, home = false, conn = false,
  }, Chain):_attempt()
end

-- Completes the error of a deadline: how far the chain had come.
local function name_stage(err, stage)
  if stage == connection.READING or stage == connection.WRITING then err.sent = "maybe" end
  if stage == connection.READING then return end
  local has_connection = stage == connection.WRITING or stage == connection.ROOM or stage == connection.UNSENT
  local missed = has_connection and "not written" or "no connection"
  err.message = err.message:gsub("^no reply", missed) .. (stage and ": still " .. stage or "")
end

--- As `run`, for so many seconds.
function M.run_within(seconds, handle, pipeline, how, as_list)
  local client = handle[CLIENT]
  local err = errors.new("TimeoutError", ("no reply within %g s (timeout)"):format(seconds),
    { address = client.settings.address, sent = "no" })
  return task.with_deadline(client.transport, seconds, err, name_stage, M.run, handle, pipeline, how, as_list, err)
end

--- For a chain that core.send has submitted to the shared connection: every outcome but success.
---@param handle redio.Handle
---@param token any the outcome, as the core tells it
function M.unhappy(handle, token, ...)
  return setmetatable({
    handle = handle, pipeline = false, mode = 0, decoder = false, as_list = false, collected = false,
    tries = 0, overdue = false, home = handle[CLIENT][WAITERS].connection.home, conn = false,
  }, Chain):_unhappy(token, ...)
end

return M
