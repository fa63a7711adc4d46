-- SPDX-License-Identifier: MIT
-- Light threads that wait: parked, woken, cancelled, and out of time. Where the host alone may resume, nothing is
-- interrupted from outside: each thread waits on a semaphore or on its own socket, no longer than its deadline allows,
-- and looks afterwards at what has happened.
-- Specs: hosts/nginx/tasks, hosts/nginx/waits

local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local transports = require "redio.transport"

local host = transports.default()
local now, running, status = host.now, coroutine.running, coroutine.status
local pack, unpack = lua_version.pack, lua_version.unpack

local M = {
  CANCEL = {}, -- what a wait for a reply returns when it has ended otherwise
  cancelling = 0, -- (each wait looks at its own record)
}

-- coroutine -> its record, for those that are tasks or have a deadline. Weak, for a record knows its coroutine. A
-- request that is aborted leaves its own behind, and the host lets the same coroutine serve another request: so each
-- knows its request.
local records = setmetatable({}, { __mode = "kv" })
M.records = records

local FOREVER = 1000000 -- seconds: what a semaphore takes

---@class redio.LightRecord
local Record = {}
Record.__index = Record
M.Record = Record

--- The record of the running coroutine; nil when it is no task and has no deadline.
function M.current()
  local co = running()
  local record = records[co]
  if not record or record._request == host.request() then return record end
  records[co] = nil
end

-- cancelling ----------------------------------------------------------------------------------------------

function M.cancelled_error()
  return errors.new("CancelledError", "the task was cancelled")
end

-- The error of a cancel that is still to be raised, which is now.
local function take_cancel(record)
  local cause = record and record._pending
  if not cause then return nil end
  record._pending = nil
  return cause.err
end

--- Raises in a task that was cancelled while it did not wait for redio.
function M.check_cancelled()
  local err = take_cancel(M.current())
  if err then error(err, 0) end
end

--- Whether it is to end before it waits for what it has just asked for; `interrupted` has the error.
function Record:is_cancelled()
  local err = take_cancel(self)
  if not err then return false end
  self.raised = err
  return true
end

--- What to raise for a wait that has ended with CANCEL.
function M.interrupted()
  local record = M.current()
  local err = record and record.raised
  if err then record.raised = nil end
  return err or M.cancelled_error()
end

--- Nothing is woken here from outside.
function M.abandon_chain() end

-- deadlines -----------------------------------------------------------------------------------------------

--- Seconds that it may still wait; nil: as long as it likes.
function Record:left()
  local deadline = self._deadline
  return deadline and not deadline.fired and deadline.at - now() or nil
end

--- The error of the deadline, once, when it has passed; `stage` is what is being waited for.
function Record:overdue(stage)
  local deadline = self._deadline
  if not deadline or deadline.fired or deadline.at - now() > 0.0005 then return nil end
  deadline.fired = true
  if deadline.where then deadline.where(deadline.err, stage) end
  return deadline.err
end

local function leave_deadline(record, outer, ok, ...)
  record._deadline = outer
  if record._plain and not outer then records[running()] = nil end
  if not ok then error((...), 0) end
  return ...
end

--- Runs `fn(...)` in this coroutine; once `seconds` are over, `err` is raised where it waits; `where(err, stage)`, if
--- given, is told before what it waits for.
function M.with_deadline(_, seconds, err, where, fn, ...)
  local record = M.current()
  if not record then
    record = setmetatable({ _co = running(), _request = host.request(), _plain = true }, Record)
    records[record._co] = record
  end
  local outer, at = record._deadline, now() + seconds
  if outer and not outer.fired and outer.at <= at then return fn(...) end
  record._deadline = { at = at, err = err, where = where, fired = false }
  return leave_deadline(record, outer, pcall(fn, ...))
end

-- waiting -------------------------------------------------------------------------------------------------

--- Ends a wait that has begun, though nothing has woken it.
function M.leave(waiter)
  waiter.co = nil
  if waiter.task then waiter.task._waiter = nil end
end

--- Ends a wait by an error.
function M.abandon(waiter, err)
  M.leave(waiter)
  if waiter.conn then waiter.conn:abandon(waiter) end
  if waiter.abandon then waiter.abandon(waiter) end
  error(err, 0)
end

--- Marks the waiter as one that may be woken; raises when its task was cancelled before.
function M.begin(waiter)
  local record = M.current()
  local err = take_cancel(record)
  if err then M.abandon(waiter, err) end
  waiter.co, waiter.task = running(), record
  if record then record._waiter = waiter end
  return record
end

--- What a waiter that was woken has got.
function M.woken(waiter)
  local values, record = waiter.values, waiter.task
  if record then record._waiter = nil end
  return unpack(values, 1, values.n)
end
local woken = M.woken

-- Raises when it is to wait no longer.
local function check(waiter)
  local cause, record = waiter.cancelled, waiter.task
  if cause then M.abandon(waiter, cause.err) end
  local err = record and record:overdue(waiter.conn and waiter.conn:stage_of(waiter) or waiter.stage)
  if err then M.abandon(waiter, err) end
end

--- Lets others run until the waiter is woken or nudged, or so many seconds are over; raises when it is cancelled or out
--- of time.
---@param most number? seconds
function M.idle(waiter, most)
  local record = waiter.task
  local seconds = record and record:left() or FOREVER
  if most and most < seconds then seconds = most end
  waiter.semaphore = waiter.semaphore or host.semaphore()
  -- (The clock and the semaphore count milliseconds: less than one would be no wait at all.)
  waiter.semaphore:wait(math.min(FOREVER, math.max(0.001, seconds)))
  if not waiter.values then check(waiter) end
end

--- Waits until `wake(waiter, ...)`; returns what wake was given. The waiter is a table of the caller's; its
--- `abandon(waiter)`, and that of its connection `conn`, is called when the wait ends in any other way.
function M.wait(waiter)
  M.begin(waiter)
  while not waiter.values do
    M.idle(waiter)
  end
  return woken(waiter)
end

--- Waits for so many seconds, where the running coroutine has a record.
function M.pause(seconds)
  local waiter, at = {}, now() + seconds
  M.begin(waiter)
  repeat
    M.idle(waiter, at - now())
  until now() >= at - 0.0005
  M.leave(waiter)
end

--- Lets what waits look again.
function M.nudge(waiter)
  if waiter.semaphore then waiter.semaphore:post(1) end
end

--- From now on `is_dead` and `wake` find out when the waiting thread was ended by the program.
function M.watch(waiter)
  waiter.thread, waiter.request = waiter.co, host.request()
end

--- Whether it was ended, as far as that can be seen: in its own request, for a waiter that is watched.
function M.is_dead(waiter)
  return waiter.thread ~= nil and waiter.request == host.request() and status(waiter.thread) == "dead"
end

--- Wakes what waits, when the host comes to it; does nothing when nothing does (any more).
---@return boolean woken
function M.wake(waiter, ...)
  if not waiter.co or M.is_dead(waiter) then return false end
  waiter.co, waiter.values = nil, pack(...)
  M.nudge(waiter)
  return true
end

--- Has `cause.err` raised where it waits on a semaphore.
---@return boolean interrupted false: it does not wait on one
function M.interrupt(record, cause)
  local waiter = record._waiter
  if not waiter or not waiter.co or not waiter.semaphore then return false end
  waiter.co, waiter.cancelled = nil, cause
  M.nudge(waiter)
  return true
end

--- Nothing can be waited for on the main coroutine, nor where the host forbids it.
function M.block()
  error(host.cannot_wait(), 3)
end

return M
