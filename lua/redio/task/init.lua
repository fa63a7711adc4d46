-- SPDX-License-Identifier: MIT
-- Tasks: coroutines that can be joined and cancelled; and running the loop. How they wait is in park.lua.
-- Specs: unit/task, unit/parking, promises/29

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local transports = require "redio.transport"

local light = transports.tasks()
if light then return light end -- the host alone may resume: its tasks, with the same functions

local deadline = require "redio.task.deadline"
local park = require "redio.task.coroutines"
local uncaught = require "redio.task.uncaught"

local create, running, isyieldable = coroutine.create, coroutine.running, lua_version.isyieldable
local pack, unpack = lua_version.pack, lua_version.unpack
local resume, records = park.resume, park.records

local M = park -- and what tasks add to it

M.after_reading, M.with_deadline, M.on_uncaught = deadline.after_reading, deadline.with_deadline, uncaught.on_uncaught

local host -- the default transport, looked up when it is first needed

local function default_host()
  host = host or transports.default()
  return host
end

---@class redio.Task
local Task = {}
Task.__index = Task

local function cancelled_error()
  return errors.new("CancelledError", "the task was cancelled")
end

--- Whether the caller can wait; when not, it is to be run by `block`.
M.can_wait = isyieldable

-- the end of a task -----------------------------------------------------------------------------------------

-- Its fields are all there from the start, but for rare ones, so that its table never grows.
local function new_task(co, unstarted)
  local task = setmetatable({
    _co = co, _done = false, _ok = false, _first = false, _values = false, _joiner = false, _waiter = false,
    _pending = false, _unstarted = unstarted,
  }, Task)
  records[co] = task
  return task
end

local NOTHING = pack()

-- Its results: one, as most have, or a list.
local function finish(task, ok, ...)
  task._done, task._ok, task._first, task._waiter = true, ok, (...), false
  local count = select("#", ...)
  if count ~= 1 then task._values = count == 0 and NOTHING or pack(...) end
  if task._pending then park.withdraw_all(task) end
  local is_heard = task._on_end and task._on_end(task)
  local joiner, more = task._joiner, task._joiners
  if joiner then
    task._joiner, task._joiners = false, nil
    M.wake(joiner)
    if more then more:drain(M.wake) end
  end
  return is_heard or task._joined
end

-- True when it has ended because it was cancelled.
local function is_cancelled(task, err)
  return errors.is(err, "CancelledError") or (task._cause ~= nil and rawequal(err, task._cause.err))
end

-- It has ended by an error.
local function fail(task, failure)
  task._failure = failure
  if finish(task, false, failure.raised) or is_cancelled(task, failure.err) then return end
  if task._on_end then uncaught.tell(failure) else uncaught.keep(failure) end
end

-- The traceback from where this is called as a message handler, without what is below `run`.
local function traced(err)
  local trace = debug.traceback("", 2):sub(2)
  return uncaught.failure(err, (trace:gsub("\n\t%[C%]: in function 'xpcall'\n[^\n]*redio.task.init%.lua:%d+: .*$", "")))
end

local function ended(task, ok, ...)
  if ok then
    finish(task, true, ...)
  else
    local failure = ...
    -- (no memory for what is known of it)
    fail(task, type(failure) == "table" and failure or uncaught.failure(failure))
  end
end

local function run(task, fn, ...)
  ended(task, xpcall(fn, traced, ...))
end

--- As a variable that is closed a task is cancelled; its own coroutine closes it when it is closed itself.
function Task:__close()
  if self._done then return end
  if self._co ~= running() then return self:cancel() end
  fail(self, uncaught.failure(errors.new("CancelledError", "the task's coroutine was closed")))
end

local body = lua_version.close_coroutine and function(task, ...)
  lua_version.when_closed(task, run, task, ...)
end or run

local function close(co, err)
  if not lua_version.close_coroutine then return end
  local ok, other = lua_version.close_coroutine(co)
  if not ok and not rawequal(other, err) then uncaught.tell(uncaught.failure(other)) end
end

--- Sees to the error that a coroutine has ended with: its variables are closed, and the error reported.
function M.ended_by(co, err)
  local failure = uncaught.failure(err, debug.traceback(co))
  local task = records[co]
  local is_task = getmetatable(task) == Task
  if is_task and not task._done then fail(task, failure) end
  close(co, err)
  if not is_task then uncaught.tell_now(failure) end
end

-- waiting for a task ----------------------------------------------------------------------------------------

--- Its results; raises its error.
function Task:_result()
  if not self._ok then
    self._joined = true
    if self._failure then uncaught.heard(self._failure) end
    error(self._first, 0)
  end
  local values = self._values
  if not values then return self._first end
  return unpack(values, 1, values.n)
end

-- Nearly always there is one joiner; more are in a queue.
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
  if task._joiner == joiner then
    task._joiner = more and more:pop() or false
  elseif more then
    more:leave(joiner)
  end
end

--- Waits until the task has ended.
---@return any ... what its function returned
--- Raises what its function raised; CancelledError when it was cancelled.
function Task:await()
  if not self._done then
    if not isyieldable() then return M.block(nil, self.await, self) end
    if self._co == running() then error("a task cannot await itself", 2) end
    local joiner = { co = false, task = self, abandon = stop_joining }
    add_joiner(self, joiner)
    M.wait(joiner)
  end
  return self:_result()
end

--- Ends the task where it waits: there `CancelledError` is raised. A task that is not waiting just now gets it
--- when it next waits. Once ended, it stays as it ended.
---@param reason any? raised instead
---@return boolean cancelled false when it had ended before
function Task:cancel(reason)
  if self._done then return false end
  local cause = self._cause
  if cause and park.is_pending(self, cause) then return true end
  cause = { err = reason or cancelled_error() }
  self._cause = cause
  if self._unstarted then
    finish(self, false, cause.err)
  else
    park.interrupt(self, cause)
  end
  return true
end

--- "running" (it is the caller), "waiting", "done", "failed" or "cancelled".
function Task:status()
  if not self._done then return self._co == running() and "running" or "waiting" end
  if self._ok then return "done" end
  return is_cancelled(self, self._failure and self._failure.err or self._first) and "cancelled" or "failed"
end

-- running ---------------------------------------------------------------------------------------------------

-- Runs the loop until the task that it starts has ended; the task, and whether it has.
local function run_loop(transport, fn, ...)
  local co = create(body)
  local task = new_task(co, false)
  task._joined = true -- its error is raised here
  resume(co, task, fn, ...)
  local ended_so = transport.run(function()
    return task._done
  end)
  task._joined = ended_so
  return task, ended_so
end

local FOR_EVER = "this would wait for ever: the loop has nothing left to do"

--- Runs `fn(...)` in a coroutine and the loop until it ends. For the main coroutine, which cannot wait.
---@param transport table? the default one when nil
function M.block(transport, fn, ...)
  transport = transport or default_host()
  if transport.in_loop() then
    error("this would wait, but here nothing can: the loop is running and this is no coroutine that may yield; "
      .. "use coroutine.wrap, redio.spawn or redio.run", 3)
  end
  local task, ended_so = run_loop(transport, fn, ...)
  if not ended_so then error(FOR_EVER, 3) end
  return task:_result()
end

-- Errors that nothing awaited reach what runs the loop.
local function run_main(fn, ...)
  uncaught.begin_run()
  local task, ended_so = run_loop(default_host(), fn, ...)
  local failure = uncaught.end_run(ended_so and task._ok)
  if not ended_so then error(FOR_EVER, 2) end
  if failure then error(failure.raised, 0) end
  return task:_result()
end

--- Runs `fn(...)` as a task and the host's loop until it has ended. Inside a running loop it just calls it.
---@return any ... what fn returned; raises its error, a string with the traceback
function M.run(fn, ...)
  arg_check.callable(fn, 1, "run", 2)
  if default_host().in_loop() or isyieldable() then return fn(...) end
  return run_main(fn, ...)
end

local starting, starting_count = {}, 0 -- tasks for the next turn

local function start_spawned(task, fn)
  local args = task._args
  task._unstarted, task._args = false, nil
  if args then return resume(task._co, task, fn, unpack(args, 1, args.n)) end
  resume(task._co, task, fn)
end

local function start_all()
  local list, count = starting, starting_count
  starting, starting_count = {}, 0
  for i = 1, count do
    local task = list[i]
    if not task._done then start_spawned(task, task._unstarted) end
  end
end

--- Starts a task beside this one.
---@return redio.Task
function M.spawn(fn, ...)
  arg_check.callable(fn, 1, "spawn", 2)
  local task = new_task(create(body), fn)
  if select("#", ...) > 0 then task._args = pack(...) end
  starting_count = starting_count + 1
  starting[starting_count] = task
  if starting_count == 1 then default_host().defer(start_all) end
  return task
end

--- Starts a task of a group at once. `on_end(task)` is called at its end, and answers whether its error is known there;
--- an error that is not is reported.
function M.start_member(fn, on_end)
  local task = new_task(create(body), false)
  task._on_end = on_end
  resume(task._co, task, fn)
  return task
end

-- time ------------------------------------------------------------------------------------------------------

--- Waits for so many seconds.
function M.sleep(s)
  arg_check.seconds(s, 1, "sleep", 2)
  if not isyieldable() then return M.block(nil, M.sleep, s) end
  local transport = default_host()
  local waiter = {}
  if s == 0 then -- a turn of the loop, behind what is to start in it
    transport.defer(function()
      M.wake(waiter)
    end)
    return M.wait(waiter)
  end
  local timer = transport.start_timer(s, function()
    M.wake(waiter)
  end)
  waiter.abandon = function()
    transport.stop_timer(timer)
  end
  return M.wait(waiter)
end

--- Runs `fn(...)` for at most so many seconds.
---@return any ... what fn returned; raises TimeoutError when time ran out, after cancelling it where it waited
function M.with_timeout(s, fn, ...)
  arg_check.seconds(s, 1, "with_timeout", 2)
  arg_check.callable(fn, 2, "with_timeout", 2)
  if not isyieldable() then return M.block(nil, M.with_timeout, s, fn, ...) end
  local err = errors.new("TimeoutError", ("not done within %g s"):format(s))
  return M.with_deadline(default_host(), s, err, nil, fn, ...)
end

return M
