-- SPDX-License-Identifier: MIT
-- Parking on hosts with a loop: a task is a coroutine of redio's own, which the loop's callbacks resume. The functions
-- that both ways of parking have are listed in task/init.lua.
--
-- `wake` passes the waiter itself as the first result of the yield. Any other first result means that the coroutine was
-- interrupted (CANCEL), or that other code resumed it. Then the wait raises an error, and never returns a value.
-- Specs: unit/parking, client/waits, promises/02, promises/22, promises/28

local core = require "redio.core"
local deadline = require "redio.task.deadline"
local in_flight = require "redio.task.in_flight"
local lua_version = require "redio.base.lua_version"
local switch = require "redio.task.switch"
local transports = require "redio.transport"
local uncaught = require "redio.task.uncaught"

local create, running, status = coroutine.create, coroutine.running, coroutine.status
local isyieldable, when_closed = lua_version.isyieldable, lua_version.when_closed
local unpack = lua_version.unpack
local records, resume, take_late = switch.records, switch.resume, switch.take_late

local CANCEL = {}

local M = {
  CANCEL = CANCEL,
  cancelling = 0, -- interruptions of coroutines that did not wait for redio just then
  -- Not of the interface: the connections and pools of these hosts use them.
  resume = resume,
  ended_by = switch.ended_by,
  is_busy = in_flight.is_busy,
  set_busy = in_flight.set_busy,
  wait_alone = in_flight.wait_alone,
  after_reading = deadline.after_reading,
}

local host -- the default transport, looked up at its first use

local function default_host()
  host = host or transports.default()
  return host
end

---@class redio.CoroutineRecord: redio.Record
---@field pending table|false interruptions to come, oldest first: see `new_list`
---@field unstarted function|false
local Record = {}
Record.__index = Record
M.Record = Record

-- interruptions to come -----------------------------------------------------------------------------------

local function count_cancelling(n)
  M.cancelling = M.cancelling + n
  core.cancelling(n)
end

-- A list counts in `cancelling` as long as its coroutine can still come to it: the guard is collected with the record.
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

local function interrupt_later(record, cause)
  local list = record.pending or new_list()
  record.pending = list
  list[#list + 1] = cause
  change_count(list, 1)
end

--- The place of an interruption among those to come, or false.
function Record:is_pending(cause)
  local list = self.pending
  for i = 1, list and #list or 0 do
    if list[i] == cause then return i end
  end
  return false
end

--- Withdraws an interruption to come.
function Record:withdraw(cause)
  local at = self:is_pending(cause)
  if not at then return end
  local list = self.pending
  table.remove(list, at)
  change_count(list, -1)
  if #list == 0 then self.pending = false end
end

function Record:withdraw_all()
  local list = self.pending
  self.pending = false
  change_count(list, -list.box.count)
end

-- Takes the oldest one, to be raised now.
local function take_pending(co)
  local record = records[co]
  local cause = record and record.pending and record.pending[1]
  if cause then record:withdraw(cause) end
  return cause
end

function M.check_cancelled()
  local cause = take_pending((running()))
  if cause then error(cause.err, 0) end
end

-- waiting -------------------------------------------------------------------------------------------------

local function interruption(co, token, item)
  if token == CANCEL or (item and item[1] == CANCEL) then
    local record = records[co]
    local err = record.raised
    record.raised = nil
    return err
  end
  in_flight.abandon_chain(co)
  return "this coroutine was waiting in redio and other code resumed it"
end

function M.interrupted(token)
  local co = running()
  return interruption(co, token, take_late(co))
end

-- Ends the wait in any other way than by `wake`.
local function abandon(waiter)
  local fn = waiter.abandon
  waiter.co, waiter.abandon = nil, nil
  if fn then fn(waiter) end
end

local function woken(waiter, token, ...)
  if token == waiter then return ... end
  local co = running()
  local item = take_late(co)
  if item and item[1] == waiter then return unpack(item, 2, item.n) end -- woken as well, but other code was faster
  abandon(waiter)
  error(interruption(co, token, item), 0)
end

local parked_guard = switch.guard(function(waiter)
  take_late(running())
  abandon(waiter)
end)

function M.wait(waiter)
  local co = running()
  local cause = M.cancelling > 0 and take_pending(co)
  if cause then
    abandon(waiter)
    error(cause.err, 0)
  end
  waiter.co = co
  local record = records[co]
  if record then record.waiter = waiter end
  return woken(waiter, switch.yield(waiter, parked_guard))
end

function M.wake(waiter, ...)
  local co = waiter.co
  if not co then return false end
  waiter.co = nil
  return resume(co, waiter, ...)
end

function M.is_dead(waiter)
  return status(waiter.thread) == "dead"
end

-- interrupting --------------------------------------------------------------------------------------------

local function is_parked(record)
  local waiter = record.waiter
  return waiter and waiter.co == record.co
end

--- In words, if it is known, the thing that the coroutine waits for.
function Record:stage()
  local waiter = self.waiter
  if is_parked(self) then return waiter.conn and waiter.conn.stage or waiter.stage end
  local conn, _, sent = in_flight.find(self.co)
  return conn and conn:chain_stage(sent)
end

--- True when the coroutine waits for a chain of which nothing has been sent.
function Record:is_unsent()
  if is_parked(self) then return false end
  local conn, _, sent = in_flight.find(self.co)
  return conn ~= nil and not sent
end

function Record:interrupt(cause)
  local co = self.co
  if is_parked(self) then
    self.waiter.co = nil
  elseif not in_flight.abandon_chain(co) then
    return interrupt_later(self, cause)
  end
  self.raised = cause.err
  resume(co, CANCEL)
end

-- tasks ---------------------------------------------------------------------------------------------------

local function body(task, fn, args)
  return when_closed(task, task.run, task, fn, args)
end

function M.start(task, fn, args)
  local co = create(body)
  task.co, records[co] = co, task
  resume(co, task, fn, args)
end

local starting, starting_count = {}, 0 -- tasks for the next turn of the loop

local function start_all()
  local list, count = starting, starting_count
  starting, starting_count = {}, 0
  for i = 1, count do
    local task = list[i]
    local fn, args = task.unstarted, task.args
    if not task.done then
      task.unstarted, task.args = false, nil
      resume(task.co, task, fn, args)
    end
  end
end

function M.spawn(task, fn, args)
  local co = create(body)
  task.co, task.unstarted, records[co] = co, fn, task
  if args then task.args = args end
  starting_count = starting_count + 1
  starting[starting_count] = task
  if starting_count == 1 then default_host().defer(start_all) end
end

-- time ----------------------------------------------------------------------------------------------------

function M.with_deadline(transport, seconds, err, where, fn, ...)
  local co = running()
  local record = records[co]
  if not record then -- a coroutine that is no task
    record = setmetatable({ co = co, waiter = false, pending = false }, Record)
    records[co] = record
  end
  return deadline.run(record, transport or default_host(), seconds, err, where, fn, ...)
end

function M.sleep(seconds)
  local transport, waiter = default_host(), {}
  local function wake()
    M.wake(waiter)
  end
  if seconds == 0 then -- a turn of the loop, behind the tasks that start in it
    transport.defer(wake)
  else
    local timer = transport.start_timer(seconds, wake)
    waiter.abandon = function()
      transport.stop_timer(timer)
    end
  end
  return M.wait(waiter)
end

-- the main coroutine --------------------------------------------------------------------------------------

local FOR_EVER = "this would wait for ever: the loop has nothing left to do"

-- Runs the loop until the task that it starts has ended, or until the loop has nothing left to do.
local function run_loop(start, transport, fn, ...)
  local task = start(fn, ...)
  local has_ended = transport.run(function()
    return task.done
  end)
  task.joined = has_ended
  return task, has_ended
end

function M.block(start, transport, fn, ...)
  transport = transport or default_host()
  if transport.in_loop() then
    error("this would wait, but here nothing can: the loop is running and this is no coroutine that may yield; "
      .. "use coroutine.wrap, redio.spawn or redio.run", 3)
  end
  local task, has_ended = run_loop(start, transport, fn, ...)
  if not has_ended then error(FOR_EVER, 3) end
  return task:result()
end

-- Raises an error that nothing has awaited, too.
local function run_main(start, fn, ...)
  uncaught.begin_run()
  local task, has_ended = run_loop(start, default_host(), fn, ...)
  local failure = uncaught.end_run(has_ended and task:status() == "done")
  if not has_ended then error(FOR_EVER, 2) end
  if failure then error(failure.raised, 0) end
  return task:result()
end

function M.run(start, fn, ...)
  if default_host().in_loop() or isyieldable() then return fn(...) end
  return run_main(start, fn, ...)
end

return M
