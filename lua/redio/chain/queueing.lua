-- SPDX-License-Identifier: MIT
-- The methods of a handle that queue commands. They write into a pipeline of the core, and nothing is sent.
-- Specs: client/handle, client/fast_paths, promises/28

local arg_check = require "redio.base.arg_check"
local arguments = require "redio.command.arguments"
local command = require "redio.command"
local core = require "redio.core"
local lua_version = require "redio.base.lua_version"
local places = require "redio.chain.places"

local encode_list, BUSY = core.encode_list, core.BUSY
local CLIENT, PIPELINE = places.CLIENT, places.PIPELINE
local unpack = lua_version.unpack
local type, error, select = type, error, select

local M = {}

---@class redio.Handle
local methods = {}
M.methods = methods

-- the pipeline --------------------------------------------------------------------------------------------

local SHARED = "another coroutine %s this handle: a handle is for one coroutine at a time, and redis() makes another"

--- Why the running coroutine may not use the handle now; nil when it may.
---@param handle redio.Handle
---@return string?
function M.refusal(handle)
  local pipeline = handle[PIPELINE]
  if pipeline == BUSY then return SHARED:format "waits for the results of" end
  if pipeline and not pipeline:claim() then return SHARED:format "has queued commands on" end
end

-- The pipeline for the caller's commands.
local function pipeline_of(handle)
  if not handle[PIPELINE] then
    if handle.closed and not handle.conn then error("this handle is closed", 0) end
    handle[PIPELINE] = handle.session or core.lend()
  end
  local why = M.refusal(handle)
  if why then error(why, 0) end
  return handle[PIPELINE]
end

-- notes for the chain -------------------------------------------------------------------------------------

-- Notes the database that the SELECT just queued leads to. Where the errors of the chain cannot tell whether it was
-- executed, the database is unknown until the next SELECT.
local function note_select(handle, pipeline, database)
  local in_multi, _, _, _, is_muted = pipeline:session()
  local selects = handle.selects or {}
  handle.selects = selects
  local known = not (in_multi or is_muted) and tonumber(database) or false
  selects[#selects + 1] = { at = pipeline:count(), database = known }
end

-- Notes how long a blocking command may block: its reply may take so much longer than others.
local function note_block(handle, record, list)
  local seconds = arguments.timeout(record.entry, list.n, list)
  if not seconds then return end -- it does not block after all
  if seconds == 0 then seconds = math.huge end
  handle.allowance = (handle.allowance or 0) + seconds
end

-- queueing ------------------------------------------------------------------------------------------------

-- The command to send and its plain arguments, for the arguments of a call.
local function expand(handle, record, n, ...)
  local json_encode = handle[CLIENT].json_encode
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

local function queue(handle, record, ...)
  local refused = record.entry.refused
  if refused then error(("%s cannot be queued on a handle: %s"):format(record.name, refused), 0) end
  local list
  record, list = expand(handle, record, select("#", ...), ...)
  local pipeline = pipeline_of(handle)
  if record.entry.timeout then note_block(handle, record, list) end
  if record.entry.auth_option and logs_in(list) then record = command.logging_in(record) end
  local ok, why = encode_list(pipeline, record.core, list, list.n)
  if not ok then error(("bad call of '%s': %s"):format(record.name, why), 0) end
  if handle.is_private and record.name == "SELECT" then note_select(handle, pipeline, list[1]) end
end

-- Queues calls that the core leaves to Lua: with tables or booleans among the arguments, of commands with a form of
-- their own, and wrong ones. Methods end in a tail call of this, so that an error is at the line of their caller.
local function queue_slowly(handle, record, ...)
  local ok, err = pcall(queue, handle, record, ...)
  if not ok then error(err, 2) end
  return handle
end

-- methods -------------------------------------------------------------------------------------------------

local function queue_slowly_for(record, handle, ...)
  return queue_slowly(handle, record, ...)
end

local function plain_method(record)
  local core_queue = core.queuer(record.core)
  return function(...)
    local handle = core_queue(...)
    if handle then return handle end
    return queue_slowly_for(record, ...)
  end
end

local function slow_method(record)
  return function(handle, ...)
    return queue_slowly(handle, record, ...)
  end
end

local function queue_behind(handle, record, words, ...)
  local list, n = lua_version.pack(...), #words
  for i = 1, list.n do
    words[n + i] = list[i]
  end
  return queue_slowly(handle, record, unpack(words, 1, n + list.n))
end

local function call(handle, name, ...)
  local record, words, is_taken = command.resolve(name, (...))
  if is_taken then return queue_slowly(handle, record, select(2, ...)) end
  if #words == 0 then return queue_slowly(handle, record, ...) end
  return queue_behind(handle, record, words, ...)
end

--- Queues any command, by name: `call("JSON.SET", key, path, value)`, `call("CONFIG GET", "save")`. Further words in
--- the name, as in a line that was typed, are the first arguments.
---@param name string
---@return redio.Handle
function methods:call(name, ...)
  if type(name) ~= "string" or not name:find "%S" then arg_check.refuse(1, "call", "a command's name", name, 1) end
  return call(self, name, ...)
end

--- SELECT: once it is answered the handle's `db` follows.
---@return redio.Handle
function methods:select(...)
  return queue_slowly(self, command.find "SELECT", ...)
end

local function container_method(name)
  return function(handle, ...)
    return call(handle, name, ...)
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

return M
