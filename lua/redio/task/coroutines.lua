-- SPDX-License-Identifier: MIT
-- Coroutines that wait: parked, woken, and interrupted by a cancel or a deadline.
--
-- A coroutine is woken with a token of the waker's as first value, so that one which a stranger resumes meanwhile
-- notices that, instead of taking a stranger's value for its own. One that is not suspended (it has ended, or was
-- closed) is not resumed at all.
-- Specs: unit/task, client/waits, regress/nested_wakes

local core = require "redio.core"
local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local transports = require "redio.transport"

local co_resume, co_status = coroutine.resume, coroutine.status
local running, yield = coroutine.running, coroutine.yield
local pack, unpack, when_closed = lua_version.pack, lua_version.unpack, lua_version.when_closed

local M = {}

-- coroutine -> its record, for those that are tasks or have a deadline. While it runs, its stack holds its record. Weak
-- values, too: a record knows its coroutine, and on Lua 5.1 and LuaJIT that alone would keep both for ever.
M.records = setmetatable({}, { __mode = "kv" })
local records = M.records

local CANCEL = {} -- what a coroutine that is interrupted is resumed with
M.CANCEL = CANCEL

-- resuming --------------------------------------------------------------------------------------------------

-- So many coroutines may resume each other, one within the other. More would overflow the C stack, and wait until the
-- outermost has come back.
local DEEPEST = 16
local depth = 0

local late = queue.new() -- what they are resumed with, by `co`
local due = {} -- coroutine -> that
local catching_up = false

local function resume_late(co, ...)
  local item = pack(...)
  item.co, due[co] = co, item
  late:push(item)
  return true
end

local function resume_all()
  local item = late:pop()
  while item do
    if due[item.co] == item then
      due[item.co] = nil
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

-- It has ended by an error; or it could not be resumed at all, because the C stack is full here.
local function not_resumed(co, err, ...)
  if co_status(co) ~= "suspended" then return M.ended_by(co, err) end
  resume_late(co, ...)
  transports.default().defer(catch_up)
end

--- Resumes a coroutine, at once or soon, whatever becomes of it.
---@return boolean resumed false: it is not suspended
function M.resume(co, ...)
  if co_status(co) ~= "suspended" then return false end
  if depth >= DEEPEST then return resume_late(co, ...) end
  depth = depth + 1
  local ok, err = co_resume(co, ...)
  depth = depth - 1
  if not ok then not_resumed(co, err, ...) end
  if depth == 0 and late:count() > 0 then catch_up() end
  return true
end
local resume = M.resume

-- interruptions to come -------------------------------------------------------------------------------------

--- How many there are: of coroutines that were to be interrupted and did not wait for redio just then.
M.cancelling = 0

local function count_cancelling(n)
  M.cancelling = M.cancelling + n
  core.cancelling(n)
end

-- They are counted as long as the coroutine can still come to them.
local function new_list()
  local box = { count = 0 }
  return { box = box, guard = lua_version.finalizer(function()
    count_cancelling(-box.count)
    box.count = 0
  end) }
end

local function change_count(list, n)
  list.box.count = list.box.count + n
  count_cancelling(n)
end

-- When it next waits.
local function interrupt_later(record, cause)
  local list = record._pending or new_list()
  record._pending = list
  list[#list + 1] = cause
  change_count(list, 1)
end

--- The place of that interruption among those to come; false when it is none of them.
function M.is_pending(record, cause)
  local list = record._pending
  for i = 1, list and #list or 0 do
    if list[i] == cause then return i end
  end
  return false
end

--- It is not to come any more.
function M.withdraw(record, cause)
  local at = M.is_pending(record, cause)
  if not at then return end
  local list = record._pending
  table.remove(list, at)
  change_count(list, -1)
  if #list == 0 then record._pending = false end
end

--- None is to come any more.
function M.withdraw_all(record)
  local list = record._pending
  if not list then return end
  record._pending = false
  change_count(list, -list.box.count)
end

-- The oldest one, which is now.
local function take_pending(co)
  local record = records[co]
  local cause = record and record._pending and record._pending[1]
  if cause then M.withdraw(record, cause) end
  return cause
end

--- Raises what was to interrupt a coroutine that did not wait for redio just then.
function M.check_cancelled(co)
  local cause = take_pending(co)
  if cause then error(cause.err, 0) end
end

-- parking ---------------------------------------------------------------------------------------------------

--- The error to raise after a resumption that was not the awaited one.
function M.interrupted(token)
  local co = running()
  local item = due[co]
  due[co] = nil
  if token == CANCEL or (item and item[1] == CANCEL) then
    local record = records[co]
    local err = record._raised
    record._raised = nil
    return err
  end
  return "this coroutine was waiting in redio and somebody else resumed it"
end

-- Ends the wait in any other way than by `wake`.
local function abandon(waiter)
  local fn = waiter.abandon
  waiter.co, waiter.abandon = nil, nil
  if fn then fn(waiter) end
end

local function woken(waiter, token, ...)
  if token == waiter then return ... end
  local item = due[running()]
  if item and item[1] == waiter then -- it was woken already, and a stranger was only faster
    due[running()] = nil
    return unpack(item, 2, item.n)
  end
  abandon(waiter)
  error(M.interrupted(token), 0)
end

-- A guard is told when the running coroutine is closed while it waits. (Where nothing can be closed there is none.)
local function came_back(guard, ...)
  guard.back = true
  return ...
end

local function yield_guarded(guard)
  return came_back(guard, yield())
end

local yield_with = lua_version.close_coroutine and function(guard)
  return when_closed(guard, yield_guarded, guard)
end or function()
  return yield()
end

local Parked = { __close = function(guard)
  if guard.back then return end
  due[running()] = nil
  abandon(guard.waiter)
end }

local guard_of = lua_version.close_coroutine and function(waiter)
  return setmetatable({ waiter = waiter, back = false }, Parked)
end or function() end

--- Parks the running coroutine until `wake(waiter, ...)`; returns what wake was given. The waiter is a table of the
--- caller's; its `abandon(waiter)` is called when the wait ends in any other way.
function M.wait(waiter)
  local co = running()
  local cause = M.cancelling > 0 and take_pending(co)
  if cause then
    abandon(waiter)
    error(cause.err, 0)
  end
  waiter.co = co
  local record = records[co]
  if record then record._waiter = waiter end
  return woken(waiter, yield_with(guard_of(waiter)))
end

--- Wakes a coroutine that waits; does nothing when none does (any more).
---@return boolean woken
function M.wake(waiter, ...)
  local co = waiter.co
  if not co then return false end
  waiter.co = nil
  return resume(co, waiter, ...)
end

-- waiting for a chain ---------------------------------------------------------------------------------------

-- Connections with something in flight, which nothing else may refer to. The shared ones are a list besides, for they
-- are searched: of `pairs` LuaJIT of early 2022, which Debian 12 has, may make code that follows half a pointer.
local busy, busy_shared = {}, {}

--- Whether a connection has something in flight.
function M.is_busy(conn)
  return busy[conn] ~= nil
end

--- A connection has something in flight from now on, or nothing any more.
function M.set_busy(conn, is_busy)
  local place = busy[conn]
  if is_busy == (place ~= nil) then return end
  if is_busy then
    busy[conn] = conn.exclusive and 0 or #busy_shared + 1
    if not conn.exclusive then busy_shared[#busy_shared + 1] = conn end
    return
  end
  busy[conn] = nil
  if place == 0 then return end
  local last = table.remove(busy_shared)
  if last ~= conn then
    busy_shared[place], busy[last] = last, place
  end
end

-- coroutine -> its own connection, while it waits for replies there
local alone = setmetatable({}, { __mode = "kv" })

local Alone = { __close = function(guard)
  if guard.back then return end
  alone[running()] = nil
  guard.conn:close "the coroutine that waited for its reply was closed"
end }

local function came_back_alone(...)
  alone[running()] = nil
  return ...
end

--- Waits for the chain that was submitted to a connection which is the caller's alone.
function M.wait_alone(conn)
  alone[running()] = conn
  return came_back_alone(yield_with(setmetatable({ conn = conn }, Alone)))
end

-- The waiters of a shared connection are found by asking those that have chains in flight: so waiting costs nothing,
-- and only an interruption has to look.
local function find_chain(co)
  local own = alone[co]
  if own then
    local slot, sent = own.core:find(own.waiters, co)
    if slot then return own, slot, sent end
  end
  for i = 1, #busy_shared do
    local conn = busy_shared[i]
    local slot, sent = conn.core:find(conn.waiters, co)
    if slot then return conn, slot, sent end
  end
end

function M.abandon_chain(co)
  local conn, slot = find_chain(co)
  if conn then conn:abandon(slot) end
  return conn ~= nil
end

-- interrupting ----------------------------------------------------------------------------------------------

local function is_parked(record)
  local waiter = record._waiter
  return waiter and waiter.co == record._co
end

--- In words, the thing that a coroutine waits for, if it is known.
function M.stage_of(record)
  local waiter = record._waiter
  if is_parked(record) then return waiter.conn and waiter.conn.stage or waiter.stage end
  local conn, _, sent = find_chain(record._co)
  return conn and conn:chain_stage(sent)
end

--- True when it waits for a chain of which nothing has been sent.
function M.is_unsent(record)
  if is_parked(record) then return false end
  local conn, _, sent = find_chain(record._co)
  return conn ~= nil and not sent
end

--- Has `cause.err` raised where the coroutine waits; where it does not wait for redio just now, when it next does.
---@param cause table {err=}
function M.interrupt(record, cause)
  local co = record._co
  if is_parked(record) then
    record._waiter.co = nil
  elseif not M.abandon_chain(co) then
    return interrupt_later(record, cause)
  end
  record._raised = cause.err
  resume(co, CANCEL)
end

return M
