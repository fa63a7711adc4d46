-- SPDX-License-Identifier: MIT
-- LuaJIT's stack holds 8,000 values. A chain of commands without a result that got 8,000 errors ended the connection
-- for all. A command with as many arguments, made of a table, could not be queued. Decoded results that were too many
-- to be returned were noticed only when the commands had been executed.

local check = require "spec.support.check"
local lua_version = require "redio.base.lua_version"
local fake = require "spec.support.fake"
local redio = require "redio"
local server = require "spec.support.server"

local unpack = lua_version.unpack

describe("More values than LuaJIT's stack holds", function()
  local COUNT = 20000
  local replica

  setup(function()
    replica = server.start { "replicaof 127.0.0.1 1" }
  end)

  teardown(function()
    replica:stop()
  end)

  local function with_client(url, fn)
    check.protocols(function(protocol)
      redio.run(function()
        local redis = redio.Redis(url, { protocol = protocol, retry = false })
        fn(redis)
        redis:close()
      end)
    end)
  end

  it("are error replies: the caller gets the first and all of them, others their own values", function()
    with_client(replica.url, function(redis)
      local id = redis():client_id():await()
      local db = redis()
      for i = 1, COUNT do
        db:set("k" .. i, i)
      end
      local others = {}
      for i = 1, 3 do
        others[i] = redio.spawn(function()
          return redis():echo("other" .. i):await()
        end)
      end
      local err = check.raises("ReadOnlyError", db.await, db)
      assert.are.equal(1, err.index)
      assert.are.equal(COUNT, #err.replies)
      assert.are.equal(COUNT, err.replies[COUNT].index)
      for i = 1, 3 do
        assert.are.equal("other" .. i, others[i]:await())
      end
      for i = 1, COUNT do
        db:set("k" .. i, i)
      end
      assert.are.equal(COUNT, #db:replies())
      assert.is_number(id)
    end)
  end)

  it("are error replies in an EXEC, and in a transaction", function()
    with_client(server.shared().url, function(redis)
      redis():set("text", "x"):await()
      local db = redis():multi()
      for _ = 1, COUNT do
        db:lpush("text", 1)
      end
      local err = check.raises("WrongTypeError", db:exec().await, db)
      assert.are.equal(2, err.index)
      assert.are.equal("WrongTypeError", err.replies[1][COUNT].kind)
    end)
  end)

  it("are statuses where no result was to come: that chain fails, and no other", function()
    local peer = fake.start(function(_, words)
      return words[1] == "ECHO" and "$1\r\na\r\n" or "+Fine\r\n"
    end)
    redio.run(function()
      local redis = redio.Redis(peer.url, { retry = false })
      local limit = rawget(_G, "jit") and COUNT or 200001
      local db = redis()
      for i = 1, limit do
        db:set("k", i)
      end
      local other = redio.spawn(function()
        return redis():echo("a"):await()
      end)
      local ok, err = pcall(db.await, db)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find("replies()", 1, true))
      assert.are.equal("a", other:await())
      redis:close()
    end)
    peer:stop()
  end)

  it("are arguments out of tables", function()
    with_client(server.shared().url, function(redis)
      local pairs_, keys = {}, {}
      for i = 1, COUNT do
        keys[i] = "many:" .. i
        pairs_[keys[i]] = tostring(i)
      end
      redis():flushall():mset(pairs_):await()
      assert.are.equal(COUNT, redis():dbsize():await())
      assert.are.equal(tostring(COUNT), redis():mget(keys):await()[COUNT])
      assert.are.equal(COUNT, redis():sadd("set", keys):await())
      assert.are.equal(COUNT, redis():zadd("zset", pairs_):await())
      assert.are.equal(COUNT, redis():hset("hash", pairs_):await())
      assert.are.equal(tostring(COUNT), redis():hget("hash", keys):await()[COUNT])
      local script = redis:script("return #KEYS + #ARGV")
      assert.are.equal(200 + 300, script({ unpack(keys, 1, 200) }, { unpack(keys, 1, 300) }))
      local watched = {} -- (to watch n keys takes the server n * n steps)
      for i = 1, 9000 do
        watched[i] = keys[i]
      end
      assert.is_table(redis:transaction(watched, function(db)
        db:incr("n")
      end))
      assert.are.equal(COUNT, redis():delete(keys):await())
    end)
  end)

  it("are decoded results: refused before anything is sent", function()
    with_client(server.shared().url, function(redis)
      local limit = rawget(_G, "jit") and COUNT or 200001
      for _, mode in ipairs { "autodecode", "strdecode" } do
        local db = redis()
        redis():del("counter"):await()
        db[mode](db)
        for _ = 1, limit do
          db:incr("counter")
        end
        local ok, err = pcall(db.await, db)
        assert.is_false(ok)
        assert.is_truthy(tostring(err):find("replies()", 1, true))
        assert.is_nil(redis():get("counter"):await())
      end
    end)
  end)
end)
