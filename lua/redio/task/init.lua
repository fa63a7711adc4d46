-- SPDX-License-Identifier: MIT
-- Tasks: functions that run beside others, and that can be joined and cancelled.
--
-- This file has the states, the texts and the rules of a task. Parking is the part that differs between hosts: how a
-- task starts, waits and is interrupted. It is task/coroutines.lua where a loop calls back, and task/threads.lua where
-- the host alone may resume a coroutine, as the transport says. The functions of the host's parking are read through
-- this module (`task.wait`), also those of its own that the interface below does not have.
-- Specs: unit/task, unit/parking, promises/05, promises/29, hosts/nginx/tasks, hosts/nginx/uncaught

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local transports = require "redio.transport"
local uncaught = require "redio.task.uncaught"

--- The interface of both ways of parking. spec/unit/parking_spec.lua compares them with it.
---
--- A waiter is a table of the caller's. While it waits, `waiter.co` is its coroutine. `waiter.abandon(waiter)`, if
--- there is one, is called when the wait ends in any other way than by `wake`. `waiter.stage` says in words what it
--- waits for.
---@class redio.Parking
---@field Record redio.Record the class of records, from which tasks inherit
---@field CANCEL table the first result of a wait for a reply that a cancel or a deadline has ended
---@field cancelling integer above 0 a chain has to call `check_cancelled` before it is submitted
--- Starts `task:run(fn, args)` in a coroutine of its own, sets `task.co`, and runs it until it first waits. `args` is
--- packed, or false.
---@field start fun(task: redio.Task, fn: function, args: table|false)
--- The same, but it runs after the caller's next steps. Until then `task.unstarted` is true.
---@field spawn fun(task: redio.Task, fn: function, args: table|false)
--- Parks the running coroutine until `wake(waiter, ...)`, and returns the values of `wake`. Raises when it is
--- interrupted.
---@field wait fun(waiter: table): ...
--- Wakes the coroutine that waits with this waiter. Returns false when none does.
---@field wake fun(waiter: table, ...): boolean
--- True when the coroutine `waiter.thread` has ended, as far as that can be seen.
---@field is_dead fun(waiter: table): boolean
--- Waits for so many seconds.
---@field sleep fun(seconds: number)
--- The error to raise after a wait for a reply that has returned a token which is none of the core's.
---@field interrupted fun(token: any): any
--- Raises in the running coroutine what was to interrupt it while it did not wait for redio.
---@field check_cancelled fun()
--- Runs `fn(...)` in the running coroutine. After `seconds`, `err` is raised where it waits. `where(err, stage)`, if
--- given, is called before that.
---@field with_deadline fun(transport: table?, seconds: number, err: any, where: function?, fn: function, ...): ...
--- Runs `fn(...)` for a caller that cannot wait: in a task that `start(fn, ...)` makes, while the loop runs. Raises
--- where that cannot be.
---@field block fun(start: function, transport: table?, fn: function, ...): ...
--- Does the work of `redio.run` likewise.
---@field run fun(start: function, fn: function, ...): ...

--- The part of a task that parking knows. A coroutine that is no task has a record, too, while it has a deadline.
---@class redio.Record
---@field co thread|false
---@field waiter table|false the last one that it has waited with
---@field pending any|false the interruptions that are still to be raised
--- Has `cause.err` raised where the coroutine waits. If it does not wait for redio just now, its next wait raises it.
--- Returns true when the coroutine was ended instead, and runs no further.
---@field interrupt fun(self: redio.Record, cause: table): boolean?
--- True while an interruption is still to be raised.
---@field is_pending fun(self: redio.Record, cause: table): any
--- Forgets the interruptions that are still to be raised.
---@field withdraw_all fun(self: redio.Record)

---@type redio.Parking
local parking = require(transports.tasks() or "redio.task.coroutines")

local running, isyieldable = coroutine.running, lua_version.isyieldable
local pack, unpack = lua_version.pack, lua_version.unpack
local start, spawn, wait, wake = parking.start, parking.spawn, parking.wait, parking.wake

---@class redio.TaskModule: redio.Parking
local M = setmetatable({}, { __index = parking })

---@class redio.Task: redio.Record
---@field done boolean it has ended
---@field first any its first result, or its error
---@field unstarted any|false it has not begun to run
---@field joined boolean? its error is known to what has started or awaited it
local Task = {}
Task.__index = Task

for name, method in pairs(parking.Record) do
  if name ~= "__index" then Task[name] = method end
end

-- The fields that every task has are there from the start, so that its table never grows.
local function new_task()
  return setmetatable({
    co = false, done = false, waiter = false, pending = false, unstarted = false,
    first = false, _ok = false, _values = false, _joiner = false,
  }, Task)
end

--- True when the caller can wait. Else `block` can call it.
M.can_wait = isyieldable

M.on_uncaught = uncaught.on_uncaught

-- the end of a task ---------------------------------------------------------------------------------------

-- True when the error that has ended the task is the one that a cancel has raised.
local function is_cancelled(task, err)
  return errors.is(err, "CancelledError") or (task._cause ~= nil and rawequal(err, task._cause.err))
end

local NOTHING = pack()

-- Stores the results, nearly always one, or else a list, and wakes the joiners. Returns true when a joiner or `on_end`
-- takes an error, or when the starter does.
local function finish(task, ok, ...)
  task.done, task._ok, task.first, task.waiter = true, ok, (...), false
  local count = select("#", ...)
  if count ~= 1 then task._values = count == 0 and NOTHING or pack(...) end
  if task.pending then task:withdraw_all() end
  local is_heard = task._on_end and task._on_end(task, ok)
  local joiner, more = task._joiner, task._joiners
  if joiner then
    task._joiner, task._joiners = false, nil
    is_heard = wake(joiner) or is_heard
    while more and more:count() > 0 do
      is_heard = wake(more:pop()) or is_heard
    end
  end
  return is_heard or task.joined
end

-- Reports the error that has ended a task.
local function report(task)
  local failure = task._failure
  if is_cancelled(task, failure.err) then return end
  if task._on_end then uncaught.tell(failure) else uncaught.keep(failure) end
end

--- Ends the task by an error. For its parking.
function Task:fail(failure)
  self._failure = failure
  if not finish(self, false, failure.raised) then report(self) end
end

-- The message handler. The traceback leaves out what is below `run`.
local function traced(err)
  local trace = debug.traceback("", 2):sub(2)
  return uncaught.failure(err, (trace:gsub("\n\t%[C%]: in function 'xpcall'\n[^\n]*redio.task.init%.lua:%d+: .*$", "")))
end

local function ended(task, ok, ...)
  if ok then
    finish(task, true, ...)
  else
    local failure = ... -- (a string, when memory for the table ran out)
    task:fail(type(failure) == "table" and failure or uncaught.failure(failure))
  end
end

--- Calls the task's function, and ends the task with its results. For its parking, in the task's coroutine.
function Task:run(fn, args)
  if not args then return ended(self, xpcall(fn, traced)) end
  ended(self, xpcall(fn, traced, unpack(args, 1, args.n)))
end

--- Closing a variable that holds a task cancels the task. The task's own coroutine closes it as well, when it is
--- closed.
function Task:__close()
  if self.done then return end
  if self.co ~= running() then return self:cancel() end
  self:fail(uncaught.failure(errors.new("CancelledError", "the task's coroutine was closed")))
end

-- waiting for a task --------------------------------------------------------------------------------------

--- The results of a task that has ended. Raises its error.
function Task:result()
  if not self._ok then
    self.joined = true
    if self._failure then uncaught.heard(self._failure) end
    error(self.first, 0)
  end
  local values = self._values
  if not values then return self.first end
  return unpack(values, 1, values.n)
end

-- Nearly always there is one joiner. More are in a queue.
local function add_joiner(task, joiner)
  if not task._joiner then
    task._joiner = joiner
  else
    task._joiners = task._joiners or queue.new()
    task._joiners:enter(joiner)
  end
end

local function stop_joining(joiner)
  local task = joiner.task
  local more = task._joiners
  if task.done then -- the joiner was woken, but it is closed before it runs
    if task._failure and not task.joined then report(task) end
  elseif task._joiner == joiner then
    task._joiner = more and more:pop() or false
  elseif more then
    more:leave(joiner)
  end
end

--- Waits until the task has ended.
---@return any ... what its function returned
--- Raises what its function raised; CancelledError when it was cancelled.
function Task:await()
  if not self.done then
    if not isyieldable() then return M.block(nil, self.await, self) end
    if self.co == running() then error("a task cannot await itself", 2) end
    local joiner = { co = false, task = self, abandon = stop_joining }
    add_joiner(self, joiner)
    wait(joiner)
  end
  return self:result()
end

--- Ends the task where it waits: there `CancelledError` is raised. A task that does not wait for redio just now gets
--- the error when it next does. In nginx a task that waits for the server ends without another line of it being run,
--- if the caller has started it. A task that has ended stays as it is.
---@param reason any? raised instead
---@return boolean cancelled false: it had ended before
function Task:cancel(reason)
  if self.done then return false end
  local cause = self._cause
  if cause and self:is_pending(cause) then return true end
  cause = { err = reason or errors.new("CancelledError", "the task was cancelled") }
  self._cause = cause
  if self.unstarted or self:interrupt(cause) then finish(self, false, cause.err) end
  return true
end

--- "running" (it is the caller), "waiting", "done", "failed" or "cancelled".
function Task:status()
  if not self.done then return self.co == running() and "running" or "waiting" end
  if self._ok then return "done" end
  return is_cancelled(self, self._failure and self._failure.err or self.first) and "cancelled" or "failed"
end

-- starting tasks ------------------------------------------------------------------------------------------

--- Starts a task beside this one.
---@return redio.Task
function M.spawn(fn, ...)
  arg_check.callable(fn, 1, "spawn", 2)
  local task = new_task()
  spawn(task, fn, select("#", ...) > 0 and pack(...))
  return task
end

--- Starts a task of a group at once. At its end `on_end(task, ok)` is called, and returns true where an error of the
--- task is known. An error that is not is reported.
function M.start_member(fn, on_end)
  local task = new_task()
  task._on_end = on_end
  start(task, fn, false)
  return task
end

-- Starts a task at once. Its error is raised by its starter.
local function start_joined(fn, ...)
  local task = new_task()
  task.joined = true
  start(task, fn, select("#", ...) > 0 and pack(...))
  return task
end

--- Runs `fn(...)` where the caller cannot wait: in a coroutine, while the loop runs.
---@param transport table? the default one when nil
function M.block(transport, fn, ...)
  return parking.block(start_joined, transport, fn, ...)
end

--- Runs `fn(...)` as a task and the host's loop until it has ended. Inside a running loop it just calls `fn`.
---@return any ... what fn returned; raises its error, a string with the traceback
function M.run(fn, ...)
  arg_check.callable(fn, 1, "run", 2)
  return parking.run(start_joined, fn, ...)
end

-- time ----------------------------------------------------------------------------------------------------

--- Waits for so many seconds.
function M.sleep(s)
  arg_check.seconds(s, 1, "sleep", 2)
  if not isyieldable() then return M.block(nil, M.sleep, s) end
  return parking.sleep(s)
end

--- Runs `fn(...)` for at most so many seconds.
---@return any ... what fn returned; raises TimeoutError when time ran out, after cancelling it where it waited
function M.with_timeout(s, fn, ...)
  arg_check.seconds(s, 1, "with_timeout", 2)
  arg_check.callable(fn, 2, "with_timeout", 2)
  if not isyieldable() then return M.block(nil, M.with_timeout, s, fn, ...) end
  local err = errors.new("TimeoutError", ("not done within %g s"):format(s))
  return parking.with_deadline(nil, s, err, nil, fn, ...)
end

return M
