-- SPDX-License-Identifier: MIT
-- Tasks where the host alone may resume: each is a light thread of the host's. The same functions as in task.lua.
-- Specs: hosts/nginx/tasks, hosts/nginx/linear

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local park = require "redio.task.threads"
local queue = require "redio.base.queue"
local transports = require "redio.transport"
local uncaught = require "redio.task.uncaught"

local host = transports.default()
local running, isyieldable = coroutine.running, lua_version.isyieldable
local pack, unpack = lua_version.pack, lua_version.unpack
local records = park.records

local M = { can_wait = isyieldable, on_uncaught = uncaught.on_uncaught }

for name, value in pairs(park) do
  M[name] = value
end

---@class redio.Task: redio.LightRecord
local Task = {}
Task.__index = Task

for name, method in pairs(park.Record) do
  if name ~= "__index" then Task[name] = method end
end

-- the end of a task ---------------------------------------------------------------------------------------

local function finish(task, ok, ...)
  task._done, task._ok, task._first, task._values = true, ok, (...), pack(...)
  task._waiter, task._pending = nil, nil
  local is_heard = task._on_end and task._on_end(task)
  local joiners = task._joiners
  task._joiners = nil
  if joiners then
    is_heard = is_heard or joiners:count() > 0
    joiners:drain(M.wake)
  end
  return is_heard or task._joined
end

-- Whether it has ended because it was cancelled.
local function is_cancelled(task, err)
  return errors.is(err, "CancelledError") or (task._cause ~= nil and rawequal(err, task._cause.err))
end

local function end_cancelled(task)
  finish(task, false, task._cause.err)
end

-- It has ended by an error.
local function fail(task, failure)
  task._failure = failure
  if finish(task, false, failure.raised) or is_cancelled(task, failure.err) then return end
  if task._on_end then uncaught.tell(failure) else uncaught.keep(failure) end
end

local function traced(err)
  return uncaught.failure(err, debug.traceback("", 2):sub(2))
end

local function ended(task, ok, ...)
  if task._done then return end
  if ok then
    finish(task, true, ...)
  else
    local failure = ...
    -- (no memory for what is known of it)
    fail(task, type(failure) == "table" and failure or uncaught.failure(failure))
  end
end

-- The error of a coroutine that nothing waits for.
function M.ended_by(_, err)
  uncaught.tell(uncaught.failure(err))
end

-- threads -------------------------------------------------------------------------------------------------

-- What the host keeps of a thread that has ended goes when the one that started it asks for it, or ends. So each task
-- that has ended stands in a list of its owner's, the coroutine that started it. These lists live in the request: what
-- a task refers to may well refer to its owner, and on LuaJIT any other table, however weak its keys, would then keep
-- both for ever.
local function ended_of(owner)
  local storage = host.storage()
  local families = storage.families or {}
  local list = families[owner] or {}
  storage.families, families[owner] = families, list
  return list
end

-- Lets go of the threads of those that have ended. For the owner alone.
local function reap(list)
  for i = #list, 1, -1 do
    local thread = list[i]._thread
    list[i]._thread, list[i] = nil, nil
    if thread then host.reap(thread) end
  end
end

local function body(task, list, fn, ...)
  local co = running()
  task._co, records[co] = co, task
  if task._unstarted then
    host.sleep(0) -- behind what the one who started it still does
    task._unstarted = false
  end
  if not task._done then ended(task, xpcall(fn, traced, ...)) end
  records[co] = nil
  list[#list + 1] = task
end

local function start(task, fn, ...)
  if not isyieldable() then M.block() end
  local list = ended_of(running())
  reap(list)
  task._done, task._request = false, host.request()
  setmetatable(task, Task)
  local ok, thread = pcall(host.spawn, body, task, list, fn, ...)
  if not ok then error(host.cannot_wait(), 3) end
  task._thread = thread
  return task
end

-- Ends the task's light thread where it waits for the server; what follows in it does not run. Not while the host would
-- keep threads that it has started for ever, and with them the request.
local function kill(task)
  local conn = task.conn
  if not conn or conn.writer or not task._thread or #ended_of(task._co) > 0 then return false end
  if not host.kill(task._thread) then return false end
  task._thread = nil
  conn:close "its command was cancelled"
  end_cancelled(task)
  return true
end

-- tasks ---------------------------------------------------------------------------------------------------

function Task:_result()
  self._joined = true
  if self._failure then uncaught.heard(self._failure) end
  if not self._ok then error(self._first, 0) end
  return unpack(self._values, 1, self._values.n)
end

local function stop_joining(joiner)
  local joiners = joiner.of._joiners
  if joiners then joiners:leave(joiner) end
end

--- Waits until the task has ended.
---@return any ... what its function returned
--- Raises what its function raised; CancelledError when it was cancelled.
function Task:await()
  if self._done then return self:_result() end
  if not isyieldable() then return M.block() end
  if self._co == running() then error("a task cannot await itself", 2) end
  local joiner = { of = self, abandon = stop_joining }
  self._joiners = self._joiners or queue.new()
  self._joiners:enter(joiner)
  M.wait(joiner)
  return self:_result()
end

--- Ends the task. Where it waits for other tasks, for a time or for a message of a receiver that another reads,
--- `CancelledError` is raised. Where it waits for the server, and the caller has started it, its light thread ends
--- without another line of it being run. Else it gets the error when it next waits.
---@param reason any? raised instead
---@return boolean cancelled false when it had ended before
function Task:cancel(reason)
  if self._done then return false end
  if self._pending then return true end
  local cause = { err = reason or park.cancelled_error() }
  self._cause = cause
  if self._unstarted then
    end_cancelled(self)
  elseif not park.interrupt(self, cause) and not kill(self) then
    self._pending = cause
  end
  return true
end

--- "running" (it is the caller), "waiting", "done", "failed" or "cancelled".
function Task:status()
  if not self._done then return self._co == running() and "running" or "waiting" end
  if self._ok then return "done" end
  return is_cancelled(self, self._failure and self._failure.err or self._first) and "cancelled" or "failed"
end

-- public functions ----------------------------------------------------------------------------------------

-- Of an error that is no string the host's log has only that there was one.
local function logged(err)
  local failure = traced(err)
  if type(failure.raised) ~= "string" then host.uncaught(failure.err, failure.trace) end
  return failure
end

local function results(ok, ...)
  if ok then return ... end
  local failure = ...
  error(type(failure) == "table" and failure.raised or failure, 0)
end

--- Calls `fn(...)`: the loop runs already.
---@return any ... what fn returned; raises its error, after it was logged where it is an object
function M.run(fn, ...)
  arg_check.callable(fn, 1, "run", 2)
  return results(xpcall(fn, logged, ...))
end

--- Starts a task beside this one.
---@return redio.Task
function M.spawn(fn, ...)
  arg_check.callable(fn, 1, "spawn", 2)
  return start({ _unstarted = true }, fn, ...)
end

--- Starts a task of a group at once. `on_end(task)` is called at its end, and answers whether its error is known there;
--- an error that is not is reported.
function M.start_member(fn, on_end)
  return start({ _on_end = on_end }, fn)
end

--- Waits for so many seconds.
function M.sleep(s)
  arg_check.seconds(s, 1, "sleep", 2)
  if not isyieldable() then return M.block() end
  if park.current() then return park.pause(s) end
  return host.sleep(s)
end

--- Runs `fn(...)` for at most so many seconds.
---@return any ... what fn returned; raises TimeoutError when time ran out, where it waits for redio
function M.with_timeout(s, fn, ...)
  arg_check.seconds(s, 1, "with_timeout", 2)
  arg_check.callable(fn, 2, "with_timeout", 2)
  if not isyieldable() then return M.block() end
  local err = errors.new("TimeoutError", ("not done within %g s"):format(s))
  return M.with_deadline(host, s, err, nil, fn, ...)
end

return M
