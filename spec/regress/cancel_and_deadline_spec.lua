-- SPDX-License-Identifier: MIT
-- A task that was cancelled while it waited for something foreign, inside of a with_timeout that ran out meanwhile, got
-- the TimeoutError instead, and was never cancelled. And the end of an inner with_timeout in a plain coroutine took the
-- outer one's effect away.

local redio = require "redio"
local check = require "spec.support.check"

describe("a cancel and a deadline", function()
  -- A wait that is not redio's, until `go`.
  local function foreign()
    local waiting = {}
    local function wait()
      waiting.co = coroutine.running()
      while waiting.co do
        coroutine.yield()
      end
    end
    local function go()
      local co = waiting.co
      waiting.co = nil
      coroutine.resume(co)
    end
    return wait, go
  end

  local function kind(err)
    return type(err) == "table" and err.kind or err
  end

  -- The errors met by a task that waits for something foreign under a deadline, and then for redio, twice; and how it
  -- ends.
  local function meet(interfere, seconds)
    local wait, go = foreign()
    local met = {}
    local task = redio.spawn(function()
      local ok, err = pcall(redio.with_timeout, seconds or 0.02, function()
        wait()
        local slept, why = pcall(redio.sleep, 0.001)
        met[#met + 1] = slept and "slept" or kind(why)
        slept, why = pcall(redio.sleep, 0.001)
        met[#met + 1] = slept and "slept" or kind(why)
        return "returned"
      end)
      met[#met + 1] = ok and "returned" or kind(err)
      redio.sleep(0.001)
      return "done"
    end)
    redio.sleep(0)
    local answer = interfere(task, go)
    local ok, err = pcall(task.await, task)
    met[#met + 1] = ok and err or kind(err)
    met[#met + 1] = task:status()
    assert.is_false(task:cancel())
    return met, answer
  end

  it("the cancel comes first: both are met, in that order", function()
    check.within(5, function()
      local met, answer = meet(function(task, go)
        local answer = task:cancel()
        assert.is_true(task:cancel()) -- once more is not twice
        redio.sleep(0.05)
        assert.are.equal("waiting", task:status())
        go()
        return answer
      end)
      assert.is_true(answer)
      assert.are.same({ "CancelledError", "TimeoutError", "returned", "done", "done" }, met)
    end)
  end)

  it("the deadline comes first: both are met, in that order", function()
    check.within(5, function()
      local met, answer = meet(function(task, go)
        redio.sleep(0.05)
        local answer = task:cancel()
        go()
        return answer
      end)
      assert.is_true(answer)
      assert.are.same({ "TimeoutError", "CancelledError", "returned", "done", "done" }, met)
    end)
  end)

  it("a cancel that is not caught ends the task, whatever its deadline has become", function()
    check.within(5, function()
      for _, first in ipairs { true, false } do
        local wait, go = foreign()
        local task = redio.spawn(function()
          redio.with_timeout(0.02, function()
            wait()
            if not first then pcall(redio.sleep, 0) end -- the deadline
            redio.sleep(60)
          end)
        end)
        redio.sleep(0)
        if first then assert.is_true(task:cancel()) end
        redio.sleep(0.05)
        if not first then assert.is_true(task:cancel()) end
        go()
        check.raises("CancelledError", task.await, task)
        assert.are.equal("cancelled", task:status())
      end
    end)
  end)

  it("a cancel stays when the deadline's scope is left", function()
    check.within(5, function()
      local wait, go = foreign()
      local task = redio.spawn(function()
        local inside = redio.with_timeout(0.02, function()
          wait()
          return "in time, as it did not wait any more"
        end)
        redio.sleep(60)
        return inside
      end)
      redio.sleep(0)
      redio.sleep(0.05)
      assert.is_true(task:cancel())
      go()
      check.raises("CancelledError", task.await, task)
    end)
  end)

  it("a deadline does not outlive its scope", function()
    check.within(5, function()
      local wait, go = foreign()
      local task = redio.spawn(function()
        redio.with_timeout(0.02, wait)
        redio.sleep(0.01)
        return "slept"
      end)
      redio.sleep(0)
      redio.sleep(0.05)
      go()
      assert.are.equal("slept", (task:await()))
    end)
  end)

  for what, start in pairs {
    ["a task"] = function(fn) redio.spawn(fn) end,
    ["a plain coroutine"] = function(fn) coroutine.wrap(fn)() end,
  } do
    it("deadlines within each other each strike at their time, in " .. what, function()
      check.within(5, function()
        local done
        start(function()
          local met = {}
          local function within(seconds, fn)
            local ok, err = pcall(redio.with_timeout, seconds, fn)
            met[#met + 1] = ok and "in time" or tostring(err):match "within (%S+ s)"
          end
          within(0.05, function()
            within(0.01, function() redio.sleep(60) end)
            within(10, function() redio.sleep(0.001) end)
            redio.with_timeout(10, redio.sleep, 60)
          end)
          within(0.01, function() redio.sleep(60) end)
          redio.sleep(0.02)
          done = met
        end)
        assert.is_truthy(check.eventually(function() return done end))
        assert.are.same({ "0.01 s", "in time", "0.05 s", "0.01 s" }, done)
      end)
    end)
  end

  it("both deadlines pass while it waits for something foreign: the inner one, then the outer one", function()
    check.within(5, function()
      local wait, go = foreign()
      local task = redio.spawn(function()
        local met = {}
        local ok, err = pcall(redio.with_timeout, 0.03, function()
          local in_time, why = pcall(redio.with_timeout, 0.01, function()
            wait()
            redio.sleep(60)
          end)
          met[1] = not in_time and why.message
          redio.sleep(60)
        end)
        met[2] = not ok and err.message
        redio.sleep(0.001)
        return met
      end)
      redio.sleep(0)
      redio.sleep(0.06)
      go()
      assert.are.same({ "not done within 0.01 s", "not done within 0.03 s" }, task:await())
    end)
  end)

  it("a task that is collected before it comes to its cancel counts no more", function()
    local task_module = require "redio.task"
    check.within(5, function()
      for _ = 1, 10 do
        redio.spawn(coroutine.yield):cancel() -- ends: not started
        local task = redio.spawn(function() redio.with_timeout(0.001, coroutine.yield) end)
        redio.sleep(0)
        task:cancel()
      end
      redio.sleep(0.02)
      assert.are.equal(20, task_module.cancelling) -- and their deadlines
      assert.is_true(check.eventually(function()
        collectgarbage()
        return task_module.cancelling == 0
      end))
    end)
  end)
end)
