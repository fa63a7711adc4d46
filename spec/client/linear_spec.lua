-- SPDX-License-Identifier: MIT
-- Ten thousand waits of each kind end in a time that grows with their number, and not with its square. They end by a
-- cancel in any order, by a deadline, or by the close of their client.
--
-- Slow: tools/test.sh starts it first.

local redio = require "redio"
local check = require "spec.support.check"
local luv = require "redio.transport.luv"
local random = require "spec.support.random".new "linear"

local FEW, MANY = 2500, 10000 -- four times as many
local BOUND = 9 -- times as long: 4 when it is linear, 16 when it is quadratic

-- A transport to a server that takes everything and says nothing. With `connects` false it does not even accept; with
-- `chokes` the network takes nothing.
local function silent(how)
  local Socket = {}
  Socket.__index = Socket
  function Socket.write() end
  function Socket.read_start() end
  function Socket.read_stop() end
  function Socket.counts() end
  function Socket.close() end
  function Socket.unwritten() return how.chokes and 2 ^ 30 or 0 end
  local transport = setmetatable({}, { __index = luv })
  function transport.connect(_, done)
    if how.connects ~= false then
      luv.defer(function() done(setmetatable({}, Socket)) end)
    end
    return { cancel = function() end }
  end
  return transport
end

local function client(how, options)
  options.transport, options.protocol, options.retry, options.timeout = silent(how), 2, false, false
  options.connect_timeout, options.pool_timeout = false, 60
  return redio.Redis(nil, options)
end

local function get(redis) redis():get "k":await() end
local function pop(redis) redis():blpop("k", 0):await() end

-- For each kind of wait, the things that it needs, and the function of each coroutine; `begun`: they are ended before
-- the loop runs.
local waits = {
  ["a reply, shared"] = { start = function() return client({}, {}) end, wait = get },
  ["a chain that is not written yet"] = { begun = true, start = function()
    local redis = client({}, {})
    pcall(redio.with_timeout, 0.01, get, redis)
    return redis
  end, wait = get },
  ["a large one that is not written yet"] = { begun = true, start = function()
    local redis = client({}, {})
    pcall(redio.with_timeout, 0.01, get, redis)
    return redis
  end, wait = function(redis) redis():set("k", ("x"):rep(17000)):await() end },
  ["a reply on a connection of its own"] = { start = function() return client({}, { max_connections = MANY }) end,
    wait = pop },
  ["a place in the pool"] = { start = function()
    local redis = client({}, { max_connections = 1 })
    local holder = redio.spawn(pcall, pop, redis)
    redio.sleep(0)
    return redis, holder
  end, wait = pop },
  ["a shared connection"] = { start = function() return client({ connects = false }, {}) end, wait = get },
  ["connections of their own"] = { start = function()
    return client({ connects = false }, { max_connections = MANY })
  end, wait = pop },
  ["room to write"] = { start = function()
    local redis = client({ chokes = true }, { max_queued_bytes = 1000 })
    local writer = redio.spawn(pcall, function() redis():set("k", ("x"):rep(2000)):await() end)
    redio.sleep(0.01)
    return redis, writer
  end, wait = get },
  ["a time"] = { wait = function() redio.sleep(60) end },
  ["a task"] = { start = function()
    local task = redio.spawn(redio.sleep, 60)
    return task, task
  end, wait = function(task) task:await() end },
  ["something that is not redio's"] = { foreign = true, wait = function()
    coroutine.yield()
    redio.sleep(60)
  end },
  ["a message"] = { start = function()
    local redis = client({}, {})
    return redis:pubsub "c", redis
  end, wait = function(receiver) receiver:await() end },
}

local function in_order(count, fn)
  for i = 1, count do
    fn(i)
  end
end

local function backwards(count, fn)
  for i = count, 1, -1 do
    fn(i)
  end
end

local function at_random(count, fn)
  local order = {}
  for i = 1, count do
    local j = random(i)
    order[i] = order[j]
    order[j] = i
  end
  in_order(count, function(i) fn(order[i]) end)
end

local function by_cancel(walk)
  return function(tasks)
    walk(#tasks, function(i) tasks[i]:cancel() end)
  end
end

local ends = {
  ["cancelled, the first first"] = by_cancel(in_order),
  ["cancelled, the last first"] = by_cancel(backwards),
  ["cancelled at random"] = by_cancel(at_random),
  ["out of time"] = function() end,
  ["closed"] = function(_, redis) redis:close { drain = 0 } end,
}

describe("Ten thousand that wait for", function()
  -- Seconds of this process's own time until all of them are ended.
  local function measure(wait, how, count)
    local finish = ends[how]
    local subject, holder
    if wait.start then subject, holder = wait.start() end
    local tasks, left = {}, count
    local function work()
      if how == "out of time" then
        pcall(redio.with_timeout, 0.2, wait.wait, subject)
      else
        pcall(wait.wait, subject)
      end
      left = left - 1
    end
    collectgarbage()
    collectgarbage()
    local before
    for i = 1, count do
      tasks[i] = redio.spawn(work)
    end
    redio.sleep(0)
    if not wait.begun then redio.sleep(0.02) end
    before = os.clock()
    finish(tasks, subject)
    if wait.foreign then
      for i = 1, count do
        coroutine.resume(tasks[i].co)
      end
    end
    while left > 0 do
      redio.sleep(0.001)
    end
    local took = os.clock() - before
    if holder and holder.cancel then holder:cancel() end
    if subject and subject.close then subject:close { drain = 0 } end
    return took
  end

  for name, wait in pairs(waits) do
    for how in pairs(ends) do
      local can_be_closed = wait.start and name ~= "a task" and not wait.begun
      local applies = not (wait.foreign and how == "out of time") and (how ~= "closed" or can_be_closed)
        and not (wait.begun and how == "out of time")
      if applies then
        it(name .. ": " .. how, function()
          check.within(100, function()
            local few, many
            for _ = 1, 3 do -- (a collection may fall into one of them)
              few, many = math.max(measure(wait, how, FEW), 0.002), measure(wait, how, MANY)
              if many <= few * BOUND then return end
            end
            error(("%d: %.3f s, %d: %.3f s"):format(FEW, few, MANY, many))
          end)
        end)
      end
    end
  end

  it("each other, in a group: cancelled together", function()
    check.within(100, function()
      local function gather(count)
        local fns = {}
        for i = 1, count do
          fns[i] = function() redio.sleep(60) end
        end
        local group = redio.spawn(function() redio.gather((table.unpack or unpack)(fns)) end) -- luacheck: ignore
        redio.sleep(0.01)
        local before = os.clock()
        group:cancel()
        pcall(group.await, group)
        return os.clock() - before
      end
      local few, many
      for _ = 1, 3 do
        few, many = math.max(gather(FEW / 2), 0.002), gather(MANY / 2)
        if many <= few * BOUND then return end
      end
      error(("%.3f s, four times as many: %.3f s"):format(few, many))
    end)
  end)
end)
