-- SPDX-License-Identifier: MIT
-- A coroutine is resumed within the one that wakes it: of 250 tasks that each awaited the one before, the last ones got
-- "C stack overflow" instead of a result, or were never resumed.

local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"

local MANY = 30000

describe("a chain of wakes", function()
  it("of tasks that each await the one before", function()
    check.within(60, function()
      local tasks = { redio.spawn(function()
        redio.sleep(0.01)
        return 1
      end) }
      for i = 2, MANY do
        tasks[i] = redio.spawn(function() return tasks[i - 1]:await() + 1 end)
      end
      assert.are.equal(MANY, (tasks[MANY]:await()))
      for i = 1, MANY, 1000 do
        assert.are.equal("done", tasks[i]:status())
      end
    end)
  end)

  it("of tasks that each await the one before, and fail with it", function()
    check.within(60, function()
      local sent = {}
      local tasks = { redio.spawn(function()
        redio.sleep(0.01)
        error(sent)
      end) }
      for i = 2, 3000 do
        tasks[i] = redio.spawn(function() return tasks[i - 1]:await() end)
      end
      local ok, err = pcall(tasks[3000].await, tasks[3000])
      assert.is_false(ok)
      assert.are.equal(sent, err)
    end)
  end)

  it("of tasks that each cancel the next", function()
    check.within(60, function()
      local tasks, ended = {}, 0
      for i = 1, 10000 do
        tasks[i] = redio.spawn(function()
          local ok, err = pcall(redio.sleep, 60)
          assert(not ok and redio.errors.is(err, "CancelledError"))
          if tasks[i + 1] then tasks[i + 1]:cancel() end
          ended = ended + 1
          return i
        end)
      end
      redio.sleep(0)
      tasks[1]:cancel()
      for i = 1, 10000 do
        assert.are.equal(i, (tasks[i]:await()))
      end
      assert.are.equal(10000, ended)
    end)
  end)

  it("of tasks that each cancel the next, which waits for a reply", function()
    local redis = redio.Redis(server.shared().url)
    check.within(60, function()
      redis():ping():await()
      local tasks = {}
      for i = 1, 2000 do
        tasks[i] = redio.spawn(function()
          local ok, err = pcall(function() redis():echo(i):call("DEBUG", "SLEEP", "0"):await() end)
          assert(not ok and redio.errors.is(err, "CancelledError"))
          if tasks[i + 1] then tasks[i + 1]:cancel() end
          return i
        end)
      end
      redio.sleep(0)
      tasks[1]:cancel()
      for i = 1, 2000 do
        assert.are.equal(i, (tasks[i]:await()))
      end
      assert.are.equal("after", (redis():echo "after":await()))
    end)
    redis:close()
  end)

  it("within calls that fill the C stack themselves", function()
    check.within(60, function()
      local task = redio.spawn(function()
        local ok, err = pcall(redio.sleep, 60)
        return not ok and redio.errors.is(err, "CancelledError")
      end)
      redio.sleep(0)
      local function deep(n)
        local ok, err = pcall(function()
          if n > 0 then return deep(n - 1) end
          task:cancel()
        end)
        if not ok then error(err, 0) end
      end
      for depth = 10, 240 do
        pcall(deep, depth)
      end
      assert.is_true((task:await()))
    end)
  end)

  it("of which one was closed before it ran: the error that it was to get is reported (Lua 5.4)", function()
    if not coroutine.close then return pending "coroutine.close" end -- luacheck: ignore 143
    local task = require "redio.task"
    local function nest(levels, fn)
      if levels == 0 then return fn() end
      local waiter = {}
      coroutine.wrap(function()
        task.wait(waiter)
        nest(levels - 1, fn)
      end)()
      task.wake(waiter)
    end
    local reported = {}
    local former = redio.on_uncaught(function(err) reported[#reported + 1] = err end)
    local levels, ran = 0, true
    while ran and levels < 100 do
      levels, ran = levels + 1, false
      local waiter, sent = {}, { levels = levels }
      local fails = redio.spawn(function()
        task.wait(waiter)
        error(sent)
      end)
      redio.sleep(0)
      local joiner = coroutine.create(function()
        assert.are.equal(sent, select(2, pcall(fails.await, fails)))
        ran = true
      end)
      coroutine.resume(joiner)
      redio.spawn(nest, levels, function()
        task.wake(waiter)
        if not ran then coroutine.close(joiner) end -- luacheck: ignore 143
      end):await()
    end
    redio.sleep(1.2)
    redio.on_uncaught(former)
    assert.are.same({ { levels = levels } }, reported)
  end)

  it("of places in the pool", function()
    local redis = redio.Redis(server.shared().url, { max_connections = 1 })
    check.within(60, function()
      local tasks = {}
      for i = 1, 2000 do
        tasks[i] = redio.spawn(function()
          return redis:with_connection(function(db) return (db:echo(i):await()) end)
        end)
      end
      redio.sleep(0.05)
      for i = 1, 1990 do
        tasks[i]:cancel()
      end
      for i = 1991, 2000 do
        assert.are.equal(tostring(i), (tasks[i]:await()))
      end
    end)
    redis:close()
  end)
end)
