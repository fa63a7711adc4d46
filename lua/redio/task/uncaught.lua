-- SPDX-License-Identifier: MIT
-- Errors that nothing awaits. Each is reported once, at the latest a second after it happened, whatever the collector
-- does. `run` raises the first of those that happened in it.
-- Specs: promises/29, hosts/nginx/uncaught

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"
local queue = require "redio.base.queue"
local transports = require "redio.transport"

local M = {}

-- failures ------------------------------------------------------------------------------------------------

local MARK = "\nstack traceback:\n"

--- A table about an error that has ended a task or a coroutine: `err` as it was raised, `trace`, and `raised`, which an
--- await of the task raises. A string there has exactly one traceback, from where it was raised first.
---@param trace string? nil: `err` was made here, and has no traceback
function M.failure(err, trace)
  if type(err) == "string" then
    local at = err:find(MARK, 1, true)
    if at then return { err = err:sub(1, at - 1), trace = err:sub(at + 1), raised = err } end
    return { err = err, trace = trace, raised = trace and err .. "\n" .. trace or err }
  end
  if errors.is(err) then
    if trace and not rawget(err, "traceback") then rawset(err, "traceback", trace) end
    trace = rawget(err, "traceback") or trace
  end
  return { err = err, trace = trace, raised = err }
end

-- reporting -----------------------------------------------------------------------------------------------

-- Writes the error to the host's own place for it, or else to the error output.
local function to_host(err, trace)
  local ok, host = pcall(transports.default)
  if ok and pcall(host.uncaught, err, trace) then return end
  pcall(io.stderr.write, io.stderr, "redio: uncaught error: ", messages.of_error(err), "\n", trace or "", "\n")
end

local handler = to_host

--- Has `fn(err, traceback)` called with each error that ends a task or a coroutine and that nothing awaits.
---@param fn fun(err: any, traceback: string?)? nil: the default, which writes both to the error output
---@return fun(err: any, traceback: string?) former
function M.on_uncaught(fn)
  if fn ~= nil then arg_check.callable(fn, 1, "on_uncaught", 2) end
  local former = handler
  handler = fn or to_host
  return former
end

local function call_handler(err, trace)
  local ok, why = pcall(handler, err, trace)
  if ok then return end
  to_host(err, trace)
  to_host(why, "stack traceback:\n\t(in the function that redio.on_uncaught was given)")
end

-- Calls the handler in a coroutine of its own, in which it may wait: `tell` is called in the midst of anything.
local function tell(failure)
  local err, trace = failure.err, failure.trace or "stack traceback:\n\t(unknown)"
  if not coroutine.resume(coroutine.create(call_handler), err, trace) then to_host(err, trace) end
end

-- failures that are not reported yet ----------------------------------------------------------------------

-- A failed task may still be awaited for so many ticks. Then its error is reported.
local TICK, TICKS = 0.25, 3

local waiting = queue.new() -- failures
local ticks, timer = 0, nil

local function is_forked()
  local ok, host = pcall(transports.default)
  return ok and host.is_forked()
end

-- A forked child has inherited the failures that its parent is about to report.
local function tell_here(failure)
  if failure.is_child == is_forked() then tell(failure) end
end

-- While `run` runs: the failures of which it raises the first. The list is bounded, for `run` may last a year.
local MOST = 100
local of_run

local function note_for_run(failure)
  if not of_run then return end
  if #of_run == MOST then
    local kept = {}
    for i = 1, MOST do
      if not of_run[i].heard then kept[#kept + 1] = of_run[i] end
    end
    of_run = kept
  end
  if #of_run < MOST then of_run[#of_run + 1] = failure end
end

local function stop()
  if timer then transports.default().stop_timer(timer) end
  timer = nil
end

local tick

-- The timer counts: the loop lives until all are reported.
local function start()
  timer = transports.default().start_timer(TICK, tick)
end

-- (When no timer is to be had, as in nginx when its worker is about to end, all are reported now.)
local function go_on()
  if not pcall(start) then waiting:drain(tell_here) end
end

function tick()
  timer, ticks = nil, ticks + 1
  local failure = waiting:peek()
  while failure and failure.tick + TICKS <= ticks do
    waiting:pop()
    tell_here(failure)
    failure = waiting:peek()
  end
  if failure then go_on() end
end

--- Keeps the failure of a task that nothing has awaited so far. It is reported once, however often it is kept.
function M.keep(failure)
  if failure.tick then return end
  failure.tick, failure.is_child = ticks, is_forked()
  waiting:enter(failure)
  note_for_run(failure)
  if not timer then go_on() end
end

--- Forgets a failure: its task was awaited after all.
function M.heard(failure)
  failure.heard = true
  if waiting:leave(failure) and waiting:count() == 0 then stop() end
end

--- Reports the failure of a coroutine, which nothing can await.
function M.tell_now(failure)
  note_for_run(failure)
  tell(failure)
end

--- The same for a failure that `run` does not raise, as another one has told it that something is wrong.
M.tell = tell

-- the end of run, and of the program ----------------------------------------------------------------------

--- Notes failures for `end_run` from now on.
function M.begin_run()
  of_run = {}
  waiting:drain(function(failure)
    waiting:enter(failure)
    note_for_run(failure)
  end)
end

--- The failure that `run` is to raise: the first that nothing has awaited, reported before or not. The others are
--- reported now.
---@param raises boolean false: it is to raise none of them
function M.end_run(raises)
  local first
  for i = 1, raises and #of_run or 0 do
    first = first or (not of_run[i].heard and of_run[i])
  end
  of_run = nil
  if first then M.heard(first) end
  stop()
  waiting:drain(tell_here)
  return first or nil
end

-- Reports what is left when the program ends.
M._guard = lua_version.finalizer(function()
  waiting:drain(tell_here)
end)

return M
