-- SPDX-License-Identifier: MIT
-- Tasks where the host alone may resume: each is a light thread of the host's. The same functions as in task.lua.
--
-- Whoever waits does it himself, on a semaphore or on his own socket. So a deadline is looked at before each wait,
-- which lasts no longer than that; it is raised where the wait was.

local check = require "redio.check"
local compat = require "redio.compat"
local errors = require "redio.errors"
local text = require "redio.text"
local transports = require "redio.transport"

local host = transports.default()
local now, running, isyieldable = host.now, coroutine.running, compat.isyieldable
local pack, unpack = compat.pack, compat.unpack

local M = {
  can_wait = isyieldable,
  cancelling = 0, -- how many tasks are to be cancelled when they next wait
}

local CANCEL = {}
M.CANCEL = CANCEL

-- coroutine -> task, while it runs. A request that is aborted leaves its own behind, and the host lets the same
-- coroutine serve another request: so each knows its request.
local tasks = setmetatable({}, { __mode = "kv" })

local FOREVER = 1000000 -- seconds: what a semaphore takes

---@class redio.Task
local Task = {}
Task.__index = Task

local function cancelled_error()
  return errors.new("CancelledError", "the task was cancelled")
end

--- The running task; nil in a coroutine that is none and has no deadline.
function M.current()
  local co = running()
  local task = tasks[co]
  if not task or task._request == host.request() then return task end
  tasks[co] = nil
end

local function new_task(task)
  task._done, task._request = false, host.request()
  return setmetatable(task, Task)
end

--- Raises in a task that was cancelled while it was not waiting.
function M.check_cancelled()
  local task = M.current()
  if task and task:_is_cancelled() then error(M.interrupted(), 0) end
end

--- Whether the task is to end before it waits for what it has just asked for.
function Task:_is_cancelled()
  if not self._cancel then return false end
  self._cancel = nil
  M.cancelling = M.cancelling - 1
  self._raised = self._reason or cancelled_error()
  return true
end

--- What to raise for a wait that has ended with CANCEL.
function M.interrupted()
  local task = M.current()
  local err = task and task._raised
  if err then task._raised = nil end
  return err or cancelled_error()
end

--- Nothing is woken here from outside.
function M.abandon_chain() end

-- deadlines -----------------------------------------------------------------------------------------------

--- Seconds that the task may still wait; nil: as long as it likes.
function Task:_left()
  local deadline = self._deadline
  return deadline and not deadline.fired and deadline.at - now() or nil
end

--- The error of the deadline, once, when it has passed; `stage` is what is being waited for.
function Task:_overdue(stage)
  local deadline = self._deadline
  if not deadline or deadline.fired or deadline.at - now() > 0.0005 then return nil end
  deadline.fired = true
  if deadline.where then deadline.where(deadline.err, stage) end
  return deadline.err
end

local function leave_deadline(task, outer, ok, ...)
  task._deadline = outer
  if task._plain and not outer then tasks[running()] = nil end
  if not ok then error((...), 0) end
  return ...
end

--- Runs `fn(...)` in this coroutine; once `seconds` are over, `err` is raised where it waits; `where(err, stage)`, if
--- given, is told before what it waits for.
function M.with_deadline(_, seconds, err, where, fn, ...)
  local task = M.current()
  if not task then
    task = new_task { _co = running(), _plain = true }
    tasks[task._co] = task
  end
  local outer, at = task._deadline, now() + seconds
  if outer and not outer.fired and outer.at <= at then return fn(...) end
  task._deadline = { at = at, err = err, where = where, fired = false }
  return leave_deadline(task, outer, pcall(fn, ...))
end

-- waiting -------------------------------------------------------------------------------------------------

--- Marks the waiter as one that may be woken.
function M.begin(waiter)
  if M.cancelling > 0 then M.check_cancelled() end
  local task = M.current()
  waiter.co, waiter.task = running(), task
  if task then task._waiter = waiter end
  return task
end

-- What a waiter that was woken has got.
local function woken(waiter)
  local values, task = waiter.values, waiter.task
  if task then task._waiter = nil end
  return unpack(values, 1, values.n)
end
M.woken = woken

--- Ends a wait in any other way.
function M.abandon(waiter, err)
  waiter.co = nil
  if waiter.task then waiter.task._waiter = nil end
  if waiter.conn then waiter.conn:abandon(waiter) end
  if waiter.abandon then waiter.abandon(waiter) end
  error(err, 0)
end

-- (The clock and the semaphore count milliseconds: less than one would be no wait at all.)
local function pause(waiter, seconds)
  waiter.semaphore:wait(math.min(FOREVER, math.max(0.001, seconds)))
end

--- Lets others run until the waiter is woken or nudged; raises when it is cancelled or out of time.
function M.idle(waiter)
  local task = waiter.task
  waiter.semaphore = waiter.semaphore or host.semaphore()
  pause(waiter, task and task:_left() or FOREVER)
  if waiter.values then return end
  if waiter.cancelled then M.abandon(waiter, task._reason or cancelled_error()) end
  local err = task and task:_overdue(waiter.conn and waiter.conn:stage_of(waiter) or waiter.stage)
  if err then M.abandon(waiter, err) end
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

--- Lets who waits look again.
function M.nudge(waiter)
  if waiter.semaphore then waiter.semaphore:post(1) end
end

--- Wakes who waits; does nothing when nobody does (any more). He runs when the host comes to it.
function M.wake(waiter, ...)
  if not waiter.co then return end
  waiter.co, waiter.values = nil, pack(...)
  M.nudge(waiter)
end

--- Nothing can be waited for on the main coroutine, nor where the host forbids it.
function M.block()
  error(host.cannot_wait(), 3)
end

-- tasks ---------------------------------------------------------------------------------------------------

-- The error of a task that nobody has joined when it is dropped reaches the host.
local function keep_error(task)
  local box = { err = task._first }
  task._error = box
  task._guard = compat.finalizer(function()
    if not box.joined then host.uncaught(box.err) end
  end)
end

local function close_task(task, ok, ...)
  task._done, task._ok, task._first, task._values = true, ok, (...), pack(...)
  task._waiter = nil
  if task._cancel then
    task._cancel = nil
    M.cancelling = M.cancelling - 1
  end
  local joiners = task._joiners
  task._joiners = nil
  return joiners
end

local function finish(task, ok, ...)
  if task._done then return end
  local joiners = close_task(task, ok, ...)
  if task._on_end then task._on_end(task) end
  if joiners then
    for i = 1, #joiners do
      M.wake(joiners[i])
    end
  elseif not ok and not task._joined and not errors.is((...), "CancelledError") then
    keep_error(task)
  end
end

local function traced(err)
  if type(err) == "string" then return debug.traceback(err, 2) end
  if errors.is(err) and not rawget(err, "traceback") then rawset(err, "traceback", debug.traceback("", 2):sub(2)) end
  return err
end

local function body(task, fn, ...)
  local co = running()
  task._co, tasks[co] = co, task
  if task._unstarted then
    host.sleep(0) -- behind what the one who started it still does
    if task._done then return end
    task._unstarted = false
  end
  finish(task, xpcall(fn, traced, ...))
  tasks[co] = nil
end

-- Lets go of the threads of those that have ended.
local function reap(list)
  local kept = 0
  for i = 1, #list do
    local task = list[i]
    list[i] = nil
    if not task._done then
      kept = kept + 1
      list[kept] = task
    elseif task._thread then
      host.reap(task._thread)
      task._thread = nil
    end
  end
end

-- The tasks that the caller has started and whose threads are still there; where he is no task, by his coroutine.
local families = setmetatable({}, { __mode = "k" })

local function family()
  local owner = M.current() or running()
  local list, request = families[owner], host.request()
  if not list or list.request ~= request then
    list = { request = request }
    families[owner] = list
  end
  reap(list)
  return list
end

local function start(task, fn, ...)
  if not isyieldable() then M.block() end
  local list = family()
  local ok, thread = pcall(host.spawn, body, task, fn, ...)
  if not ok then error(host.cannot_wait(), 3) end
  task._thread = thread
  list[#list + 1] = task
  return task
end

function Task:_result()
  self._joined = true
  if self._error then self._error.joined = true end
  if not self._ok then error(self._first, 0) end
  return unpack(self._values, 1, self._values.n)
end

--- Waits until the task has ended.
---@return any ... what its function returned
--- Raises what its function raised; CancelledError when it was cancelled.
function Task:await()
  if self._done then return self:_result() end
  if not isyieldable() then return M.block() end
  if self._co == running() then error("a task cannot await itself", 2) end
  local joiner = {}
  self._joiners = self._joiners or {}
  table.insert(self._joiners, joiner)
  joiner.abandon = function()
    for i, other in ipairs(self._joiners or {}) do
      if other == joiner then
        table.remove(self._joiners, i)
        break
      end
    end
  end
  M.wait(joiner)
  return self:_result()
end

-- Whether threads that have ended would stay behind for ever, and the request with them.
local function has_dead_children(task)
  local list = families[task] or {}
  for i = 1, #list do
    if list[i]._done then return true end
  end
  return false
end

-- Ends the task's light thread where it waits for the server; what follows in it does not run.
local function kill(task)
  local conn = task._conn
  if not conn or conn._writer or not task._thread or has_dead_children(task) then return false end
  if not host.kill(task._thread) then return false end
  task._thread = nil
  conn:close "its command was cancelled"
  finish(task, false, task._reason or cancelled_error())
  return true
end

--- Ends the task. Where it waits for other tasks, for a time or for a message of a receiver that another reads,
--- `CancelledError` is raised. Where it waits for the server, and the caller has started it, its light thread ends
--- without another line of it being run. Else it gets the error when it next waits.
---@return boolean cancelled false when it had ended before
function Task:cancel(reason)
  if self._done then return false end
  self._reason = reason or self._reason
  local waiter = self._waiter
  if self._unstarted then
    finish(self, false, self._reason or cancelled_error())
  elseif waiter and waiter.co and waiter.semaphore then
    waiter.co, waiter.cancelled = nil, true
    M.nudge(waiter)
  elseif not kill(self) and not self._cancel then
    self._cancel = true
    M.cancelling = M.cancelling + 1
  end
  return true
end

--- "running" (it is the caller), "waiting", "done", "failed" or "cancelled".
function Task:status()
  if not self._done then return self._co == running() and "running" or "waiting" end
  if self._ok then return "done" end
  return errors.is(self._first, "CancelledError") and "cancelled" or "failed"
end

-- public functions ----------------------------------------------------------------------------------------

-- Of an error that is no string the host's log has only that there was one.
local function logged(err)
  err = traced(err)
  if type(err) ~= "string" then host.uncaught(err) end
  return err
end

local function results(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

--- Calls `fn(...)`: the loop runs already.
---@return any ... what fn returned; raises its error, after it was logged where it is an object
function M.run(fn, ...)
  check.callable(fn, 1, "run", 2)
  return results(xpcall(fn, logged, ...))
end

--- Starts a task beside this one.
---@return redio.Task
function M.spawn(fn, ...)
  check.callable(fn, 1, "spawn", 2)
  return start(new_task { _unstarted = true }, fn, ...)
end

--- Starts a task of a group at once; `on_end(task)` hears of its end, and of its error nobody else.
function M.start_member(fn, on_end)
  return start(new_task { _joined = true, _on_end = on_end }, fn)
end

--- Waits for so many seconds.
function M.sleep(s)
  check.seconds(s, 1, "sleep", 2)
  if not isyieldable() then return M.block() end
  if not M.current() then return host.sleep(s) end
  local waiter = {}
  local task, at = M.begin(waiter), now() + s
  waiter.semaphore = host.semaphore()
  repeat
    pause(waiter, math.min(at - now(), task:_left() or FOREVER))
    if waiter.cancelled then M.abandon(waiter, task._reason or cancelled_error()) end
    local err = task:_overdue()
    if err then M.abandon(waiter, err) end
  until now() >= at - 0.0005
  waiter.co, task._waiter = nil, nil
end

--- Runs `fn(...)` for at most so many seconds.
---@return any ... what fn returned; raises TimeoutError when time ran out, where it waits for redio
function M.with_timeout(s, fn, ...)
  check.seconds(s, 1, "with_timeout", 2)
  check.callable(fn, 2, "with_timeout", 2)
  if not isyieldable() then return M.block() end
  local err = errors.new("TimeoutError", ("not done within %g s"):format(s))
  return M.with_deadline(host, s, err, nil, fn, ...)
end

--- The error of a coroutine that nobody waits for.
function M.ended_by(_, err)
  host.uncaught(text.of_error(err))
end

M.busy = {}

return M
