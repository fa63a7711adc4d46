-- SPDX-License-Identifier: MIT
-- MULTI, WATCH and redis:transaction. Contract: docs, "Transactions".

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

local PREFIX = "spec:transaction:"

local function key(name)
  return PREFIX .. name
end

local function count(...)
  return select("#", ...)
end

describe("A transaction", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
  end)

  before_each(function()
    check.wipe(redis, PREFIX)
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  describe("in one chain", function()
    it("gives one value, a list of the results", function()
      assert.are.same({ { 1, 1 } }, { redis():multi():incr(key "foo"):incr(key "bar"):exec():await() })
    end)

    it("gives true when there is nothing to list", function()
      assert.are.same({ true }, { redis():multi():set(key "foo", 1):exec():await() })
      assert.are.same({ true }, { redis():multi():exec():await() })
    end)

    it("lists only what has a result, in the forms that it has outside", function()
      local list = redis():multi():set(key "a", 1):get(key "a"):get(key "no"):hset(key "h", { f = "v" })
        :hgetall(key "h"):hexists(key "h", "f"):ping():exec():await()
      assert.are.same({ "1", false, 1, { f = "v" }, true }, list)
    end)

    it("stands among other commands, each with its own result", function()
      redis():set(key "a", "1"):await()
      assert.are.same(
        { "1", { 2 }, "2" },
        { redis():get(key "a"):multi():incr(key "a"):exec():get(key "a"):await() }
      )
    end)

    it("is one element of replies()", function()
      assert.are.same({ { 1 }, 2, true }, redis():multi():incr(key "n"):exec():incr(key "n"):multi():exec():replies())
    end)

    it("goes over the shared connection", function()
      local id = redis():client_id():await()
      assert.are.same({ id }, (redis():multi():client_id():exec():await()))
    end)

    it("is atomic among a hundred coroutines", function()
      check.within(10, function()
        local tasks = {}
        for i = 1, 100 do
          tasks[i] = redio.spawn(function()
            local list = redis():multi():incr(key "n"):incr(key "n"):exec():await()
            assert(list[2] == list[1] + 1)
          end)
        end
        for _, task in ipairs(tasks) do
          task:await()
        end
      end)
      assert.are.equal("200", (redis():get(key "n"):await()))
    end)

    it("is forgotten by DISCARD", function()
      local db = redis():multi():incr(key "n"):discard():get(key "n")
      assert.are.same({ nil }, { db:await() })
      assert.are.equal(1, count(redis():multi():incr(key "n"):discard():get(key "n"):await()))
    end)
  end)

  describe("in which a command fails", function()
    local function failing()
      redis():set(key "s", "text"):await()
      return redis():multi():incr(key "n"):lpush(key "s", 1):incr(key "n"):exec()
    end

    it("is raised by await(), with the index in the chain and all replies", function()
      local db = failing()
      local err = check.raises("ReplyError", db.await, db)
      assert.are.equal("WRONGTYPE", err.code)
      assert.are.equal(3, err.index)
      assert.are.same({ 1, 2 }, { err.replies[1][1], err.replies[1][3] })
    end)

    it("leaves the error in its place in the list of replies()", function()
      local replies = failing():replies()
      assert.are.equal(1, #replies)
      assert.are.same({ 1, 2 }, { replies[1][1], replies[1][3] })
      assert.is_true(redio.errors.is(replies[1][2], "ReplyError"))
    end)

    it("is not undone, as the server does not roll back", function()
      local db = failing()
      pcall(db.await, db)
      assert.is_true(tonumber((redis():get(key "n"):await())) > 0)
    end)

    it("when it is queued, is an ExecAbortError at EXEC and changes nothing", function()
      local db = redis():multi():incr(key "n")
      pcall(db.await, db:call("NO.SUCH"))
      check.raises("ExecAbortError", function()
        db:exec():await()
      end)
      assert.is_nil((redis():get(key "n"):await()))
      local replies = redis():multi():incr(key "n"):call("NO.SUCH"):exec():replies()
      assert.is_true(redio.errors.is(replies[#replies], "ExecAbortError"))
      assert.is_nil((redis():get(key "n"):await()))
    end)
  end)

  describe("left open across an await", function()
    it("is on a connection of its own and takes effect at EXEC", function()
      local db = redis()
      db:multi():incr(key "n"):await()
      assert.is_nil((redis():get(key "n"):await()))
      db:incr(key "n"):await()
      assert.are.same({ 1, 2 }, (db:exec():await()))
      assert.are.equal("2", (redis():get(key "n"):await()))
    end)

    it("can be discarded", function()
      local db = redis()
      db:multi():incr(key "n"):await()
      assert.are.equal(0, count(db:discard():await()))
      assert.is_nil((db:get(key "n"):await()))
    end)
  end)

  describe("under WATCH", function()
    it("answers false when a watched key changed", function()
      local db = redis()
      db:watch(key "foo"):await()
      redis():set(key "foo", "changed"):await()
      assert.are.same({ false }, { db:multi():incr(key "n"):exec():await() })
      assert.is_nil((redis():get(key "n"):await()))
    end)

    it("answers as ever when none changed", function()
      local db = redis()
      db:watch(key "foo", key "bar"):await()
      assert.are.same({ { 1 } }, { db:multi():incr(key "n"):exec():await() })
    end)

    it("forgets the keys at UNWATCH", function()
      local db = redis()
      db:watch(key "foo"):await()
      redis():set(key "foo", "changed"):await()
      db:unwatch():await()
      assert.are.same({ { 1 } }, { db:multi():incr(key "n"):exec():await() })
    end)

    it("pins the handle to one connection, and gives it back at EXEC, DISCARD or UNWATCH", function()
      local shared_id = redis():client_id():await()
      local endings = {
        function(db) db:multi():exec():await() end,
        function(db) db:multi():discard():await() end,
        function(db) db:unwatch():await() end,
      }
      for _, ending in ipairs(endings) do
        local db = redis()
        db:watch(key "foo"):await()
        local id = db:client_id():await()
        assert.are.equal(id, (db:client_id():await()))
        assert.are_not.equal(shared_id, id)
        ending(db)
        assert.is_true(redis:stats().idle >= 1)
      end
    end)

    it("is the ancestor's loop", function()
      redis():set(key "foo", "Bar"):await()
      local db, rounds = redis(), 0
      repeat
        rounds = rounds + 1
        db:watch(key "foo")
        local foo = db:get(key "foo"):await() or "default VALUE"
        if rounds == 1 then
          redis():set(key "foo", "sEcOnD"):await()
        end
        db:multi():set(key "foo", foo:upper())
      until db:exec():await()
      assert.are.equal(2, rounds)
      assert.are.equal("SECOND", (redis():get(key "foo"):await()))
    end)

    it("loses no update among ten coroutines that contend for a key", function()
      local rounds = 0
      check.within(20, function()
        local tasks = {}
        for i = 1, 10 do
          tasks[i] = redio.spawn(function()
            for _ = 1, 10 do
              local db = redis()
              repeat
                rounds = rounds + 1
                db:watch(key "n")
                local n = db:get(key "n"):await() or 0
                db:multi():set(key "n", tonumber(n) + 1)
              until db:exec():await()
            end
          end)
        end
        for _, task in ipairs(tasks) do
          task:await()
        end
      end)
      assert.are.equal("100", (redis():get(key "n"):await()))
      assert.is_true(rounds > 100, "there was no contention")
    end)
  end)

  describe("that is misused raises at the call:", function()
    local function refused(db, method, ...)
      local args = { ... }
      local queued = db:queued()
      local text = check.misuse(function()
        db[method](db, (table.unpack or unpack)(args)) -- luacheck: ignore unpack
      end)
      assert.are.equal(queued, db:queued())
      return text
    end

    it("MULTI inside MULTI", function()
      local db = redis():multi()
      assert.matches("MULTI", refused(db, "multi"):upper())
      db:discard():await()
    end)

    it("WATCH inside MULTI", function()
      local db = redis():multi()
      assert.matches("WATCH", refused(db, "watch", key "foo"):upper())
      db:discard():await()
    end)

    it("EXEC or DISCARD without MULTI", function()
      assert.matches("EXEC", refused(redis(), "exec"):upper())
      assert.matches("DISCARD", refused(redis(), "discard"):upper())
      local db = redis():multi():exec()
      refused(db, "exec")
      db:clear()
    end)

    it("the same by call()", function()
      refused(redis(), "call", "EXEC")
      local db = redis():multi()
      refused(db, "call", "MULTI")
      db:discard():await()
    end)

    it("the same across awaits", function()
      local db = redis()
      db:multi():incr(key "n"):await()
      refused(db, "multi")
      refused(db, "watch", key "foo")
      assert.are.same({ 1 }, (db:exec():await()))
      refused(db, "exec")
    end)

    it("what cannot be paired inside MULTI", function()
      local calls = {
        { "SUBSCRIBE", "c" }, { "PSUBSCRIBE", "c*" }, { "SSUBSCRIBE", "c" }, { "UNSUBSCRIBE" },
        { "MONITOR" }, { "RESET" }, { "HELLO", 3 }, { "QUIT" },
        { "CLIENT", "REPLY", "OFF" }, { "CLIENT REPLY", "SKIP" },
      }
      for _, arguments in ipairs(calls) do
        local db = redis():multi()
        refused(db, "call", (table.unpack or unpack)(arguments)) -- luacheck: ignore unpack
        db:discard():await()
      end
      assert.are.equal(1, (redis():incr(key "n"):await()))
    end)
  end)

  describe("dropped in between", function()
    -- Takes every connection of the pool, and proves that no state of another is on it.
    local function clean(client, connections)
      client():set(key "watched", "changed"):await()
      check.within(5, function()
        local handles = {}
        for i = 1, connections do
          handles[i] = client()
          handles[i]:multi():incr(key "clean"):await()
        end
        for _, db in ipairs(handles) do
          local list = db:exec():await()
          assert(type(list) == "table" and #list == 1, "a WATCH or MULTI leaked")
        end
      end)
    end

    local function leave(name, drop)
      it(name, function()
        local client = redio.Redis(server.shared().url, { max_connections = 3, pool_timeout = 2 })
        for _ = 1, 6 do
          drop(client)
          collectgarbage()
          collectgarbage()
        end
        clean(client, 2)
        client:close()
      end)
    end

    leave("after WATCH never leaks it into the pool", function(client)
      client():watch(key "watched"):await()
    end)

    leave("after an open MULTI never leaks it into the pool", function(client)
      client():multi():incr(key "n"):await()
    end)

    leave("after WATCH and MULTI never leaks them into the pool", function(client)
      client():watch(key "watched"):multi():incr(key "n"):await()
    end)

    leave("by close() never leaks it into the pool", function(client)
      local db = client():watch(key "watched")
      db:multi():incr(key "n"):await()
      db:close()
    end)

    leave("by an error never leaks it into the pool", function(client)
      pcall(function()
        client():watch(key "watched"):multi():incr(key "n"):await()
        error("in between")
      end)
    end)

    leave("by a cancelled task never leaks it into the pool", function(client)
      redio.run(function()
        local task = redio.spawn(function()
          local db = client():watch(key "watched")
          db:multi():incr(key "n"):await()
          redio.sleep(10)
          db:exec():await()
        end)
        redio.sleep(0.01)
        task:cancel()
        pcall(task.await, task)
      end)
    end)
  end)

  describe("by redis:transaction(keys, fn, options)", function()
    it("watches the keys, calls fn(handle), and returns what EXEC returns", function()
      redis():set(key "n", 5):await()
      local result = redis:transaction({ key "n" }, function(db)
        local n = db:get(key "n"):await()
        db:multi():set(key "n", n * 2):get(key "n")
      end)
      assert.are.same({ "10" }, result)
    end)

    it("does it again when a watched key changed", function()
      local rounds = 0
      redis:transaction({ key "n" }, function(db)
        rounds = rounds + 1
        local n = tonumber((db:get(key "n"):await()) or 0)
        if rounds < 3 then
          redis():set(key "n", 10 * rounds):await()
        end
        db:multi():set(key "n", n + 1)
      end)
      assert.are.equal(3, rounds)
      assert.are.equal("21", (redis():get(key "n"):await()))
    end)

    it("raises WatchError when that happens more than `retries` times", function()
      local rounds = 0
      local err = check.raises("WatchError", function()
        redis:transaction({ key "n" }, function(db)
          rounds = rounds + 1
          redis():incr(key "n"):await()
          db:multi():set(key "n", 0)
        end, { retries = 2 })
      end)
      assert.are.equal(3, rounds)
      assert.are.equal("WatchError", err.kind)
      assert.are.equal("3", (redis():get(key "n"):await()))
    end)

    it("raises an error of fn, and leaves nothing behind", function()
      local before = redis:stats().idle
      local ok, err = pcall(function()
        redis:transaction({ key "n" }, function(db)
          db:multi():incr(key "n")
          error("changed my mind")
        end)
      end)
      assert.is_false(ok)
      assert.matches("changed my mind", tostring(err))
      assert.is_nil((redis():get(key "n"):await()))
      assert.is_true(redis:stats().idle <= before + 1)
    end)

    it("refuses to go on where CLIENT REPLY OFF would hide how it ends", function()
      local ok, err = pcall(function()
        redis:transaction({ key "n" }, function(db)
          db:client_reply("off"):await()
          db:incr(key "n")
        end)
      end)
      assert.is_false(ok)
      assert.matches("CLIENT REPLY", tostring(err))
      assert.is_nil((redis():get(key "n"):await()))
    end)

    it("loses no update among ten coroutines", function()
      check.within(20, function()
        local tasks = {}
        for i = 1, 10 do
          tasks[i] = redio.spawn(function()
            for _ = 1, 5 do
              redis:transaction({ key "n" }, function(db)
                local n = db:get(key "n"):await() or 0
                db:multi():set(key "n", tonumber(n) + 1)
              end, { retries = 1000 })
            end
          end)
        end
        for _, task in ipairs(tasks) do
          task:await()
        end
      end)
      assert.are.equal("50", (redis():get(key "n"):await()))
    end)
  end)
end)
