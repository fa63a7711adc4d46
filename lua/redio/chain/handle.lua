-- SPDX-License-Identifier: MIT
-- A handle: its methods queue commands, and await sends them.
-- Specs: client/handle, client/fast_paths, promises/28

local arg_check = require "redio.base.arg_check"
local chain = require "redio.chain"
local command = require "redio.command"
local core = require "redio.core"
local errors = require "redio.base.errors"
local places = require "redio.chain.places"
local queueing = require "redio.chain.queueing"
local refusals = require "redio.endpoint.refusals"
local session = require "redio.chain.session"
local task = require "redio.task"

local send, DONE, BUSY = core.send, core.DONE, core.BUSY
local SINGLE, FIRST, MUCH = core.SINGLE, core.FIRST, core.MUCH
local CLIENT, PIPELINE, IS_SET, WAITERS = places.CLIENT, places.PIPELINE, places.IS_SET, places.WAITERS
local isyieldable, yield = task.can_wait, coroutine.yield
local error = error

local M = {}

---@class redio.Handle
---@field closed boolean
---@field in_transaction boolean a MULTI is open
---@field in_pubsub boolean
--- For the files of chain/:
---@field conn redio.Connection|false its own connection, while that has state or is its own for good
---@field session userdata|false the pipeline that follows that state
---@field is_private boolean its connection is its own for good
---@field greets boolean it is an on_connect's
---@field unpooled boolean its connections are not used again
---@field allowance number|false seconds that queued commands may block
---@field selects table[]|false SELECTs that are queued
local methods = queueing.methods

-- The fields of a handle unless they are set. (Its list part is described in places.lua.)
methods[PIPELINE], methods[IS_SET] = false, false
methods.closed, methods.in_transaction, methods.in_pubsub = false, false, false
methods.conn, methods.session, methods.is_private, methods.greets = false, false, false, false
methods.unpooled, methods.allowance, methods.selects = false, false, false
methods._decode, methods._timeout = false, false -- for the next await

local metatable = { __index = methods, __name = "redio.Handle" }

-- awaiting ------------------------------------------------------------------------------------------------

local function reset_modifiers(handle)
  handle._decode, handle._timeout = false, false
  handle[IS_SET] = handle.conn ~= false or handle.is_private or handle.unpooled
end

local function await_here(handle, as_list)
  local client, pipeline = handle[CLIENT], handle[PIPELINE]
  if client.closed then
    handle:clear()
    error(refusals.closed(client.settings), 0)
  end
  local how, timeout = handle._decode or client.settings.decode, handle._timeout
  if handle[IS_SET] then reset_modifiers(handle) end
  if not pipeline or pipeline:count() == 0 then
    if as_list then return {} end
    return
  end
  if timeout then return chain.run_within(timeout, handle, pipeline, how, as_list) end
  return chain.run(handle, pipeline, how, as_list, false)
end

local function await_slowly(handle, as_list)
  local pipeline = handle[PIPELINE]
  if pipeline == BUSY or pipeline and not pipeline:claim() then error(queueing.refusal(handle), 2) end
  if not isyieldable() then return task.block(handle[CLIENT].transport, await_here, handle, as_list) end
  return await_here(handle, as_list)
end

local function settle(handle, token, ...)
  handle[PIPELINE] = false
  if token == DONE then return ... end
  return chain.unhappy(handle, token, ...)
end

local function await_several(handle, how)
  local conn = handle[CLIENT][WAITERS].connection
  if how >= MUCH then
    conn:write_now()
  elseif how >= FIRST then
    conn:schedule()
  end
  return settle(handle, yield())
end

--- Sends what is queued and waits.
---@return any ... the results, in order
--- Raises the first error reply after all replies are in (with its `index` in the chain, and all `replies`), or
--- what became of the connection.
function methods:await()
  local how = send(self)
  if how ~= SINGLE then
    if how then return await_several(self, how) end
    return await_slowly(self, false)
  end
  local token, a, b, c = yield()
  self[PIPELINE] = false
  if token == DONE then return a end
  return chain.unhappy(self, token, a, b, c)
end

metatable.__call = methods.await

--- Sends what is queued and waits.
---@return table results in one list; error replies stay in their places as error objects
function methods:replies()
  return await_slowly(self, true)
end

-- modifiers of the next await -----------------------------------------------------------------------------

local function set_decode(handle, how)
  handle._decode, handle[IS_SET] = how, true
  return handle
end

--- Values as text: bytes that are no UTF-8 become surrogates, which `redio.strencode` undoes.
---@return redio.Handle
function methods:strdecode()
  return set_decode(self, "str")
end

--- Values as JSON and numbers where they parse as such.
---@return redio.Handle
function methods:autodecode()
  return set_decode(self, "auto")
end

--- Values through a function of one's own.
---@param fn fun(bytes: string): any
---@return redio.Handle
function methods:decoder(fn)
  arg_check.callable(fn, 1, "decoder", 2)
  return set_decode(self, fn)
end

--- The next await may take that long, from its start to its last reply.
---@param s number seconds
---@return redio.Handle
function methods:timeout(s)
  arg_check.seconds(s, 1, "timeout", 2)
  self._timeout, self[IS_SET] = s, true
  return self
end

--- Its connections are closed rather than used again.
---@return redio.Handle
function methods:prevent_pooling()
  self.unpooled, self[IS_SET] = true, true
  return self
end

-- the queue and the connection ----------------------------------------------------------------------------

--- How many commands are queued.
---@return integer
function methods:queued()
  local pipeline = self[PIPELINE]
  return pipeline and pipeline ~= BUSY and (pipeline:count()) or 0
end

--- Forgets the queued commands.
---@return redio.Handle
function methods:clear()
  local pipeline = self[PIPELINE]
  if pipeline == BUSY then return self end -- nothing is queued
  if pipeline then
    pipeline:clear()
    if not self.session then core.recycle(pipeline) end
  end
  self[PIPELINE], self.allowance, self.selects = false, false, false
  reset_modifiers(self)
  return self
end

--- Gives back the handle's connection, if there is one. It undoes the state that its session has left, or closes the
--- connection. One that was the handle's for good is closed. Queued commands are forgotten.
function methods:close()
  self:clear()
  session.close(self)
  if self.is_private then self.closed = true end
end

metatable.__close = methods.close

function metatable:__tostring()
  return ("redio.Handle(%s, %d queued)"):format(self[CLIENT].settings.address, self:queued())
end

-- for transactions ----------------------------------------------------------------------------------------

--- True when a MULTI is open once the queued commands are sent.
---@param handle redio.Handle
---@return boolean?
function M.opens_transaction(handle)
  local pipeline = handle[PIPELINE] or handle.session
  return pipeline and (pipeline:session())
end

--- Puts MULTI in front of the queued commands.
---@param handle redio.Handle
function M.wrap_transaction(handle)
  local ok, why = handle[PIPELINE]:wrap(command.find("MULTI").core)
  if not ok then error(why, 3) end
end

-- making them ---------------------------------------------------------------------------------------------

--- A fresh handle.
---@type fun(client: redio.Client): redio.Handle
M.new = core.handles(metatable)

--- A handle with a connection of its own, until it is closed.
---@param client redio.Client
---@return redio.Handle
function M.private(client)
  local handle, settings = M.new(client), client.settings
  handle.is_private, handle[IS_SET] = true, true
  handle.address, handle.db, handle.encoding = settings.address, settings.database, settings.decode
  return handle
end

--- Calls an on_connect with a handle on the connection that is being logged in.
---@param client redio.Client
---@param conn redio.Connection
---@param on_connect fun(handle: redio.Handle)
function M.greet(client, conn, on_connect)
  local greeter = M.new(client)
  greeter.greets, greeter.conn, greeter[IS_SET] = true, conn, true
  local ok, err = pcall(on_connect, greeter)
  local is_plain = session.detach(greeter)
  if not ok then error(err, 0) end
  if is_plain then return end
  error(errors.new("ConnectionError", "on_connect has left a MULTI or a WATCH open, replies turned off, or QUIT: "
    .. "every chain on this connection would suffer from it", { address = conn.address, permanent = true }), 0)
end

return M
