-- SPDX-License-Identifier: MIT
-- Promise 28, one owner: a handle that two coroutines use at once raises, and no result reaches the other coroutine.
-- (Of several coroutines on one receiver, view or monitor, one gets each message:
-- regress/receiver_several_waiters_spec.lua.)

local check = require "spec.support.check"
local random = require "spec.support.random"
local redio = require "redio"
local server = require "spec.support.server"

describe("Promise 28: a handle", function()
  local redis

  before_each(function()
    redis = redio.Redis(server.shared().url, { timeout = 5 })
    redio.run(function()
      redis():flushall():mset({ a = "1", b = "2" }):await()
    end)
  end)

  after_each(function()
    redio.run(redis.close, redis)
  end)

  -- Runs `fn` in another coroutine, where it must raise at its own line. Returns the error.
  local function elsewhere(fn)
    return redio.spawn(function()
      return check.misuse(fn)
    end):await()
  end

  local uses = {
    queue = function(db)
      return function()
        db:get("b")
      end
    end,
    ["queue a table"] = function(db)
      return function()
        db:del({ "x", "y" })
      end
    end,
    call = function(db)
      return function()
        db:call("GET", "b")
      end
    end,
  }
  for how, use in pairs(uses) do
    it("that another coroutine has queued on refuses to " .. how, function()
      redio.run(function()
        local db = redis():get("a")
        assert.is_truthy(elsewhere(use(db)):find("has queued commands on this handle", 1, true))
        assert.are.equal("1", db:await())
        assert.are.equal("2", db:get("b"):await())
      end)
    end)

    it("that another coroutine awaits refuses to " .. how, function()
      redio.run(function()
        for _, chain in ipairs { "shared", "private" } do
          local db = redis()
          local task = redio.spawn(function()
            if chain == "private" then return db:blpop("list", 1):await() end
            return db:get("a"):await()
          end)
          redio.sleep(0)
          assert.is_truthy(elsewhere(use(db)):find("waits for the results of this handle", 1, true))
          redis():rpush("list", "x"):await()
          task:await()
          assert.are.equal("2", db:get("b"):await())
        end
      end)
    end)
  end

  for _, await in ipairs { "await", "replies", "()" } do
    it("cannot be awaited by another coroutine than the one that queued: " .. await, function()
      redio.run(function()
        local db = redis():get("a")
        local text = elsewhere(function()
          if await == "()" then db() else db[await](db) end
        end)
        assert.is_truthy(text:find("has queued commands on this handle", 1, true))
        assert.are.equal("1", db:await())
      end)
    end)
  end

  it("is free for another coroutine when its chain is answered, cleared or has failed", function()
    redio.run(function()
      local db = redis()
      for _, chain in ipairs { "get", "incr", "clear", "timeout" } do
        redio.spawn(function()
          if chain == "get" then db:get("a"):await() end
          if chain == "incr" then check.raises("ReplyError", function()
            db:rpush("a", "x"):await()
          end) end
          if chain == "clear" then db:get("a"):clear() end
          if chain == "timeout" then check.raises("TimeoutError", function()
            db:blpop("none", 0):timeout(0.02):await()
          end) end
        end):await()
        assert.are.equal("2", db:get("b"):await())
      end
    end)
  end)

  it("may be queued on and awaited by a script, where nothing runs yet", function()
    local db = redis():get("a")
    assert.are.equal("1", (db:await()))
    assert.are.same({ "2" }, db:get("b"):replies())
  end)

  it("with a connection of its own has one owner, too", function()
    redio.run(function()
      local db = redis:connection()
      db:multi():await()
      local waiting = redio.spawn(function()
        return db:get("a"):await()
      end)
      redio.sleep(0)
      elsewhere(function()
        db:get("b")
      end)
      waiting:await()
      assert.are.same({ "1" }, db:exec():await())
      db:close()
    end)
  end)

  it("BLPOP and WATCH by two coroutines at once: one raises, and no connection is lost", function()
    redio.run(function()
      for _ = 1, 10 do
        local db = redis()
        local pop = redio.spawn(function()
          return db:blpop("list", 1):await()
        end)
        redio.sleep(0)
        elsewhere(function()
          db:watch("a")
        end)
        redis():rpush("list", "x"):await()
        pop:await()
      end
      assert.is_true(redis:stats().connections <= 2)
      assert.are.equal(redis:stats().connections, redis:stats().idle)
    end)
  end)

  it("and so have an iterator and a lock", function()
    redio.run(function()
      redis():sadd("set", "a", "b"):zadd("zset", 1, "a", 2, "b"):await()
      for _, iterator in ipairs { redis:scan(), redis:sscan("set"), redis:zscan("zset") } do
        local first = redio.spawn(iterator)
        redio.sleep(0)
        assert.is_truthy(elsewhere(function()
          local item = iterator()
          return item
        end):find("for one coroutine", 1, true))
        assert.is_string(first:await())
        assert.is_string((iterator()))
      end
      redis():set("lock", "another's"):await()
      local lock = redis:lock("lock", { sleep = 0.005 })
      local acquiring = redio.spawn(lock.acquire, lock)
      redio.sleep(0)
      assert.is_truthy(elsewhere(function()
        local done = lock:acquire()
        return done
      end):find("another coroutine waits for this lock", 1, true))
      redis():del("lock"):await()
      assert.is_true(acquiring:await())
      lock:release()
    end)
  end)

  it("hands no result to another coroutine: 10,000 interleavings of queue and await", function()
    local pick = random.new "promise 28"
    local right, refused, handles = 0, 0, {}
    local function work(me)
      for i = 1, 1000 do
        local db = handles[pick(#handles)]
        local expected = {}
        local ok, err = pcall(function()
          for n = 1, pick(3) do
            local token = me .. "." .. i .. "." .. n
            db:echo(token)
            expected[n] = token
            if pick(3) == 1 then redio.sleep(0) end
          end
          local got = pick(2) == 1 and { db:await() } or db:replies()
          assert.are.same(expected, got)
        end)
        if ok then
          right = right + 1
        else
          assert.are.equal("string", type(err))
          assert.is_truthy(err:find("another coroutine", 1, true), err)
          refused = refused + 1
        end
      end
    end
    redio.run(function()
      for i = 1, 4 do
        handles[i] = redis()
      end
      local tasks = {}
      for me = 1, 10 do
        tasks[me] = redio.spawn(work, me)
      end
      for me = 1, 10 do
        tasks[me]:await()
      end
    end)
    assert.are.equal(10000, right + refused)
    assert.is_true(right > 100 and refused > 100, ("%d right, %d refused"):format(right, refused))
  end)
end)
