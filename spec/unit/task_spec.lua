-- SPDX-License-Identifier: MIT
-- task/: tasks, plain coroutines and the main coroutine. Contract: docs, "Module".

local uv = require "luv"
local redio = require "redio"
local server = require "spec.support.server"
local fake = require "spec.support.fake"
local check = require "spec.support.check"

local PREFIX = "spec:task:"

local function now()
  return uv.hrtime() / 1e9
end

describe("A task", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
    redis():set(PREFIX .. "k", "value"):await()
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  local function get()
    return (redis():get(PREFIX .. "k"):await())
  end

  describe("is run by redio.run, which", function()
    it("passes arguments and returns results, nils included", function()
      local results = { n = select("#", redio.run(function(...) return ... end, 1, nil, "x", nil)),
        redio.run(function(a, b) return b, a end, "a", "b") }
      assert.are.same({ n = 4, "b", "a" }, results)
    end)

    it("lets it wait", function()
      assert.are.equal("value", redio.run(get))
    end)

    it("notes in the error object of a task where it was raised", function()
      local task = redio.spawn(function()
        local length = redis():set(PREFIX .. "text", "x", "PX", 5000):lpush(PREFIX .. "text", 1):await()
        return length
      end)
      local err = check.raises("ReplyError", task.await, task)
      assert.matches("stack traceback.*task_spec", err.traceback)
    end)

    it("raises its error with the traceback", function()
      local ok, err = pcall(redio.run, function()
        get()
        error("boom")
      end)
      assert.is_false(ok)
      assert.matches("task_spec.lua:%d+: boom", tostring(err))
      assert.matches("stack traceback", tostring(err))
    end)

    it("raises an error object as it is", function()
      local err = check.raises("ReplyError", redio.run, function()
        redis():lpush(PREFIX .. "k", 1):await()
      end)
      assert.are.equal("WRONGTYPE", err.code)
      local mine = setmetatable({}, {})
      local ok, other = pcall(redio.run, error, mine)
      assert.is_false(ok)
      assert.are.equal(mine, other)
    end)

    it("just calls inside a running loop", function()
      redio.run(function()
        local thread = coroutine.running()
        local inside, value = redio.run(function()
          return coroutine.running(), get()
        end)
        assert.are.equal(thread, inside)
        assert.are.equal("value", value)
      end)
    end)

    it("can be called again and again", function()
      for _ = 1, 20 do
        assert.are.equal("value", redio.run(get))
        pcall(redio.run, error, "x")
      end
    end)
  end)

  describe("is started by redio.spawn and", function()
    it("runs beside this one", function()
      redio.run(function()
        local order = {}
        local task = redio.spawn(function(name)
          redio.sleep(0.01)
          order[#order + 1] = name
        end, "task")
        order[#order + 1] = "here"
        task:await()
        assert.are.same({ "here", "task" }, order)
      end)
    end)

    it("gives its results to each await, as often as it is awaited", function()
      redio.run(function()
        local task = redio.spawn(function(...)
          redio.sleep(0.001)
          return ...
        end, 1, nil, 3)
        assert.are.same({ 1, nil, 3 }, { task:await() })
        assert.are.same({ 1, nil, 3 }, { task:await() })
        assert.are.equal(3, select("#", task:await()))
      end)
    end)

    it("raises its error in each await", function()
      redio.run(function()
        local task = redio.spawn(function()
          redio.sleep(0.001)
          redis():lpush(PREFIX .. "k", 1):await()
        end)
        check.raises("ReplyError", task.await, task)
      end)
    end)

    it("can be awaited on the main coroutine without ceremony", function()
      local task = redio.spawn(get)
      assert.are.equal("value", (task:await()))
    end)

    it("has a status that changes when it ends", function()
      redio.run(function()
        local task = redio.spawn(redio.sleep, 0.01)
        local before = task:status()
        task:await()
        assert.are.equal("string", type(before))
        assert.are.equal("string", type(task:status()))
        assert.are_not.equal(before, task:status())
      end)
    end)
  end)

  describe("is cancelled by task:cancel(), so that", function()
    it("its wait raises CancelledError, in it and in each await of it", function()
      check.within(5, function()
        local inside
        local task = redio.spawn(function()
          local ok, err = pcall(redio.sleep, 60)
          inside = not ok and err
          error(err, 0)
        end)
        redio.sleep(0.001)
        task:cancel()
        check.raises("CancelledError", task.await, task)
        assert.is_true(redio.errors.is(inside, "CancelledError"))
      end)
    end)

    it("it ends at once, whatever it waits for", function()
      check.within(5, function()
        local receiver = redis:pubsub(PREFIX .. "silence"):connect()
        local waits = {
          function() redio.sleep(60) end,
          function() redis():blpop(PREFIX .. "empty", 60):await() end,
          function() receiver:await() end,
          function() redio.spawn(redio.sleep, 0.2):await() end,
        }
        for _, wait in ipairs(waits) do
          local task = redio.spawn(wait)
          redio.sleep(0.02)
          local before = now()
          task:cancel()
          check.raises("CancelledError", task.await, task)
          assert.is_true(now() - before < 0.1)
        end
        receiver:close()
      end)
    end)

    it("the end of its scope, where it is a variable that is closed, cancels it", function()
      local task = check.lua54([[
        local redio = require "redio"
        return redio.run(function()
          local kept
          do
            local task <close> = redio.spawn(redio.sleep, 60)
            kept = task
            redio.sleep(0)
            local ended <close> = redio.spawn(function() return "done" end)
            assert(ended:await() == "done")
          end
          return kept
        end)
      ]])
      if not task then return pending "nothing is closed" end
      assert.are.equal("cancelled", task:status())
    end)

    it("one that has ended stays as it is", function()
      redio.run(function()
        local task = redio.spawn(function() return "done" end)
        assert.are.equal("done", (task:await()))
        task:cancel()
        assert.are.equal("done", (task:await()))
      end)
    end)

    it("its reply is dropped, and the connection is kept", function()
      local client = redio.Redis(server.shared().url)
      local seed = os.time()
      math.randomseed(seed)
      check.within(20, function()
        local id = client():client_id():await()
        local workers, cancelled = {}, 0
        for w = 1, 50 do
          workers[w] = redio.spawn(function()
            for i = 1, 20 do
              local token = w .. "/" .. i
              local task = redio.spawn(function()
                local a, b = client():echo(token):echo(token .. "b"):await()
                assert(a == token and b == token .. "b", "mismatch, seed " .. seed)
              end)
              if math.random() < 0.5 then
                if math.random() < 0.5 then
                  redio.sleep(math.random() / 1000)
                end
                task:cancel()
              end
              local ok, err = pcall(task.await, task)
              if not ok then
                assert(redio.errors.is(err, "CancelledError"), tostring(err))
                cancelled = cancelled + 1
              end
            end
          end)
        end
        for _, worker in ipairs(workers) do
          worker:await()
        end
        assert.is_true(cancelled > 100)
        assert.are.equal(id, (client():client_id():await()))
        assert.are.equal(0, client:stats().in_flight)
        assert.are.equal(0, client:stats().waiting)
      end)
      client:close()
    end)

    it("its reply is dropped also when half of it was there", function()
      local peer = fake.start(function(connection, words)
        local reply = ("$%d\r\n%s\r\n"):format(#words[2], words[2])
        if connection.rest then
          connection.rest = connection.rest .. reply
        elseif words[2] == "cancelled" then
          connection.rest = reply:sub(7)
          redio.spawn(function()
            redio.sleep(0.03)
            connection:write(connection.rest)
            connection.rest = nil
          end)
          return reply:sub(1, 6)
        else
          return reply
        end
      end)
      local client = redio.Redis(peer.url)
      check.within(5, function()
        local task = redio.spawn(function()
          client():echo("cancelled"):await()
        end)
        redio.sleep(0.01)
        task:cancel()
        local kept = redio.spawn(function()
          return client():echo("kept"):await()
        end)
        check.raises("CancelledError", task.await, task)
        redio.sleep(0.05)
        assert.are.equal("kept", (kept:await()))
        assert.are.equal("again", (client():echo("again"):await()))
      end)
      assert.are.equal(1, peer.accepted)
      client:close()
      peer:stop()
    end)

    it("a blocking command that it waited for eats nothing", function()
      check.within(5, function()
        local key = PREFIX .. "queue"
        local task = redio.spawn(function()
          redis():blpop(key, 60):await()
        end)
        redio.sleep(0.02)
        task:cancel()
        redio.sleep(0.1)
        redis():rpush(key, "item"):await()
        assert.are.equal("item", (redis():lpop(key):await()))
      end)
    end)
  end)

  describe("gathers:", function()
    it("runs side by side, and gives one result of each in order", function()
      local before = now()
      assert.are.same({ "a", nil, "value" }, {
        redio.gather(function()
          redio.sleep(0.1)
          return "a", "not this"
        end, function()
          redio.sleep(0.1)
        end, get),
      })
      assert.is_true(now() - before < 0.19)
    end)

    it("raises the first error and cancels the others", function()
      redio.run(function()
        local cancelled
        local ok, err = pcall(redio.gather, function()
          local slept, why = pcall(redio.sleep, 60)
          cancelled = not slept and redio.errors.is(why, "CancelledError")
          error(why, 0)
        end, function()
          redio.sleep(0.01)
          error("the first")
        end)
        assert.is_false(ok)
        assert.matches("the first", tostring(err))
        redio.sleep(0.001)
        assert.is_true(cancelled)
      end)
    end)
  end)

  describe("keeps time:", function()
    it("sleeps for seconds and fractions, and others run meanwhile", function()
      redio.run(function()
        local ticks = 0
        local task = redio.spawn(function()
          for _ = 1, 5 do
            redio.sleep(0.005)
            ticks = ticks + 1
          end
        end)
        local before = now()
        redio.sleep(0.08)
        local slept = now() - before
        assert.is_true(slept >= 0.079 and slept < 0.5)
        assert.are.equal(5, ticks)
        task:await()
      end)
    end)

    it("with_timeout returns the results of what is in time", function()
      assert.are.same({ 1, "value" }, { redio.with_timeout(5, function(x) return x, get() end, 1) })
    end)

    it("with_timeout raises an error of fn", function()
      check.raises("ReplyError", redio.with_timeout, 5, function()
        redis():lpush(PREFIX .. "k", 1):await()
      end)
    end)

    it("with_timeout cancels what is not in time, and raises TimeoutError", function()
      redio.run(function()
        local before, cancelled = now(), nil
        check.raises("TimeoutError", redio.with_timeout, 0.05, function()
          local ok, err = pcall(redio.sleep, 60)
          cancelled = not ok
          error(err, 0)
        end)
        assert.is_true(now() - before < 0.5)
        assert.is_true(cancelled)
      end)
    end)
  end)
end)

describe("A plain coroutine", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
    redis():set(PREFIX .. "k", "value"):await()
  end)

  teardown(function()
    redis:close()
  end)

  it("waits like a task", function()
    local got
    redio.run(function()
      coroutine.wrap(function()
        got = redis():get(PREFIX .. "k"):await()
      end)()
      assert.is_nil(got)
      assert.is_true(check.eventually(function()
        return got == "value"
      end))
    end)
  end)

  it("waits when it was started before any loop ran", function()
    local got
    coroutine.wrap(function()
      got = redis():get(PREFIX .. "k"):await()
    end)()
    redio.run(check.eventually, function()
      return got == "value"
    end)
    assert.are.equal("value", got)
  end)

  it("raises errors where it awaits, across pcall", function()
    local kind
    redio.run(function()
      coroutine.wrap(function()
        local ok, err = pcall(function()
          redis():lpush(PREFIX .. "k", 1):await()
        end)
        kind = not ok and err.kind
      end)()
      check.eventually(function()
        return kind
      end)
    end)
    assert.is_string(kind)
  end)

  for what, start in pairs {
    ["that ends with an error"] = "coroutine.wrap(worker)()",
    ["spawned as a task that is not awaited and ends with an error"] = "redio.spawn(worker)",
  } do
    it(what .. " is never swallowed", function()
      local output = check.script(([[
        local redio = require "redio"
        local redis = redio.Redis(%q)
        local function worker()
          redis():get("x"):await()
          error("nothing joins me")
        end
        redio.run(function()
          %s
          redio.sleep(0.3)
        end)
        collectgarbage()
        collectgarbage()
      ]]):format(server.shared().url, start))
      assert.matches("nothing joins me", output)
    end)
  end
end)

describe("The main coroutine", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
    redis():set(PREFIX .. "k", "value"):await()
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  it("runs the loop by itself while none runs", function()
    assert.are.equal("value", (redis():get(PREFIX .. "k"):await()))
    redio.sleep(0.001)
    assert.are.same({ 1, 2 }, { redio.gather(function() return 1 end, function() return 2 end) })
  end)

  it("ends a script of its own in good order, whatever it waited for", function()
    local waits = {
      "redio.sleep(0.001)",
      "pcall(redio.with_timeout, 0.001, redio.sleep, 60)",
      "redis():get('k'):await()",
      "redis():blpop('spec:task:none', 0.01):await()",
      "redis:pubsub('c'):connect()",
      "redis():get('k'):await() redis:close()",
      "pcall(redio.with_timeout, 0.01, function() redis():blpop('spec:task:none', 60):await() end)",
      "redio.spawn(redio.sleep, 60)",
    }
    for _, wait in ipairs(waits) do
      local output, status = check.script(([[
        local redio = require "redio"
        local redis = redio.Redis(%q)
        %s
      ]]):format(server.shared().url, wait))
      assert.are.same({ "", 0 }, { output, status }, wait)
    end
  end)

  it("is told to use a coroutine while the loop already runs", function()
    local db = redis()
    local waits = {
      function() db:get(PREFIX .. "k"):await() end,
      function() redio.sleep(0.01) end,
      function() redis:pubsub(PREFIX .. "c"):await() end,
    }
    for _, wait in ipairs(waits) do
      local ok, err
      redio.run(function()
        local timer = uv.new_timer()
        timer:start(1, 0, function()
          ok, err = pcall(wait)
          timer:close()
        end)
        redio.sleep(0.02)
      end)
      assert.is_false(ok)
      assert.matches("coroutine", tostring(err))
      db:clear()
    end
    assert.are.equal("value", (redis():get(PREFIX .. "k"):await()))
  end)
end)
