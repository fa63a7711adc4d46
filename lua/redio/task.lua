-- SPDX-License-Identifier: MIT
-- Coroutines that wait: parking and waking them, and tasks that can be joined and cancelled.
--
-- Whoever parks is woken with a token of the waker's as first value, so that a coroutine which somebody else resumes
-- meanwhile is noticed instead of taking a stranger's value for its own.

local check = require "redio.check"
local compat = require "redio.compat"
local core = require "redio.core"
local errors = require "redio.errors"
local text = require "redio.text"
local transports = require "redio.transport"

local light = transports.tasks()
if light then return light end -- the host alone may resume: its tasks, with the same functions

local create, co_resume = coroutine.create, coroutine.resume
local running, yield, isyieldable = coroutine.running, coroutine.yield, compat.isyieldable
local pack, unpack = compat.pack, compat.unpack

local M = {}

-- coroutine -> task, for those that were started here. While it runs, its stack holds its task. Weak values, too: a
-- task knows its coroutine, and on Lua 5.1 and LuaJIT that alone would keep both for ever.
local tasks = setmetatable({}, { __mode = "kv" })

-- connections with something in flight, kept here by connection.lua
M.busy = {}

-- how many tasks are to be cancelled when they next wait
M.cancelling = 0

local function count_cancelling(n)
  M.cancelling = M.cancelling + n
  core.cancelling(n)
end

local CANCEL = {}
M.CANCEL = CANCEL

local host -- the default transport, looked up when it is first needed

local function default_host()
  host = host or transports.default()
  return host
end

---@class redio.Task
local Task = {}
Task.__index = Task

local finish

--- Sees to the error that a coroutine has ended with: it goes to whoever joins the task, or to the host.
local function ended_by(co, err)
  local task = tasks[co]
  -- (LuaJIT takes a nil that is given for the message, and returns it)
  local trace = type(err) == "string" and debug.traceback(co, err) or debug.traceback(co)
  if type(err) == "string" then err = trace end
  if task then
    if errors.is(err) and not rawget(err, "traceback") then rawset(err, "traceback", trace) end -- the innermost
    finish(task, false, err)
  else
    default_host().uncaught(err)
  end
end
M.ended_by = ended_by

--- Resumes a coroutine, whatever becomes of it. Never raises.
local function resume(co, ...)
  local ok, err = co_resume(co, ...)
  if not ok then ended_by(co, err) end
end
M.resume = resume

local function cancelled_error()
  return errors.new("CancelledError", "the task was cancelled")
end

--- Raises in a task that was cancelled while it was not waiting.
function M.check_cancelled(co)
  local task = tasks[co]
  if task and task._cancel then
    task._cancel = nil
    count_cancelling(-1)
    error(task._reason or cancelled_error(), 0)
  end
end

--- What to raise for a resumption that was not the awaited one.
function M.interrupted(token)
  if token == CANCEL then
    local task = tasks[running()]
    return task and task._reason or cancelled_error()
  end
  return "this coroutine was waiting in redio and somebody else resumed it"
end

local function woken(waiter, token, ...)
  waiter.co = nil
  if token == waiter then return ... end
  if waiter.abandon then waiter.abandon(waiter) end
  error(M.interrupted(token), 0)
end

--- Parks the running coroutine until `wake(waiter, ...)`; returns what wake was given. The waiter is a table of the
--- caller's; its `abandon(waiter)` is called when the wait ends in any other way.
function M.wait(waiter)
  local co = running()
  if M.cancelling > 0 then M.check_cancelled(co) end
  waiter.co = co
  local task = tasks[co]
  if task then task._waiter = waiter end
  return woken(waiter, yield())
end

--- Wakes who waits; does nothing when nobody does (any more).
function M.wake(waiter, ...)
  local co = waiter.co
  if co then
    waiter.co = nil
    resume(co, waiter, ...)
  end
end

--- Runs `fn(...)` in a coroutine and the loop until it ends. For the main coroutine, which cannot wait.
---@param transport table? the default one when nil
function M.block(transport, fn, ...)
  transport = transport or default_host()
  if transport.in_loop() then
    error("this would wait, but here nothing can: the loop is running and this is no coroutine that may yield; "
      .. "use coroutine.wrap, redio.spawn or redio.run", 3)
  end
  local task = M.start(fn, ...)
  local ok = transport.run(function()
    return task._done
  end)
  if not ok then error("this would wait for ever: the loop has nothing left to do", 3) end
  return task:_result()
end

--- Calls `fn` when the loop has looked at its sockets once more: for what would be too late, unless it lies there
--- already. (A turn begins with the timers, then comes what was deferred, then the sockets.)
function M.after_reading(transport, fn)
  transport.defer(function()
    transport.defer(fn)
  end)
end

--- Whether the caller can wait; when not, it is to be run by `block`.
M.can_wait = isyieldable

-- tasks ---------------------------------------------------------------------------------------------------

-- failed tasks that nobody has joined yet
local unjoined = setmetatable({}, { __mode = "k" })

--- Keeps the error of a task that nobody has joined: when the task is dropped, the error reaches the host.
local function keep_error(task)
  local box = { err = task._first }
  unjoined[task] = box
  task._guard = compat.finalizer(function()
    if box.joined then return end
    local transport = default_host()
    if transport.in_loop() then
      transport.defer_finalizer(function()
        transport.uncaught(box.err)
      end)
    else
      io.stderr:write("redio: a task that nobody awaited failed: ", text.of_error(box.err), "\n")
    end
  end)
end

local function join(task)
  task._joined = true
  if unjoined[task] then
    unjoined[task].joined = true
    unjoined[task] = nil
  end
end

-- Its fields are all there from the start, but for rare ones, so that its table never grows.
local function new_task(co, unstarted)
  local task = setmetatable({
    _co = co, _done = false, _ok = false, _first = false, _values = false, _joiner = false, _waiter = false,
    _unstarted = unstarted,
  }, Task)
  tasks[co] = task
  return task
end

local NOTHING = pack()

local function wake_joiners(task, joiner)
  local more = task._joiners
  task._joiner, task._joiners = false, nil
  M.wake(joiner)
  for i = 1, more and #more or 0 do
    M.wake(more[i])
  end
end

-- Its results: one, as most have, or a list.
function finish(task, ok, ...)
  task._done, task._ok, task._first, task._waiter = true, ok, (...), false
  local count = select("#", ...)
  if count ~= 1 then task._values = count == 0 and NOTHING or pack(...) end
  if task._cancel then
    task._cancel = nil
    count_cancelling(-1)
  end
  if task._on_end then task._on_end(task) end
  if task._joiner then
    wake_joiners(task, task._joiner)
  elseif not ok and not task._joined and not errors.is((...), "CancelledError") then
    keep_error(task)
  end
end

local function body(task, fn, ...)
  return finish(task, true, fn(...))
end

--- Starts a task at once; it runs until it first waits.
function M.start(fn, ...)
  local co = create(body)
  local task = new_task(co, false)
  resume(co, task, fn, ...)
  return task
end

--- Its results; raises its error.
function Task:_result()
  if not self._ok then
    join(self)
    error(self._first, 0)
  end
  local values = self._values
  if not values then return self._first end
  return unpack(values, 1, values.n)
end

-- Nearly always there is one joiner; more are in a list.
local function add_joiner(task, joiner)
  if not task._joiner then
    task._joiner = joiner
  else
    task._joiners = task._joiners or {}
    table.insert(task._joiners, joiner)
  end
end

local function stop_joining(joiner)
  local task = joiner.task
  local more = task._joiners or {}
  if task._joiner == joiner then
    task._joiner = table.remove(more, 1) or false
    return
  end
  for i = 1, #more do
    if more[i] == joiner then return table.remove(more, i) end
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

-- Whoever waits for the replies of a chain is found among the connections that have some in flight: so waiting costs
-- nothing, and only a cancellation has to look.
local function find_chain(co)
  for conn in pairs(M.busy) do
    local slot, sent = conn.core:find(conn.waiters, co)
    if slot then return conn, slot, sent end
  end
end

local function abandon_chain(co)
  local conn, slot = find_chain(co)
  if conn then conn:abandon(slot) end
  return conn ~= nil
end
M.abandon_chain = abandon_chain

-- What a coroutine waits for, in words, if it says so.
local function stage_of(record)
  local waiter = record._waiter
  if waiter and waiter.co == record._co then return waiter.conn and waiter.conn.stage or waiter.stage end
  local conn, _, sent = find_chain(record._co)
  return conn and conn:chain_stage(sent)
end

--- Ends the task where it waits: there `CancelledError` is raised. A task that is not waiting just now gets it
--- when it next waits. Once ended, it stays as it ended.
---@return boolean cancelled false when it had ended before
function Task:cancel(reason)
  if self._done then return false end
  self._reason = reason or self._reason
  local waiter = self._waiter
  if self._unstarted then
    finish(self, false, self._reason or cancelled_error())
  elseif waiter and waiter.co == self._co then
    waiter.co = nil
    resume(self._co, CANCEL)
  elseif abandon_chain(self._co) then
    resume(self._co, CANCEL)
  elseif not self._cancel then
    self._cancel = true
    count_cancelling(1)
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

--- Errors of tasks that ended unnoticed reach whoever ran the loop.
local function raise_unjoined()
  local task = next(unjoined)
  if task then task:_result() end
end

local function run_main(fn, ...)
  local results = pack(M.block(nil, fn, ...))
  raise_unjoined()
  return unpack(results, 1, results.n)
end

--- Runs `fn(...)` as a task and the host's loop until it has ended. Inside a running loop it just calls it.
---@return any ... what fn returned; raises its error, a string with the traceback
function M.run(fn, ...)
  check.callable(fn, 1, "run", 2)
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
  check.callable(fn, 1, "spawn", 2)
  local task = new_task(create(body), fn)
  if select("#", ...) > 0 then task._args = pack(...) end
  starting_count = starting_count + 1
  starting[starting_count] = task
  if starting_count == 1 then default_host().defer(start_all) end
  return task
end

--- Starts a task of a group at once; `on_end(task)` hears of its end, and of its error nobody else.
function M.start_member(fn, on_end)
  local task = new_task(create(body), false)
  task._joined, task._on_end = true, on_end
  resume(task._co, task, fn)
  return task
end

--- Waits for so many seconds.
function M.sleep(s)
  check.seconds(s, 1, "sleep", 2)
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

local function leave_deadline(record, transport, timer, ok, ...)
  transport.stop_timer(timer)
  if record._cancel and record._reason == record._deadline then
    record._cancel = nil
    count_cancelling(-1)
  end
  if record._plain then tasks[record._co] = nil end
  record._reason, record._deadline = nil, nil
  if not ok then error((...), 0) end
  return ...
end

--- Runs `fn(...)` in this coroutine; once `seconds` are over, `err` is raised where it waits; `where(err, stage)`, if
--- given, is told before what it waits for: the waiter's `stage`, or nil.
function M.with_deadline(transport, seconds, err, where, fn, ...)
  local co = running()
  local record = tasks[co]
  if not record then
    record = setmetatable({ _co = co, _done = false, _plain = true }, Task)
    tasks[co] = record
  end
  local timer = transport.start_timer(seconds, function()
    record._deadline = err
    if where then where(err, stage_of(record)) end
    record:cancel(err)
  end)
  return leave_deadline(record, transport, timer, pcall(fn, ...))
end

--- Runs `fn(...)` for at most so many seconds.
---@return any ... what fn returned; raises TimeoutError when time ran out, after cancelling it where it waited
function M.with_timeout(s, fn, ...)
  check.seconds(s, 1, "with_timeout", 2)
  check.callable(fn, 2, "with_timeout", 2)
  if not isyieldable() then return M.block(nil, M.with_timeout, s, fn, ...) end
  local err = errors.new("TimeoutError", ("not done within %g s"):format(s))
  return M.with_deadline(default_host(), s, err, nil, fn, ...)
end

return M
