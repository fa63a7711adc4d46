-- SPDX-License-Identifier: MIT
-- Parking where the host alone may resume: a task is a light thread of the host's. The functions that both ways of
-- parking have are listed in task/init.lua.
--
-- No thread is interrupted from outside. It waits on a semaphore or on its own socket, no longer than its deadline
-- allows, and then checks for a cancel and for its deadline.
-- Specs: unit/parking, hosts/nginx/tasks, hosts/nginx/waits, hosts/nginx/aborts

local lua_version = require "redio.base.lua_version"
local transports = require "redio.transport"
local uncaught = require "redio.task.uncaught"

local host = transports.default()
local now, running, status = host.now, coroutine.running, coroutine.status
local isyieldable, pack, unpack = lua_version.isyieldable, lua_version.pack, lua_version.unpack

local M = {
  CANCEL = {},
  cancelling = 0, -- (each wait checks its own record)
}

-- Coroutine -> its record, for tasks and for coroutines with a deadline. Weak, for a record refers to its coroutine. An
-- aborted request leaves its records behind, and the host reuses its coroutines for other requests: each record keeps
-- its request.
local records = setmetatable({}, { __mode = "kv" })

local FOREVER = 1000000 -- seconds: the longest that a semaphore takes
local AN_INSTANT = 0.0005 -- seconds: the clock counts milliseconds

---@class redio.ThreadRecord: redio.Record
---@field pending table|false the cancel that the next wait raises
---@field request table the request that it runs in
---@field conn table? the connection at which it waits for the server
---@field thread userdata? the light thread of a task, until the host has let go of it
---@field deadline table?
local Record = {}
Record.__index = Record
M.Record = Record

--- The record of the running coroutine. It is nil where the coroutine is no task and has no deadline.
function M.current()
  local co = running()
  local record = records[co]
  if not record or record.request == host.request() then return record end
  records[co] = nil
end
local current = M.current

-- cancelling ----------------------------------------------------------------------------------------------

-- Takes the error of a cancel that is still to be raised, which is now.
local function take_cancel(record)
  local cause = record and record.pending
  if not cause then return nil end
  record.pending = false
  return cause.err
end

function M.check_cancelled()
  local err = take_cancel(current())
  if err then error(err, 0) end
end

--- Takes a cancel that is still to be raised, before a wait for the server: then `interrupted` returns its error.
---@return boolean taken
function Record:take_cancel()
  local err = take_cancel(self)
  if not err then return false end
  self.raised = err
  return true
end

function M.interrupted()
  local record = current()
  local err = record.raised
  record.raised = nil
  return err
end

function Record:is_pending(cause)
  return self.pending == cause
end

function Record:withdraw_all()
  self.pending = false
end

-- deadlines -----------------------------------------------------------------------------------------------

--- The seconds for which the coroutine may still wait, or nil without a deadline.
function Record:left()
  local deadline = self.deadline
  return deadline and not deadline.fired and deadline.at - now() or nil
end

--- The error of the deadline, once, when it has passed; `stage` is the thing that the coroutine waits for.
function Record:overdue(stage)
  local deadline = self.deadline
  if not deadline or deadline.fired or deadline.at - now() > AN_INSTANT then return nil end
  deadline.fired = true
  if deadline.where then deadline.where(deadline.err, stage) end
  return deadline.err
end

local function leave_deadline(record, outer, ok, ...)
  record.deadline = outer
  if record.is_plain and not outer then records[running()] = nil end
  if not ok then error((...), 0) end
  return ...
end

function M.with_deadline(_, seconds, err, where, fn, ...)
  local record = current()
  if not record then
    record = setmetatable({ co = running(), request = host.request(), is_plain = true }, Record)
    records[record.co] = record
  end
  local outer, at = record.deadline, now() + seconds
  if outer and not outer.fired and outer.at <= at then return fn(...) end
  record.deadline = { at = at, err = err, where = where, fired = false }
  return leave_deadline(record, outer, pcall(fn, ...))
end

-- waiting -------------------------------------------------------------------------------------------------

--- Ends a wait that has begun and that nothing has woken.
function M.leave(waiter)
  waiter.co = nil
  if waiter.record then waiter.record.waiter = false end
end

--- Ends a wait by an error.
function M.abandon(waiter, err)
  M.leave(waiter)
  if waiter.conn then waiter.conn:abandon(waiter) end
  if waiter.abandon then waiter.abandon(waiter) end
  error(err, 0)
end

--- Begins a wait: from now on the waiter may be woken. Raises when its task was cancelled before.
---@return redio.ThreadRecord? record
function M.begin(waiter)
  local record = current()
  local err = take_cancel(record)
  if err then M.abandon(waiter, err) end
  waiter.co, waiter.record = running(), record
  if record then record.waiter = waiter end
  return record
end

--- The values that a waiter was woken with.
function M.woken(waiter)
  local values, record = waiter.values, waiter.record
  if record then record.waiter = false end
  return unpack(values, 1, values.n)
end
local woken = M.woken

-- Raises when the wait is cancelled or out of time.
local function check(waiter)
  local cause, record = waiter.cancelled, waiter.record
  if cause then M.abandon(waiter, cause.err) end
  local err = record and record:overdue(waiter.conn and waiter.conn:stage_of(waiter) or waiter.stage)
  if err then M.abandon(waiter, err) end
end

--- Lets others run until the waiter is woken or nudged, or for so many seconds. Raises when the wait is cancelled or
--- out of time.
---@param most number? seconds
function M.idle(waiter, most)
  local record = waiter.record
  local seconds = record and record:left() or FOREVER
  if most and most < seconds then seconds = most end
  waiter.semaphore = waiter.semaphore or host.semaphore()
  -- (The clock and the semaphore count milliseconds: less than one would be no wait at all.)
  waiter.semaphore:wait(math.min(FOREVER, math.max(0.001, seconds)))
  if not waiter.values then check(waiter) end
end

-- LuaJIT's compiled code leaves old values in stack slots that it does not need. As long as the wait lasts, these would
-- keep connections that were dropped.
lua_version.interpreted(M.idle)

function M.wait(waiter)
  M.begin(waiter)
  while not waiter.values do
    M.idle(waiter)
  end
  return woken(waiter)
end

--- Ends the waiter's `idle`: its wait looks again.
function M.nudge(waiter)
  if waiter.semaphore then waiter.semaphore:post(1) end
end

--- Lets `is_dead` and `wake` find out that the program has ended the waiting thread.
function M.watch(waiter)
  waiter.thread, waiter.request = waiter.co, host.request()
end

function M.is_dead(waiter)
  return waiter.thread ~= nil and waiter.request == host.request() and status(waiter.thread) == "dead"
end

function M.wake(waiter, ...)
  if not waiter.co or M.is_dead(waiter) then return false end
  waiter.co, waiter.values = nil, pack(...)
  M.nudge(waiter)
  return true
end

-- Waits on a semaphore, which a cancel or a deadline ends.
local function pause(seconds)
  local waiter, at = {}, now() + seconds
  M.begin(waiter)
  repeat
    M.idle(waiter, at - now())
  until now() >= at - AN_INSTANT
  M.leave(waiter)
end

function M.sleep(seconds)
  if current() then return pause(seconds) end
  return host.sleep(seconds)
end

-- tasks ---------------------------------------------------------------------------------------------------

-- The host keeps a light thread that has ended until the thread that started it reaps it, or ends. So each task that
-- has ended is in a list of its owner, the coroutine that started it. The request holds these lists: a task may well
-- refer to its owner, and on LuaJIT any other table, however weak its keys, would then keep both for ever.
local function ended_of(owner)
  local storage = host.storage()
  local families = storage.families or {}
  local list = families[owner] or {}
  storage.families, families[owner] = families, list
  return list
end

-- Only the owner may call it.
local function reap(list)
  for i = #list, 1, -1 do
    local thread = list[i].thread
    list[i].thread, list[i] = nil, nil
    if thread then host.reap(thread) end
  end
end

local function body(task, list, fn, args)
  local co = running()
  task.co, records[co] = co, task
  if task.unstarted then
    host.sleep(0) -- behind the caller's next steps
    task.unstarted = false
  end
  if not task.done then task:run(fn, args) end
  records[co] = nil
  list[#list + 1] = task
end

function M.start(task, fn, args)
  if not isyieldable() then error(host.cannot_wait(), 3) end
  local list = ended_of(running())
  reap(list)
  task.request = host.request()
  local ok, thread = pcall(host.spawn, body, task, list, fn, args)
  if not ok then error(host.cannot_wait(), 3) end
  task.thread = thread
end

function M.spawn(task, fn, args)
  task.unstarted = true
  return M.start(task, fn, args)
end

-- Ends the light thread of a task that waits for the server. Not one that has threads of its own to reap or a writer
-- beside it: the host would keep those for ever, and the request with them.
local function kill(task)
  local conn = task.conn
  if not conn or conn.writer or not task.thread or #ended_of(task.co) > 0 then return false end
  if not host.kill(task.thread) then return false end
  task.thread = nil
  conn:close "its command was cancelled"
  return true
end

function Record:interrupt(cause)
  local waiter = self.waiter
  if waiter and waiter.co and waiter.semaphore then
    waiter.co, waiter.cancelled = nil, cause
    M.nudge(waiter)
  elseif kill(self) then
    return true
  else
    self.pending = cause
  end
end

-- the main coroutine --------------------------------------------------------------------------------------

function M.block()
  error(host.cannot_wait(), 3)
end

-- The host's log takes strings: of any other error it would have only that there was one.
local function logged(err)
  local failure = uncaught.failure(err, debug.traceback("", 2):sub(2))
  if type(failure.raised) ~= "string" then host.uncaught(failure.err, failure.trace) end
  return failure
end

local function results(ok, ...)
  if ok then return ... end
  local failure = ...
  error(type(failure) == "table" and failure.raised or failure, 0)
end

function M.run(_, fn, ...)
  return results(xpcall(fn, logged, ...))
end

return M
