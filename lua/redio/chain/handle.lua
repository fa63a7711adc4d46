-- SPDX-License-Identifier: MIT
-- A handle: commands are queued by its methods and sent when it is awaited.
--
-- The queue is a pipeline of the core. How a chain travels is in exchange.lua.

local arg_check = require "redio.base.arg_check"
local arguments = require "redio.command.arguments"
local chain = require "redio.chain"
local command = require "redio.command"
local connection = require "redio.connection"
local core = require "redio.core"
local decode = require "redio.command.decode"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local refusals = require "redio.endpoint.refusals"
local task = require "redio.task"

local encode_list, send, DONE, BUSY = core.encode_list, core.send, core.DONE, core.BUSY
local SINGLE, FIRST, MUCH = core.SINGLE, core.FIRST, core.MUCH
local TEXT, PLACES, COLLECT, LIST = core.TEXT, core.PLACES, core.COLLECT, core.LIST
local isyieldable, yield = task.can_wait, coroutine.yield
local unpack = lua_version.unpack
local setmetatable, type, error, select = setmetatable, type, error, select

local M = {}

---@class redio.Handle
local methods = {
  -- 1: the client; 2: the pipeline with what is queued, false, or BUSY while a coroutine waits; 3: true when the next
  -- await needs more than the usual. In the list part, for the core reads them: see core.queuer and core.send.

  -- what a handle is unless it says otherwise
  _conn = false, -- a connection of its own, while it has state there
  _own = false, -- the pipeline that follows that state
  _decode = false,
  _timeout = false,
  _no_pool = false,
  _guard = false,
  _patience = false,
  _private_client = false, -- its connection is its own for good
  _greets = false, -- on_connect's
  _selects = false, -- SELECTs that are queued
  closed = false,
  in_transaction = false,
  in_pubsub = false,
}

local metatable = { __index = methods, __name = "redio.Handle" }

-- queueing ------------------------------------------------------------------------------------------------

local SHARED = "another coroutine %s this handle: a handle is for one coroutine at a time, and redis() makes another"

-- Why the running coroutine may not use the handle now; nil when it may.
local function refusal(self)
  local queue = self[2]
  if queue == BUSY then return SHARED:format "waits for the results of" end
  if queue and not queue:claim() then return SHARED:format "has queued commands on" end
end

-- The pipeline that takes the caller's commands.
local function pipeline_of(self)
  if not self[2] then
    if self.closed and not self._conn then error("this handle is closed", 0) end
    self[2] = self._own or core.lend()
  end
  local why = refusal(self)
  if why then error(why, 0) end
  return self[2]
end

-- Remembers which database the handle's connection is in once the SELECT that was just queued is answered. Where that
-- cannot be told from the chain's errors, it is not known until the next one.
local function note_select(self, pipeline, database)
  local in_multi, _, _, _, is_muted = pipeline:session()
  local selects = self._selects or {}
  self._selects = selects
  local known = not (in_multi or is_muted) and tonumber(database) or false
  selects[#selects + 1] = { at = pipeline:count(), database = known }
end

--- The command to send and its plain arguments, for whatever the caller gave.
local function expand(self, record, n, ...)
  local json_encode = self[1].json_encode
  local rewritten, list
  if record.entry.rewrite then rewritten, list = arguments.rewrite(record.entry, n, ...) end
  if rewritten then
    record = command.find(rewritten)
    return record, (arguments.expand(record.entry, json_encode, list.n, unpack(list, 1, list.n)))
  end
  local plain, other = arguments.expand(record.entry, json_encode, n, ...)
  return other and command.find(other) or record, plain
end

local function logs_in(list)
  for i = 1, list.n do
    if type(list[i]) == "string" and list[i]:upper() == "AUTH" then return true end
  end
  return false
end

local function queue(self, record, ...)
  local refused = record.entry.refused
  if refused then error(("%s cannot be queued on a handle: %s"):format(record.name, refused), 0) end
  local list
  record, list = expand(self, record, select("#", ...), ...)
  local pipeline = pipeline_of(self)
  if record.entry.timeout then self:_will_block(record, list) end
  if record.entry.auth_option and logs_in(list) then record = command.logging_in(record) end
  local ok, why = encode_list(pipeline, record.core, list, list.n)
  if not ok then error(("bad call of '%s': %s"):format(record.name, why), 0) end
  if self._private_client and record.name == "SELECT" then note_select(self, pipeline, list[1]) end
end

--- Queues what the core alone cannot: tables and booleans among the arguments, commands with a form of their own;
--- and says what was wrong. To be called last (a tail call), so that errors are at the line of whoever called the
--- method.
local function queue_slowly(self, record, ...)
  local ok, err = pcall(queue, self, record, ...)
  if not ok then error(err, 2) end
  return self
end

local function queue_slowly_for(record, self, ...)
  return queue_slowly(self, record, ...)
end

local function plain_method(record)
  local core_queue = core.queuer(record.core)
  return function(...)
    local self = core_queue(...)
    if self then return self end
    return queue_slowly_for(record, ...)
  end
end

local function slow_method(record)
  return function(self, ...)
    return queue_slowly(self, record, ...)
  end
end

local function queue_behind(self, record, words, ...)
  local list, n = lua_version.pack(...), #words
  for i = 1, list.n do
    words[n + i] = list[i]
  end
  return queue_slowly(self, record, unpack(words, 1, n + list.n))
end

local function call(self, name, ...)
  local record, words, is_taken = command.resolve(name, (...))
  if is_taken then return queue_slowly(self, record, select(2, ...)) end
  if #words == 0 then return queue_slowly(self, record, ...) end
  return queue_behind(self, record, words, ...)
end

--- Queues any command, by name: `call("JSON.SET", key, path, value)`, `call("CONFIG GET", "save")`. Words behind the
--- name, as a line that somebody has typed has them, are its first arguments.
---@param name string
---@return redio.Handle
function methods:call(name, ...)
  if type(name) ~= "string" or not name:find "%S" then arg_check.refuse(1, "call", "a command's name", name, 1) end
  return call(self, name, ...)
end

--- SELECT: once it is answered the handle's `db` follows.
function methods:select(...)
  return queue_slowly(self, command.find "SELECT", ...)
end

local function container_method(name)
  return function(self, ...)
    return call(self, name, ...)
  end
end

local function new_method(name)
  local record = command.find(name)
  local entry = record.entry
  if entry.method then return plain_method(command.shaped(entry.method.command, entry.method.reply)) end
  if entry.container then return container_method(name) end
  if entry.refused or entry.rewrite or entry.timeout or entry.auth_option then return slow_method(record) end
  return plain_method(record)
end

-- A command's method is made when it is first used.
setmetatable(methods, {
  __index = function(_, key)
    if type(key) ~= "string" then return nil end
    if key:byte() == 95 then return nil end -- "_": a private field that is not set
    local name = command.of_method(key)
    if not name then error(command.no_such_method(key), 2) end
    local method = new_method(name)
    methods[key] = method
    return method
  end,
})

-- A blocking command may take its own time, and then the usual time for its reply.
function methods:_will_block(record, list)
  local seconds = arguments.timeout(record.entry, list.n, list)
  if not seconds then return end -- does not block after all
  if seconds == 0 or self._patience == math.huge then
    self._patience = math.huge
  else
    self._patience = (self._patience or 0) + seconds
  end
end

-- awaiting ------------------------------------------------------------------------------------------------

--- What the next await is to do with values: the mode for the core; `_fn` decodes where the core cannot.
local function decoding(self, mode)
  local how = self._decode or self[1].settings.decode
  if how == "str" then return mode + TEXT end
  if how == "none" then return mode end
  self._fn = decode.of_mode(how, self[1].json_decode)
  return mode % 8 >= COLLECT and mode + PLACES or mode + PLACES + COLLECT
end

--- What was set for this await only.
local function reset_modifiers(self)
  self._decode, self._timeout = false, false
  self[3] = self._conn ~= false or self._private_client or self._no_pool
end

-- Says in the error of a deadline how far the chain had come.
local function name_stage(err, stage)
  if stage == connection.READING or stage == connection.WRITING then err.sent = "maybe" end
  if stage == connection.READING then return end
  local has_connection = stage == connection.WRITING or stage == connection.ROOM or stage == connection.UNSENT
  local missed = has_connection and "not written" or "no connection"
  err.message = err.message:gsub("^no reply", missed) .. (stage and ": still " .. stage or "")
end

local function await_with(self, pipeline, mode, timeout)
  if not timeout then return chain.run(self, pipeline, mode, 0) end
  local transport = self[1].transport
  local err = errors.new("TimeoutError", ("no reply within %g s (timeout)"):format(timeout),
    { address = self[1].settings.address, sent = "no" })
  return task.with_deadline(transport, timeout, err, name_stage, chain.run, self, pipeline, mode, 0)
end

local function await_here(self, mode)
  if self[1].closed then
    self:clear()
    error(refusals.closed(self[1].settings), 0)
  end
  local pipeline, timeout = self[2], self._timeout
  if not pipeline or pipeline:count() == 0 then
    reset_modifiers(self)
    if mode >= LIST then return {} end
    return
  end
  mode = decoding(self, mode)
  reset_modifiers(self)
  return await_with(self, pipeline, mode, timeout)
end

local function await_slowly(self, mode)
  local why = refusal(self)
  if why then error(why, 2) end
  if not isyieldable() then return task.block(self[1].transport, await_here, self, mode) end
  return await_here(self, mode)
end

local function settle(self, token, ...)
  self[2] = false
  if token == DONE then return ... end
  return chain.unhappy(self, nil, nil, 0, 0, token, ...)
end

local function await_otherwise(self, how)
  if not how then return await_slowly(self, 0) end
  if how >= MUCH then
    self[1][2].connection:write_now()
  elseif how >= FIRST then
    self[1][2].connection:schedule()
  end
  return settle(self, yield())
end

--- Sends what is queued and waits.
---@return any ... the results, in order
--- Raises the first error reply after all replies are in (with its `index` in the chain, and all `replies`), or
--- what became of the connection.
function methods:await()
  local how = send(self)
  if how ~= SINGLE then return await_otherwise(self, how) end
  local token, a, b, c = yield()
  self[2] = false
  if token == DONE then return a end
  return chain.unhappy(self, nil, nil, 0, 0, token, a, b, c)
end

metatable.__call = methods.await

--- Sends what is queued and waits.
---@return table results in one list; error replies stay in their places as error objects
function methods:replies()
  return await_slowly(self, COLLECT + LIST)
end

-- modifiers of the next await -----------------------------------------------------------------------------

local function set_decode(self, how)
  self._decode, self[3] = how, true
  return self
end

--- Values as text: bytes that are no UTF-8 become surrogates, which `redio.strencode` undoes.
function methods:strdecode()
  return set_decode(self, "str")
end

--- Values as JSON and numbers where they parse as such.
function methods:autodecode()
  return set_decode(self, "auto")
end

--- Values through a function of one's own.
---@param fn fun(bytes: string): any
function methods:decoder(fn)
  arg_check.callable(fn, 1, "decoder", 2)
  return set_decode(self, fn)
end

--- The next await may take that long, from its start to its last reply.
---@param s number seconds
function methods:timeout(s)
  arg_check.seconds(s, 1, "timeout", 2)
  self._timeout, self[3] = s, true
  return self
end

--- Its connection is closed rather than used again.
function methods:prevent_pooling()
  self._no_pool, self[3] = true, true
  return self
end

-- the queue and the connection ----------------------------------------------------------------------------

--- How many commands are queued.
---@return integer
function methods:queued()
  local pipeline = self[2]
  return pipeline and pipeline ~= BUSY and (pipeline:count()) or 0
end

--- Forgets the queued commands.
function methods:clear()
  local pipeline = self[2]
  if pipeline == BUSY then return self end -- nothing is queued
  if pipeline then
    pipeline:clear()
    if not self._own then core.recycle(pipeline) end
  end
  self[2], self._patience, self._selects = false, false, false
  reset_modifiers(self)
  return self
end

function methods:_pin(conn, pipeline)
  self._conn, self._own, self[3] = conn, pipeline, true
  conn.pinned = true -- with a session that is this handle's affair
  if not self._greets then self._guard = conn.home:guard(conn) end
end

function methods:_unpin()
  if not self._conn then return end
  if self._guard then self._guard.held.conn = nil end
  self._conn.pinned = false
  self._conn, self._own, self._guard, self[2] = false, false, false, false
  self[3] = self._private_client or self._no_pool
  self.in_transaction = false
end

--- Gives back what the handle holds. What it has left on its connection is undone, or the connection is closed; one
--- that was its own for good is closed. Queued commands are forgotten.
function methods:close()
  self:clear()
  local conn = self._conn
  if conn then
    local session = self._own
    self:_unpin()
    if self._private_client then conn.home:release(conn, false) else conn.home:restore(conn, session) end
    self[1].transport.flush()
  end
  if self._private_client then self.closed = true end
end

metatable.__close = methods.close

function metatable:__tostring()
  return ("redio.Handle(%s, %d queued)"):format(self[1].settings.address, self:queued())
end

-- For redis:transaction: whether MULTI is open once what is queued is sent.
function methods:_opens_transaction()
  local pipeline = self[2] or self._own
  return pipeline and (pipeline:session())
end

-- For redis:transaction: MULTI in front of what is queued.
function methods:_wrap_transaction()
  local ok, why = self[2]:wrap(command.find("MULTI").core)
  if not ok then error(why, 3) end
end

-- For on_connect: the handle is of no more use.
---@return boolean is_plain whether its commands have left the connection so that others can use it
function methods:_detach()
  local pipeline = self._own
  self:clear()
  local in_multi, watching, quits, muted, _
  if pipeline then
    in_multi, watching, _, quits, muted = pipeline:session()
  end
  self._conn.pinned = false
  self._conn, self._own, self.closed = false, false, true
  return not (in_multi or watching or quits or muted)
end

--- A fresh handle.
---@type fun(client: redio.Client): redio.Handle
M.new = core.handles(metatable)

--- A handle with a connection of its own, until it is closed.
function M.private(client)
  local settings = client.settings
  return setmetatable({
    client, false, true, _private_client = true,
    address = settings.address, db = settings.database, encoding = settings.decode,
  }, metatable)
end

--- A handle on a connection that is being greeted.
function M.on(client, conn)
  return setmetatable({ client, false, true, _conn = conn, _greets = true }, metatable)
end

--- Calls the user's on_connect with a handle on a connection that is being greeted.
function M.greet(client, conn, on_connect)
  local greeter = M.on(client, conn)
  local ok, err = pcall(on_connect, greeter)
  local is_plain = greeter:_detach()
  if not ok then error(err, 0) end
  if is_plain then return end
  error(errors.new("ConnectionError", "on_connect has left a MULTI or a WATCH open, replies turned off, or QUIT: "
    .. "every chain on this connection would suffer from it", { address = conn.address, permanent = true }), 0)
end

return M
