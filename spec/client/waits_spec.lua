-- SPDX-License-Identifier: MIT
-- Each kind of wait ends in the ways that are not the awaited one: the coroutine is closed (Lua 5.4), or foreign code
-- resumes it. Nothing of the wait is left then, and other waits get their own replies.

local redio = require "redio"
local check = require "spec.support.check"
local process = require "spec.support.process"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local PREFIX = "spec:park:"
local MOST = 2 -- connections of the pool

local close_coroutine = rawget(coroutine, "close")

-- Each waits for longer than the test takes. `line` is the proxy that the client goes through.
local waits = {
  ["a reply, shared"] = function(redis, line)
    line.down.hold = true
    redis():echo "x":await()
  end,
  ["a chain, shared"] = function(redis, line)
    line.down.hold = true
    redis():echo "x":echo "y":ping():await()
  end,
  ["half a chain, shared"] = function(redis)
    redis():echo(("x"):rep(1000)):call("DEBUG", "SLEEP", "0.2"):await()
  end,
  ["a list of replies, decoded"] = function(redis, line)
    line.down.hold = true
    redis():echo "x":echo "y":strdecode():replies()
  end,
  ["a chain that is not written yet"] = function(redis)
    redis():echo "x":await()
  end,
  ["a blocking command"] = function(redis) redis():blpop(PREFIX .. "none", 0):await() end,
  ["a pinned connection"] = function(redis, line)
    local db = redis:connection()
    db:ping():await()
    line.down.hold = true
    db:get(PREFIX .. "k"):await()
  end,
  ["with_connection"] = function(redis)
    redis:with_connection(function(db) db:blpop(PREFIX .. "none", 0):await() end)
  end,
  ["a sleep in with_connection"] = function(redis)
    redis:with_connection(function(db)
      db:ping():await()
      redio.sleep(60)
    end)
  end,
  ["a place in the pool"] = { function(redis, _, state)
    for i = 1, MOST do
      state[i] = redis:connection()
      state[i]:ping():await()
    end
    state.waits = true
    redis:with_connection(function(db) db:ping():await() end)
  end, function(state)
    for i = 1, MOST do
      state[i]:close()
    end
  end },
  ["a shared connection that is being made"] = function(redis, line)
    redis:disconnect()
    line.down.hold = true
    redis():ping():await()
  end,
  ["a private connection that is being made"] = function(redis, line)
    line.down.hold = true
    redis():blpop(PREFIX .. "none", 0):await()
  end,
  ["room to write"] = function(redis, line)
    line.up.window, line.up.hold = 1, true
    redio.spawn(function() pcall(function() redis():set(PREFIX .. "large", ("x"):rep(2 ^ 24)):await() end) end)
    redio.sleep(0.03)
    redis():get(PREFIX .. "k"):await()
  end,
  ["a sleep"] = function() redio.sleep(60) end,
  ["a turn of the loop"] = function() redio.sleep(0) end,
  ["a task"] = function() redio.spawn(redio.sleep, 0.3):await() end,
  ["a group"] = function(redis)
    redio.gather(function() redio.sleep(60) end, function() redis():blpop(PREFIX .. "none", 0):await() end)
  end,
  ["with_timeout"] = function(redis)
    redio.with_timeout(60, function() redis():blpop(PREFIX .. "none", 0):await() end)
  end,
  ["with_timeout, shared"] = function(redis, line)
    line.down.hold = true
    redio.with_timeout(60, redio.with_timeout, 61, function() redis():get(PREFIX .. "k"):await() end)
  end,
  ["handle:timeout"] = function(redis, line)
    line.down.hold = true
    redis():get(PREFIX .. "k"):timeout(60):await()
  end,
  ["a transaction's WATCH"] = function(redis, line)
    redis:connection():ping():await()
    line.down.hold = true
    redis:transaction(PREFIX .. "k", function() end)
  end,
  ["a sleep in a transaction"] = function(redis)
    redis:transaction(PREFIX .. "k", function(db)
      db:get(PREFIX .. "k"):await()
      redio.sleep(60)
    end)
  end,
  ["a transaction's EXEC"] = function(redis, line)
    redis:transaction(PREFIX .. "k", function(db)
      db:get(PREFIX .. "k"):await()
      line.down.hold = true
      db:multi():get(PREFIX .. "k")
    end)
  end,
  ["a lock"] = function(redis) redis:lock(PREFIX .. "held", { sleep = 60 }):acquire() end,
  ["a script"] = function(redis, line)
    line.down.hold = true
    redis:script "return 1"()
  end,
  ["an iterator"] = function(redis, line)
    line.down.hold = true
    redis:scan { match = PREFIX .. "*" }()
  end,
  ["a receiver's connection"] = { function(redis, line, state)
    line.down.hold = true
    state.receiver = redis:pubsub(PREFIX .. "c")
    state.receiver:connect()
  end, function(state) state.receiver:close() end },
  ["a message"] = { function(redis, _, state)
    state.receiver = redis:pubsub(PREFIX .. "c"):connect()
    state.receiver:await()
  end, function(state) state.receiver:close() end },
  ["a message of a view"] = { function(redis, _, state)
    state.receiver = redis:pubsub(PREFIX .. "c"):connect()
    state.receiver:channel(PREFIX .. "c"):get()
  end, function(state) state.receiver:close() end },
  ["a message of a view, for a time"] = { function(redis, _, state)
    state.receiver = redis:pubsub(PREFIX .. "c"):connect()
    state.receiver:channel(PREFIX .. "c"):get { timeout = 60 }
  end, function(state) state.receiver:close() end },
  ["a monitor"] = { function(redis, _, state)
    state.monitor = redis:monitor():connect()
    for _ = 1, 10 do
      state.monitor:await()
    end
  end, function(state) state.monitor:close() end },
  ["a client that closes"] = function(redis, line)
    local mine = redio.Redis(line.url)
    redio.spawn(function() pcall(function() mine():blpop(PREFIX .. "none", 0):await() end) end)
    redio.sleep(0.05)
    mine:close { drain = 0.3 }
    redis():ping():await()
  end,
}

describe("A coroutine that waits for", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
    local redis = redio.Redis(shared.url)
    redis():set(PREFIX .. "k", "v"):set(PREFIX .. "held", "by another"):await()
    redis:close()
  end)

  teardown(function()
    local redis = redio.Redis(shared.url)
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Each reply reaches its own caller, on the shared connection and on as many private ones as there may be.
  local function works(redis)
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = redio.spawn(function() return redis():echo("shared " .. i):await() end)
    end
    for i = 1, MOST do
      tasks[20 + i] = redio.spawn(redis.with_connection, redis, function(db)
        redio.sleep(0.02)
        return (db:echo("private " .. i):await())
      end)
    end
    for i = 1, 20 + MOST do
      assert.are.equal(i > 20 and "private " .. i - 20 or "shared " .. i, (tasks[i]:await()))
    end
  end

  local function interfere_with(wait, interfere, seconds)
    local begin, finish = wait, nil
    if type(wait) == "table" then begin, finish = wait[1], wait[2] end
    local handles
    check.within(10, function()
      redio.sleep(0.002)
      handles = process.handles()
      local line = it_needs:proxy()
      local redis = it_needs:client(line.url, { retry = false, max_connections = MOST, pool_timeout = 2,
        max_queued_bytes = 2 ^ 20 })
      redis():ping():await()
      local state = {}
      local co = coroutine.create(function() begin(redis, line, state) end)
      assert(coroutine.resume(co))
      if seconds then redio.sleep(seconds) end
      assert.are.equal("suspended", coroutine.status(co))
      interfere(co)
      assert.are.equal("dead", coroutine.status(co))
      line.up.window = nil
      line:release()
      if finish then finish(state) end
      state = nil -- luacheck: ignore
      process.collect()
      works(redis)
      assert.is_true(check.eventually(function()
        local stats = redis:stats()
        return stats.in_flight == 0 and stats.waiting == 0 and stats.queued_bytes == 0
      end))
      redis:close()
      line:stop()
      assert.is_true(check.eventually(function() return process.handles() <= handles end), "handles are left")
    end)
  end

  for name, wait in pairs(waits) do
    local seconds = name ~= "a chain that is not written yet" and name ~= "a turn of the loop" and 0.1 or nil

    it(name .. ": closed", function()
      if not close_coroutine then return pending "there is no coroutine.close" end
      interfere_with(wait, function(co) assert.is_true(close_coroutine(co)) end, seconds)
    end)

    it(name .. ": resumed by foreign code", function()
      interfere_with(wait, function(co)
        local ok, err = coroutine.resume(co, "not yours")
        assert.is_false(ok)
        assert.matches("other code resumed it", tostring(err))
      end, seconds)
    end)
  end

  describe("a blocking command, and is closed:", function()
    local redis

    before_each(function()
      redis = it_needs:client(shared.url, { retry = false, max_connections = 1, pool_timeout = 2 })
    end)

    it("eats nothing", function()
      if not close_coroutine then return pending "there is no coroutine.close" end
      check.within(5, function()
        local co = coroutine.create(function() redis():blpop(PREFIX .. "queue", 0):await() end)
        coroutine.resume(co)
        redio.sleep(0.05)
        close_coroutine(co)
        redio.sleep(0.05)
        redis():rpush(PREFIX .. "queue", "item"):await()
        assert.are.equal("item", (redis():lpop(PREFIX .. "queue"):await()))
      end)
    end)

    it("its variables are closed with it", function()
      if not close_coroutine then return pending "there is no coroutine.close" end
      local wait = load [[
        local redis, key = ...
        local db <close> = redis:connection()
        db:blpop(key, 0):await()
      ]]
      check.within(5, function()
        local co = coroutine.create(wait)
        assert(coroutine.resume(co, redis, PREFIX .. "none"))
        redio.sleep(0.05)
        assert.is_true(close_coroutine(co))
        assert.are.equal(0, redis:stats().connections)
        assert.are.equal("next", redis:with_connection(function(db) return (db:echo "next":await()) end))
      end)
    end)

    it("the next in the queue has its place", function()
      if not close_coroutine then return pending "there is no coroutine.close" end
      check.within(5, function()
        local holder = coroutine.create(function() redis():blpop(PREFIX .. "none", 0):await() end)
        coroutine.resume(holder)
        local waiting, order = {}, {}
        for i = 1, 5 do
          waiting[i] = coroutine.create(function()
            local said = redis:with_connection(function(db) return (db:echo(i):await()) end)
            order[#order + 1] = said
          end)
          coroutine.resume(waiting[i])
        end
        redio.sleep(0.05)
        close_coroutine(waiting[1])
        close_coroutine(waiting[3])
        assert.are.equal(3, redis:stats().waiting)
        close_coroutine(holder)
        assert.is_true(check.eventually(function() return #order == 3 end))
        assert.are.same({ "2", "4", "5" }, order)
      end)
    end)
  end)

  it("a task that is closed: what awaits it is told", function()
    if not close_coroutine then return pending "there is no coroutine.close" end
    check.within(5, function()
      local co
      local task = redio.spawn(function()
        co = coroutine.running()
        redio.sleep(60)
      end)
      local joiner = redio.spawn(function() return pcall(task.await, task) end)
      redio.sleep(0)
      assert.is_true(close_coroutine(co))
      local ok, err = joiner:await()
      assert.is_false(ok)
      assert.is_true(redio.errors.is(err, "CancelledError"))
      assert.are.equal("cancelled", task:status())
      assert.is_false(task:cancel())
    end)
  end)

  it("a task with a coroutine that foreign code resumes: each await of it is told", function()
    check.within(5, function()
      local co
      local task = redio.spawn(function()
        co = coroutine.running()
        redio.sleep(60)
      end)
      redio.sleep(0)
      coroutine.resume(co)
      local ok, err = pcall(task.await, task)
      assert.is_false(ok)
      assert.matches("other code resumed it", err)
    end)
  end)

  for what, interfere in pairs {
    ["closed"] = function(co) if close_coroutine then close_coroutine(co) end end,
    ["resumed by foreign code"] = function(co) coroutine.resume(co) end,
  } do
    it("on_connect to end, which is " .. what .. ": the connection is given up", function()
      if what == "closed" and not close_coroutine then return pending "there is no coroutine.close" end
      check.within(5, function()
        local greeting
        for _, private in ipairs { false, true } do
          local redis = it_needs:client(shared.url, { retry = false, connect_timeout = 1, on_connect = function(db)
            if greeting == "over" then return end
            greeting = coroutine.running()
            db:call("DEBUG", "SLEEP", "0.1"):await()
          end })
          greeting = nil
          local task = redio.spawn(function()
            if private then return redis:connection():ping "x":await() end
            return redis():ping "x":await()
          end)
          redio.sleep(0.05)
          interfere(greeting)
          greeting = "over"
          assert.is_false((pcall(task.await, task)))
          assert.are.equal("y", (redis():ping "y":await()))
          assert.are.equal("z", (redis:connection():ping "z":await()))
        end
      end)
    end)
  end
end)
