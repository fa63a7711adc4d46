-- SPDX-License-Identifier: MIT
-- Switches between coroutines, for hosts with a loop: resume, and yield.
-- Specs: regress/nested_wakes, promises/22, promises/28

local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local transports = require "redio.transport"
local uncaught = require "redio.task.uncaught"

local co_resume, status, yield = coroutine.resume, coroutine.status, coroutine.yield
local pack, unpack = lua_version.pack, lua_version.unpack
local close_coroutine, when_closed = lua_version.close_coroutine, lua_version.when_closed

local M = {}

--- Coroutine -> its record, for tasks and for coroutines with a deadline. While a coroutine runs, its stack holds its
--- record. Values are weak as well as keys: a record refers to its coroutine, and on Lua 5.1 and LuaJIT that reference
--- alone would keep both for ever.
---@type table<thread, redio.Record>
M.records = setmetatable({}, { __mode = "kv" })
local records = M.records

-- the end by an error -------------------------------------------------------------------------------------

local function close(co, err)
  if not close_coroutine then return end
  local ok, other = close_coroutine(co)
  if not ok and not rawequal(other, err) then uncaught.tell(uncaught.failure(other)) end
end

--- Handles the error that has ended a coroutine: closes its variables, and reports the error.
function M.ended_by(co, err)
  local failure = uncaught.failure(err, debug.traceback(co))
  local task = records[co]
  local is_task = task and task.fail ~= nil
  if is_task and not task.done then task:fail(failure) end
  close(co, err)
  if not is_task then uncaught.tell_now(failure) end
end

-- resume --------------------------------------------------------------------------------------------------

-- The number of coroutines that may resume each other, one within the other. One more would overflow the C stack: its
-- resumption is put off until the outermost one has returned.
local DEEPEST = 16
local depth = 0

local late = queue.new() -- the values of resumptions that were put off, each with its coroutine as `co`
local late_of = {} -- coroutine -> its last one
local catching_up = false

local function resume_late(co, ...)
  local item = pack(...)
  item.co, late_of[co] = co, item
  late:push(item)
  return true
end

local function resume_all()
  local item = late:pop()
  while item do
    if late_of[item.co] == item then
      late_of[item.co] = nil
      M.resume(item.co, unpack(item, 1, item.n))
    end
    item = late:pop()
  end
end

local function catch_up()
  if catching_up then return end
  catching_up = true
  local ok, err = pcall(resume_all)
  catching_up = false
  if not ok then error(err, 0) end
end

-- The coroutine has ended by an error, or it could not be resumed at all: the C stack is full.
local function not_resumed(co, err, ...)
  if status(co) ~= "suspended" then return M.ended_by(co, err) end
  resume_late(co, ...)
  transports.default().defer(catch_up)
end

--- Resumes a coroutine, at once or soon. An error that ends it is reported.
---@return boolean resumed false: it is not suspended
function M.resume(co, ...)
  if status(co) ~= "suspended" then return false end
  if depth >= DEEPEST then return resume_late(co, ...) end
  depth = depth + 1
  local ok, err = co_resume(co, ...)
  depth = depth - 1
  if not ok then not_resumed(co, err, ...) end
  if depth == 0 and late:count() > 0 then catch_up() end
  return true
end

--- Withdraws the resumption of a coroutine that was put off, as other code has resumed it.
---@return table? values packed
function M.take_late(co)
  local item = late_of[co]
  late_of[co] = nil
  return item
end

-- yield ---------------------------------------------------------------------------------------------------

--- A kind of guard for `yield`: when the coroutine is closed meanwhile (Lua 5.4), `on_close(subject)` is called in it.
function M.guard(on_close)
  return { __close = function(guard)
    if not guard.is_back then on_close(guard.subject) end
  end }
end

local function came_back(guard, ...)
  guard.is_back = true
  return ...
end

local function yield_within(guard)
  return came_back(guard, yield())
end

--- Yields.
---@type fun(subject: any, kind: table): ...
M.yield = close_coroutine and function(subject, kind)
  local guard = setmetatable({ subject = subject, is_back = false }, kind)
  return when_closed(guard, yield_within, guard)
end or function()
  return yield()
end

return M
