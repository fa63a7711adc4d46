-- SPDX-License-Identifier: MIT
-- A load of random requests by many coroutines, with the pairing oracle: each request carries a mark of its own, and
-- its reply must be made of it. Some are cancelled on the way. The report counts how they ended.

local uv = require "luv"
local redio = require "redio"
local loop_turns = require "spec.support.loop_turns"

local M = {}

local PREFIX = "spec:traffic:"

-- Kinds of work -----------------------------------------------------------------------------------
-- Each gets a fresh handle and a mark, and returns what it got and what it should have got.

local shared, private = {}, {}
M.shared, M.private = shared, private

function shared.echo(db, mark)
  return { db:echo(mark):await() }, { mark }
end

function shared.chain(db, mark)
  return { db:echo(mark .. 1):echo(mark .. 2):echo(mark .. 3):await() }, { mark .. 1, mark .. 2, mark .. 3 }
end

function shared.key(db, mark)
  local key = PREFIX .. mark
  return { db:set(key, key, "PX", 5000):get(key):await() }, { key }
end

function shared.transaction(db, mark)
  return db:multi():echo(mark .. 1):echo(mark .. 2):exec():await(), { mark .. 1, mark .. 2 }
end

function shared.script(db, mark)
  return db:eval("return {ARGV[1], ARGV[2]}", 0, mark, "two"):await(), { mark, "two" }
end

-- An error reply between two others.
function shared.failing(db, mark)
  local replies = db:echo(mark .. 1):eval("return {err = ARGV[1]}", 0, "NO " .. mark):echo(mark .. 2):replies()
  if redio.errors.is(replies[2], "ReplyError") then
    replies[2] = replies[2].message
  end
  return replies, { mark .. 1, mark, mark .. 2 }
end

function private.watch(db, mark)
  local key = PREFIX .. mark
  db:watch(key):echo(mark):await()
  db:multi():echo(mark .. 1):await()
  return db:echo(mark .. 2):exec():await(), { mark .. 1, mark .. 2 }
end

function private.pop(db, mark)
  local key = PREFIX .. "list:" .. mark
  local length, item = db:rpush(key, mark):blpop(key, 1):await()
  return { length, item[1], item[2] }, { 1, key, mark }
end

function private.wait(db, mark)
  local replies = db:blpop(PREFIX .. "none:" .. mark, 0.01):echo(mark):replies()
  return { replies[2] }, { mark }
end

local function sorted(...)
  local list = {}
  for _, kinds in ipairs { ... } do
    for name in pairs(kinds) do
      list[#list + 1] = { name = name, fn = kinds[name] }
    end
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

-- One request ---------------------------------------------------------------------------------------

local function same(got, expected, n)
  for i = 1, n do
    if type(got) ~= "table" or got[i] ~= expected[i] then
      return false
    end
  end
  return #got <= n
end

-- Notes what the request ended with; `job.ended` counts how often it did.
local function settle(report, job, ok, got, expected)
  job.ended = job.ended + 1
  report.ended = report.ended + 1
  local kind = "done"
  if not ok then
    kind = redio.errors.is(got) and got.kind or tostring(got)
  elseif not same(got, expected, #expected) then
    kind = "mismatch"
  end
  report.ends[kind] = (report.ends[kind] or 0) + 1
end

-- Runs in a task of its own, which never ends, so that a second resume is noticed.
local function perform(report, job, redis, random, options)
  report.begun = report.begun + 1
  local db = redis()
  if options.deadline and random() < 0.3 then
    db:timeout(random() * options.deadline)
  end
  settle(report, job, pcall(job.kind.fn, db, job.mark))
  db:close()
  loop_turns.next(job.done)
  while true do
    coroutine.yield()
    report.twice = report.twice + 1
  end
end

-- The workers -----------------------------------------------------------------------------------------

local function next_turn()
  local co = coroutine.running()
  loop_turns.next(function()
    assert(coroutine.resume(co))
  end)
  coroutine.yield()
end

-- A random moment: this very turn, one of the next, some milliseconds from now, or one that is rarely met by chance,
-- such as when the request or its reply is halfway.
local function pause(job, random, options)
  local choice = random()
  if choice < 0.1 then
    local aim = options.where.aims[choice < 0.05 and 1 or 2]
    while job.ended == 0 and options.where:state(job.mark) ~= aim do
      next_turn()
    end
  elseif choice < 0.3 then
    for _ = 1, random(4) do
      next_turn()
    end
  elseif choice < 0.95 then
    redio.sleep(random() * options.longest)
  end
end

local function cancel(report, job, task, where)
  local state = where:state(job.mark)
  report.cancelled = report.cancelled + 1
  report.states[state] = (report.states[state] or 0) + 1
  local begun = job.begun
  task:cancel()
  if begun and job.ended == 0 then
    report.late = report.late + 1
  end
end

local function work(report, options, kinds)
  local random, co = options.random, coroutine.running()
  while not options.enough(report) do
    report.marks = report.marks + 1
    local job = { mark = ("<%040d>"):format(report.marks), kind = random(kinds), ended = 0 }
    local waiting = false
    function job.done()
      if waiting then
        assert(coroutine.resume(co))
      end
    end
    local redis = options.client()
    local task = redio.spawn(function()
      job.begun = true
      perform(report, job, redis, random, options)
    end)
    if random() < options.cancel then
      pause(job, random, options)
      if job.ended == 0 then
        cancel(report, job, task, options.where)
      end
    end
    if job.ended == 0 and task:status() ~= "cancelled" then
      waiting = true
      coroutine.yield()
    end
  end
  report.working = report.working - 1
end

--- Lets `workers` coroutines work until `enough(report)`, and returns the report when all have ended:
---   begun, ended: requests   twice: ended more than once   late: cancelled and not free at once
---   cancelled, states: cancels, and by how far the request had come
---   ends: how many ended "done", in a "mismatch", or with which kind of error
---@param options table client: a function that returns one; random; where: of spec.support.request_progress
--- or request_progress_tls; enough: a function; workers; private: whether connections of their own are used, too;
--- cancel: how probable; longest: seconds until a cancel; deadline: seconds, if any
function M.run(options)
  local report = { begun = 0, ended = 0, twice = 0, late = 0, cancelled = 0, states = {}, ends = {} }
  report.marks = uv.hrtime() % 1e12 -- no mark twice on a server: an earlier run may have left keys
  local kinds = sorted(shared, options.private and private)
  report.working = options.workers
  for _ = 1, options.workers do
    coroutine.wrap(work)(report, options, kinds)
  end
  while report.working > 0 do
    redio.sleep(0.005)
  end
  return report
end

--- A change in the proxy's ways every few milliseconds, until the returned function is called.
function M.weather(proxy, random)
  local over = false
  local task = redio.spawn(function()
    while not over do
      for _, faults in ipairs { proxy.up, proxy.down } do
        faults.delay = random() < 0.5 and random() * 0.004 or nil
        faults.chunk = random() < 0.6 and random(60) or nil
        faults.hold = random() < 0.1
      end
      redio.sleep(0.002 + random() * 0.006)
      proxy:release()
    end
    proxy.up.delay, proxy.up.chunk, proxy.down.delay, proxy.down.chunk = nil, nil, nil, nil
    proxy:release()
  end)
  return function()
    over = true
    task:await()
  end
end

--- The report in words.
function M.summary(report)
  local function counts(list)
    local words = {}
    for name, count in pairs(list) do
      words[#words + 1] = ("%s %d"):format(name, count)
    end
    table.sort(words)
    return table.concat(words, ", ")
  end
  return ("%d requests: %s; %d cancelled: %s"):format(report.begun, counts(report.ends), report.cancelled,
    counts(report.states))
end

return M
