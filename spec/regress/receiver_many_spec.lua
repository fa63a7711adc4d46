-- SPDX-License-Identifier: MIT
-- Ten thousand of each: subscribing to as many channels at once failed on LuaJIT, and the work for each of many
-- waiters, views or unsubscriptions took time with the square of their number.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local function names(count)
  local list = {}
  for i = 1, count do
    list[i] = "spec:many:" .. i
  end
  return list
end

describe("many", function()
  local it_needs = fixtures.new()
  local redis

  before_each(function()
    redis = it_needs:client(server.shared().url, { timeout = 60, queue_limit = 100000 })
  end)

  after_each(function()
    it_needs:clear()
  end)

  it("channels are subscribed and unsubscribed at once, by name and by pattern, in a list or not", function()
    check.within(60, function()
      local list = names(10000)
      local receiver = redis:pubsub(list):psubscribe(list):ssubscribe(list):connect()
      local function counts()
        local n = { 0, 0 }
        for _ in pairs(receiver.pubsub_channels) do n[1] = n[1] + 1 end
        for _ in pairs(receiver.pubsub_patterns) do n[2] = n[2] + 1 end
        return n
      end
      assert.are.same({ 10000, 10000 }, counts())
      redis():publish(list[10000], "x"):await()
      assert.are.equal("x", (receiver:await()))
      receiver:unsubscribe(list):punsubscribe():sunsubscribe():connect()
      assert.are.same({ 0, 0 }, counts())
      receiver:subscribe((table.unpack or unpack)(names(5000))):connect() -- luacheck: ignore unpack
      assert.are.same({ 5000, 0 }, counts())
      receiver:close()
    end)
  end)

  it("channels are restored after a loss", function()
    check.within(60, function()
      local gaps = 0
      local receiver = redis:pubsub(names(10000)):resubscribe(function() gaps = gaps + 1 end):connect()
      local task = redio.spawn(receiver.await, receiver)
      redio.sleep(0.01)
      redis():client_kill("TYPE", "pubsub"):await()
      assert.is_true(check.eventually(function() return gaps == 1 end))
      redis():publish("spec:many:777", "x"):await()
      assert.are.equal("x", (task:await()))
      receiver:close()
    end)
  end)

  -- Seconds of the processor that `act(prepared)` takes for so many.
  local function cost(act, count)
    collectgarbage()
    local before = os.clock()
    act(count)
    return os.clock() - before
  end

  local function open(count)
    return redis:pubsub(names(count or 1)):connect()
  end

  -- Starts so many tasks that wait; `wait(i)`.
  local function waiters(count, wait)
    local tasks = {}
    for i = 1, count do
      tasks[i] = redio.spawn(function() return wait(i) end)
    end
    redio.sleep(0)
    redio.sleep(0.001)
    return tasks
  end

  local function publish(count)
    local db = redis()
    for _ = 1, count do
      db:publish("spec:many:1", "x")
    end
    db:replies()
  end

  local ACTS = {
    ["waiters get a message each"] = function(count)
      local receiver = open()
      local tasks = waiters(count, function() return receiver:await() end)
      publish(count)
      for i = 1, count do assert(tasks[i]:await() == "x") end
      receiver:close()
    end,
    ["waiters are cancelled, the first first"] = function(count)
      local receiver = open()
      local tasks = waiters(count, function() pcall(receiver.await, receiver) end)
      for i = 1, count do tasks[i]:cancel() end
      assert(receiver._feed.waiters:is_empty())
      receiver:close()
    end,
    ["waiters are cancelled, the last first"] = function(count)
      local receiver = open()
      local tasks = waiters(count, function() pcall(receiver.await, receiver) end)
      for i = count, 1, -1 do tasks[i]:cancel() end
      receiver:close()
    end,
    ["waiters are out of time"] = function(count)
      local receiver = open()
      local view = receiver:channel "spec:many:1"
      local tasks = waiters(count, function() return pcall(view.get, view, { timeout = 0.05 }) end)
      for i = 1, count do assert(not tasks[i]:await()) end
      receiver:close()
    end,
    ["waiters are told of a loss"] = function(count)
      local receiver = open()
      local tasks = waiters(count, function() return pcall(receiver.await, receiver) end)
      redis():client_kill("TYPE", "pubsub"):await()
      for i = 1, count do assert(not tasks[i]:await()) end
      receiver:close()
    end,
    ["waiters are told of the end"] = function(count)
      local receiver = open()
      local tasks = waiters(count, function() return receiver:await() end)
      receiver:close()
      for i = 1, count do assert(tasks[i]:await() == nil) end
    end,
    ["waiters are cancelled where there is no connection"] = function(count)
      local line = it_needs:proxy()
      line.down.hold = true
      local receiver = it_needs:client(line.url):pubsub "c"
      local tasks = waiters(count, function() pcall(receiver.await, receiver) end)
      for i = 1, count do tasks[i]:cancel() end
      receiver:close()
    end,
    ["views are waited on, and lost with the connection"] = function(count)
      local receiver = open(count)
      local tasks = waiters(count, function(i)
        local view = receiver:channel("spec:many:" .. i)
        return pcall(view.get, view)
      end)
      redis():client_kill("TYPE", "pubsub"):await()
      for i = 1, count do assert(not tasks[i]:await()) end
      receiver:close()
    end,
    ["views end one by one"] = function(count)
      local receiver = open(count)
      local tasks = waiters(count, function(i) return receiver:channel("spec:many:" .. i):get() end)
      for i = 1, count do receiver:unsubscribe("spec:many:" .. i) end
      for i = 1, count do assert(tasks[i]:await() == nil) end
      receiver:close()
    end,
    ["unsubscriptions, with others that wait"] = function(count)
      local receiver = open(count)
      local tasks = waiters(count, function() return receiver:await() end)
      for i = 2, count do receiver:unsubscribe("spec:many:" .. i) end
      receiver:connect()
      receiver:close()
      for i = 1, count do tasks[i]:await() end
    end,
  }

  for name, act in pairs(ACTS) do
    it(name .. ", in linear time", function()
      local FEW, MANY = 1250, 10000
      local few, many
      redio.run(redio.with_timeout, 120, function()
        cost(act, FEW) -- (warm)
        few = math.min(cost(act, FEW), cost(act, FEW))
        many = cost(act, MANY)
      end)
      -- eight times as many; the square would be 64 times as long
      assert.is_true(many < 30 * math.max(few, 0.002), ("%.4f s for %d, %.4f s for %d"):format(few, FEW, many, MANY))
    end)
  end
end)
