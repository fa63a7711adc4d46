-- SPDX-License-Identifier: MIT
-- Handles: queueing, awaiting, results. Contract: docs, "Handle" and "Values".

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

local PREFIX = "spec:handle:"

local function key(name)
  return PREFIX .. name
end

local function count(...)
  return select("#", ...)
end

describe("A handle", function()
  local shared, redis

  setup(function()
    shared = server.shared()
    redis = redio.Redis(shared.url)
  end)

  before_each(function()
    check.wipe(redis, PREFIX)
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  describe("queues commands and", function()
    it("sends nothing before it is awaited", function()
      local db = redis():set(key "a", "1")
      redio.run(redio.sleep, 0.02)
      assert.are.equal(0, (redis():call("EXISTS", key "a", key "a"):await()))
      db:await()
      assert.are.equal("1", (redis():get(key "a"):await()))
    end)

    it("returns itself from each command, so that commands chain", function()
      local db = redis()
      assert.are.equal(db, db:get(key "a"))
      assert.are.equal(db, db:call("GET", key "a"))
      assert.are.equal(db, db:strdecode())
      assert.are.equal(db, db:timeout(5))
      db:clear()
    end)

    it("returns the results as multiple values in the order of the commands", function()
      local a, b, c = redis():incr(key "n"):incrby(key "n", 10):decr(key "n"):await()
      assert.are.same({ 1, 11, 10 }, { a, b, c })
    end)

    it("does the same when kept in a variable", function()
      local db = redis()
      db:set(key "a", "value")
      db:get(key "a")
      db:incr(key "n")
      assert.are.same({ "value", 1 }, { db:await() })
    end)

    it("is called for short, and commands need no parentheses", function()
      redis():mset { [key "a"] = "1", [key "b"] = "2" }()
      assert.are.same({ "1", "2" }, { redis():get(key "a"):get(key "b")() })
      assert.are.same({ "1", "2" }, { redis():get "spec:handle:a":get "spec:handle:b"() })
    end)

    it("is empty after an await, and can be used again", function()
      local db = redis()
      assert.are.equal(1, (db:incr(key "n"):await()))
      assert.are.equal(0, db:queued())
      assert.are.equal(2, (db:incr(key "n"):await()))
    end)

    it("returns nothing when nothing is queued", function()
      assert.are.equal(0, count(redis():await()))
      assert.are.same({}, redis():replies())
    end)

    it("tells how many commands are queued, and forgets them", function()
      local db = redis():incr(key "n"):incr(key "n")
      assert.are.equal(2, db:queued())
      db:clear()
      assert.are.equal(0, db:queued())
      assert.are.equal(0, count(db:await()))
      assert.is_nil((redis():get(key "n"):await()))
    end)

    it("gives the same results as one list by replies()", function()
      assert.are.same({ 1, "1", 2 }, redis():incr(key "n"):get(key "n"):incr(key "n"):replies())
    end)

    it("warns when it is collected with commands that were never awaited", function()
      local output = check.script([[
        if warn then warn("@on") end
        local redis = require "redio".Redis("redis://127.0.0.1:1/")
        redis():set("lost", 1)
        collectgarbage() collectgarbage()
      ]])
      assert.matches("await", output)
    end)

    it("does not warn after clear() or close()", function()
      local output, status = check.script([[
        if warn then warn("@on") end
        local redis = require "redio".Redis("redis://127.0.0.1:1/")
        redis():set("cleared", 1):clear()
        local db = redis():set("closed", 1)
        db:close()
        db = nil
        collectgarbage() collectgarbage()
      ]])
      assert.are.equal("", output)
      assert.are.equal(0, status)
    end)
  end)

  describe("has results where", function()
    it("a command that can only say OK says nothing", function()
      assert.are.equal(0, count(redis():set(key "a", 1):await()))
      assert.are.equal(1, count(redis():set(key "a", 1):get(key "a"):await()))
      assert.are.equal(0, count(redis():mset({ [key "a"] = 1 }):await()))
    end)

    it("PONG says nothing, and the echo of a ping is a string", function()
      assert.are.equal(0, count(redis():ping():await()))
      assert.are.equal("hello", (redis():ping("hello"):await()))
    end)

    it("another status is a string", function()
      redis():rpush(key "list", 1):await()
      assert.are.equal("list", (redis():type(key "list"):await()))
    end)

    it("null is nil and keeps its place", function()
      redis():set(key "a", "1"):await()
      local results = { redis():get(key "no"):get(key "a"):get(key "no"):await() }
      assert.are.same({ nil, "1", nil }, results)
      assert.are.equal(3, count(redis():get(key "no"):get(key "a"):get(key "no"):await()))
    end)

    it("null is false inside a table, also in the list of replies()", function()
      redis():set(key "a", "1"):await()
      assert.are.same({ false, "1", false }, (redis():mget(key "no", key "a", key "no"):await()))
      assert.are.same({ false, "1", false }, redis():get(key "no"):get(key "a"):get(key "no"):replies())
    end)

    it("a predicate is a boolean", function()
      local db = redis()
      assert.are.same(
        { true, false, true, false, true, false },
        { db:hsetnx(key "h", "f", 1):hsetnx(key "h", "f", 1):hexists(key "h", "f"):hexists(key "h", "g")
          :setnx(key "s", 1):setnx(key "s", 1):await() }
      )
      db:sadd(key "set", "m")
      assert.are.same({ 1, true, false }, { db:sismember(key "set", "m"):sismember(key "set", "n"):await() })
      assert.are.same(
        { true, true, false, true, false, true, false },
        { db:expire(key "s", 100):persist(key "s"):persist(key "s"):copy(key "s", key "t"):copy(key "s", key "t")
          :renamenx(key "t", key "u"):renamenx(key "s", key "u"):await() }
      )
      assert.are.same({ true, false }, { db:exists(key "s"):exists(key "no"):await() })
      assert.are.same({ false, false }, { db:expire(key "no", 1):move(key "no", 1):await() })
    end)

    it("exists of several keys counts them", function()
      redis():mset({ [key "a"] = 1, [key "b"] = 2 }):await()
      assert.are.equal(2, (redis():exists(key "a", key "b", key "c"):await()))
    end)

    it("SET with NX or XX answers true or nil", function()
      local db = redis()
      assert.are.equal(true, (db:set(key "a", 1, "NX"):await()))
      local results = { count(db:set(key "a", 2, "NX"):await()), (db:set(key "a", 2, "NX"):await()) }
      assert.are.same({ 1, nil }, results)
      assert.are.equal(true, (db:set(key "a", 3, "XX"):await()))
      assert.are.equal("3", (db:get(key "a"):await()))
    end)

    it("SET with GET answers the old value", function()
      local db = redis()
      assert.is_nil((db:set(key "a", "old", "GET"):await()))
      assert.are.equal("old", (db:set(key "a", "new", "GET"):await()))
    end)
  end)

  describe("when the server refuses a command", function()
    local function chain()
      redis():set(key "s", "text"):set(key "n", 5):await()
      return redis():incr(key "n"):lpush(key "s", 1):incr(key "n"):incr(key "s")
    end

    it("raises the first error after all replies are in", function()
      local db = chain()
      local err = check.raises("ReplyError", db.await, db)
      assert.are.equal("WRONGTYPE", err.code)
      assert.are.equal(2, err.index)
      assert.are.equal("7", (redis():get(key "n"):await()))
    end)

    it("leaves error replies in their place in the list of replies()", function()
      local replies = chain():replies()
      assert.are.equal(4, #replies)
      assert.are.same({ 6, 7 }, { replies[1], replies[3] })
      assert.is_true(redio.errors.is(replies[2], "ReplyError"))
      assert.is_true(redio.errors.is(replies[4], "ReplyError"))
    end)

    it("works on afterwards", function()
      local db = chain()
      pcall(db.await, db)
      assert.are.equal(0, db:queued())
      assert.are.equal("7", (db:get(key "n"):await()))
    end)
  end)

  describe("knows commands:", function()
    it("container commands are methods of two words", function()
      local config = redis():config_get("maxmemory"):await()
      assert.are.equal("string", type(config.maxmemory))
      assert.are.same(config, (redis():config("GET", "maxmemory"):await()))
      assert.are.equal("string", type((redis():client_list():await())))
      assert.are.equal(0, count(redis():xgroup_create(key "x", "group", "$", "MKSTREAM"):await()))
    end)

    it("call() sends anything, and splits a name of two words", function()
      assert.are.equal("hello", (redis():call("ECHO", "hello"):await()))
      local config = redis():config_get("maxmemory"):await()
      assert.are.same(config, (redis():call("CONFIG GET", "maxmemory"):await()))
      assert.are.same(config, (redis():call("CONFIG", "GET", "maxmemory"):await()))
    end)

    it("call() of what the server does not know is the server's error", function()
      local err = check.raises("ReplyError", function()
        redis():call("NO.SUCH", 1):await()
      end)
      assert.are.equal("ERR", err.code)
    end)

    it("an unknown method raises at once and points to call", function()
      local db = redis():incr(key "n")
      local text = check.misuse(function()
        db:nosuchcommand("x")
      end)
      assert.matches("nosuchcommand", text)
      assert.matches("call", text)
      assert.are.equal(1, db:queued())
      db:clear()
    end)

    it("what reads like a command of a module's points to its name, which has a dot", function()
      local db = redis()
      local names = {
        json_set = "JSON.SET", ft_search = "FT.SEARCH", ft_config_get = "FT.CONFIG GET", cf_addnx = "CF.ADDNX",
        BF_ADD = "BF.ADD", ts_add = "TS.ADD", topk_list = "TOPK.LIST",
      }
      for method, name in pairs(names) do
        local text = check.misuse(function()
          db[method](db, "x")
        end)
        assert.truthy(text:find(('call("%s", ...)'):format(name), 1, true), text)
        assert.truthy(text:find("no command '" .. method .. "'", 1, true), text)
      end
    end)

    it("delete is del", function()
      redis():mset({ [key "a"] = 1, [key "b"] = 2 }):await()
      assert.are.same({ 1, 1, 0 }, { redis():delete(key "a"):del(key "b"):delete(key "a"):await() })
    end)

    it("options are plain arguments, or a table at the end", function()
      local db = redis()
      db:set(key "a", "v", "EX", 10):await()
      db:set(key "b", "v", { ex = 10 }):await()
      assert.are.equal(true, (db:set(key "c", "v", { ex = 10, nx = true }):await()))
      assert.is_nil((db:set(key "c", "w", { nx = true }):await()))
      for _, name in ipairs { "a", "b", "c" } do
        local ttl = db:ttl(key(name)):await()
        assert.is_true(ttl > 9 and ttl <= 10)
        assert.are.equal("v", (db:get(key(name)):await()))
      end
    end)

    it("tables stand where Redis wants lists or pairs", function()
      local db = redis()
      assert.are.equal(2, (db:zadd(key "z", { one = 1, two = 2 }):await()))
      assert.are.equal(2, (db:zscore(key "z", "two"):await()))
      assert.are.equal(2, (db:sadd(key "s", { "a", "b" }):await()))
      assert.are.equal("string", type((db:xadd(key "x", "*", { field = "value" }):await())))
      db:mset({ [key "a"] = 1, [key "b"] = 2 }):await()
      assert.are.equal(2, (db:del({ key "a", key "b" }):await()))
    end)
  end)

  describe("keeps the conveniences of the ancestor:", function()
    it("hset takes a field, several, or a table; hgetall is a table by field", function()
      local db = redis()
      assert.are.equal(1, (db:hset(key "h", "a", 1):await()))
      assert.are.equal(2, (db:hset(key "h", "b", 2, "c", 3):await()))
      assert.are.equal(1, (db:hset(key "h", { c = 4, d = 5 }):await()))
      assert.are.same({ a = "1", b = "2", c = "4", d = "5" }, (db:hgetall(key "h"):await()))
      assert.are.same({}, (db:hgetall(key "no"):await()))
    end)

    it("hget of a list is HMGET", function()
      redis():hset(key "h", { a = 1, b = 2 }):await()
      assert.are.same({ "2", false, "1" }, (redis():hget(key "h", { "b", "no", "a" }):await()))
      assert.are.equal("1", (redis():hget(key "h", "a"):await()))
    end)

    it("keys() is keys('*')", function()
      redis():set(key "a", 1):await()
      local all, found = redis():keys():await(), false
      for _, name in ipairs(all) do
        found = found or name == key "a"
      end
      assert.is_true(found)
    end)

    it("expire and expireat take fractions, ttl answers them", function()
      local db = redis():set(key "a", 1):set(key "b", 1):await() or redis()
      db:expire(key "a", 100.5):expireat(key "b", os.time() + 50.25):await()
      local a, b, pttl = db:ttl(key "a"):ttl(key "b"):pttl(key "a"):await()
      assert.is_true(a > 100 and a <= 100.5)
      assert.is_true(b > 48 and b <= 50.25)
      assert.is_true(pttl > 100000 and pttl <= 100500)
    end)

    it("a key that expires in a tenth of a second is gone then", function()
      local db = redis():set(key "a", 1):expire(key "a", 0.1)
      assert.are.equal(true, (db:await()))
      redio.run(redio.sleep, 0.15)
      assert.is_nil((redis():get(key "a"):await()))
    end)

    it("ttl answers -1 for ever and -2 for no such key", function()
      redis():set(key "a", 1):await()
      assert.are.same({ -1, -2 }, { redis():ttl(key "a"):ttl(key "no"):await() })
    end)
  end)

  describe("is modified for the next await only:", function()
    it("timeout(s) ends the wait with TimeoutError", function()
      local db = redis()
      local started = os.time()
      local err = check.raises("TimeoutError", function()
        db:timeout(0.1):blpop(key "empty", 30):await()
      end)
      assert.is_true(os.time() - started <= 2)
      assert.is_true(redio.errors.is(err, "ConnectionError"))
      assert.is_nil((db:blpop(key "empty", 0.3):await()))
    end)

    it("prevent_pooling() closes its connection rather than keep it", function()
      local db = redis()
      local id = db:prevent_pooling():client_id():await()
      local gone = redio.run(check.eventually, function()
        return not redis():client_list():await():find("id=" .. id .. " ", 1, true)
      end)
      assert.is_true(gone)
      assert.are_not.equal(id, (redis():client_id():await()))
    end)
  end)

  describe("is closed", function()
    it("by close(), any number of times, and forgets what is queued", function()
      local db = redis():incr(key "n")
      db:close()
      db:close()
      assert.is_nil((redis():get(key "n"):await()))
    end)

    it("by Lua 5.4's to-be-closed variables", function()
      local close = check.lua54 [[
        return function(redis, k)
          local db <close> = redis()
          db:watch(k):await()
          return (db:client_id():await())
        end
      ]]
      if not close then
        return pending("Lua 5.4")
      end
      close(redis, key "a")
      assert.are.equal(0, redis:stats().in_flight)
    end)
  end)
end)
