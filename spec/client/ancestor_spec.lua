-- SPDX-License-Identifier: MIT
-- The README of the ancestor (redio for Python and Trio), translated line by line. redio for Lua gives the same
-- answers. The comments quote the Python.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

describe("The ancestor's README", function()
  local private, redis

  setup(function()
    private = server.start {} -- keys have the README's own names
    -- redis = redio.Redis("redis://localhost/")
    redis = redio.Redis(private.url)
  end)

  before_each(function()
    private:cli "flushall"
  end)

  teardown(function()
    redis:close()
    private:stop()
  end)

  describe("Normal mode", function()
    it("gets two keys in one chain", function()
      private:cli("mset", "somekey", "some value", "anotherkey", "another value")
      -- async def main():
      --     some, another = await redis().get("somekey").get("anotherkey")
      local some, another = redio.run(function()
        return redis():get("somekey"):get("anotherkey"):await()
      end)
      assert.are.same({ "some value", "another value" }, { some, another })
    end)

    it("uses a variable, and set produces no output", function()
      private:cli("set", "bar", "old")
      -- db = redis()
      local db = redis()
      -- db.set("bar", "value").expire("bar", 0.5)
      db:set("bar", "value"):expire("bar", 0.5)
      db:get("bar")
      -- expire, bar = await db
      local results = { db:await() }
      assert.are.same({ true, "value" }, results)
      redio.sleep(0.3)
      assert.are.equal("value", (redis():get("bar"):await()))
      redio.sleep(0.3)
      assert.is_nil((redis():get("bar"):await()))
    end)

    it("sends nothing until the await", function()
      local db = redis():set("foo", 1)
      assert.are.equal("0", private:cli("exists", "foo"))
      db:await()
      assert.are.equal("1", private:cli("exists", "foo"))
    end)
  end)

  describe("Hash keys", function()
    it("are set by fields or by a table, and come back as a table", function()
      -- await redis().hset("hashkey", field1=bytes([255, 0, 255]), field2="text", field3=1.23)
      local new = redis():hset("hashkey", "field1", "\255\0\255", "field2", "text"):hset("hashkey", { field3 = 1.23 })
      assert.are.same({ 2, 1 }, { new:await() })
      -- await redis().hgetall("hashkey").autodecode
      assert.are.same(
        { field1 = "\255\0\255", field2 = "text", field3 = 1.23 },
        (redis():hgetall("hashkey"):autodecode():await())
      )
    end)

    it("hget of a list is HMGET", function()
      redis():hset("hashkey", { a = 1, b = 2 }):await()
      -- await redis().hget("hashkey", ["b", "a"])
      assert.are.same({ "2", "1" }, (redis():hget("hashkey", { "b", "a" }):await()))
    end)
  end)

  describe("Transactions", function()
    it("increment two keys atomically and return their new values", function()
      -- await redis().multi().incr("foo").incr("bar").exec()
      assert.are.same({ { 1, 1 } }, { redis():multi():incr("foo"):incr("bar"):exec():await() })
    end)

    it("attempt all commands, even after errors", function()
      redis():set("text", "x"):await()
      local replies = redis():multi():incr("foo"):incr("text"):incr("bar"):exec():replies()
      assert.are.same({ 1, 1 }, { replies[1][1], replies[1][3] })
      assert.is_true(redio.errors.is(replies[1][2], "ReplyError"))
    end)

    it("invert the capitalization of foo in the WATCH loop", function()
      local function swapcase(text)
        return (text:gsub("%a", function(letter)
          return letter:upper() == letter and letter:lower() or letter:upper()
        end))
      end
      local answers = {}
      local function invert(interfere)
        -- db = redis()
        -- while True:
        --     db.watch("foo")
        --     foo = await db.get("foo") or b"default VALUE"
        --     db.multi()
        --     db.set("foo", foo.swapcase())
        --     if await db.exec():
        --         break
        local db = redis()
        repeat
          db:watch("foo")
          local foo = db:get("foo"):await() or "default VALUE"
          interfere()
          db:multi()
          db:set("foo", swapcase(foo))
          answers[#answers + 1] = db:exec():await()
        until answers[#answers]
      end
      invert(function() end)
      assert.are.equal("DEFAULT value", private:cli("get", "foo"))
      local once = true
      invert(function()
        if once then
          redis():set("foo", "MixedCase"):await()
          once = false
        end
      end)
      assert.are.equal("mIXEDcASE", private:cli("get", "foo"))
      assert.are.same({ true, false, true }, answers)
    end)
  end)

  describe("Pub/Sub channels", function()
    it("send by publish, which counts the receivers", function()
      -- await redis().publish("channel", "message")
      assert.are.same({ 0 }, { redis():publish("channel", "message"):await() })
    end)

    it("receive in a for loop", function()
      check.within(5, function()
        local receiver = redis:pubsub("channel"):connect()
        redis():publish("channel", "one"):publish("channel", "two"):await()
        local got = {}
        -- async for message in redis.pubsub("channel"):
        for message in receiver do
          got[#got + 1] = message
          if #got == 2 then
            receiver:close()
          end
        end
        assert.are.same({ "one", "two" }, got)
      end)
    end)

    it("receive with channel names, and modifiers chain or not", function()
      check.within(5, function()
        -- pubsub = redis.pubsub().strdecode.with_channel
        -- pubsub.subscribe("foo", "bar")
        local pubsub = redis:pubsub():strdecode():with_channel()
        pubsub:subscribe("foo", "bar")
        pubsub:connect()
        redis():publish("foo", "1"):publish("bar", "\255"):await()
        -- async for channel, message in pubsub:
        --     print(message, "from", channel)
        local lines = {}
        for channel, message in pubsub do
          lines[#lines + 1] = message .. " from " .. channel
          if #lines == 2 then
            break
          end
        end
        pubsub:close()
        assert.are.same({ "1 from foo", "\237\179\191 from bar" }, lines)
      end)
    end)

    it("receive a single message", function()
      check.within(5, function()
        local pubsub = redis:pubsub("channel"):connect()
        redis():publish("channel", "single"):await()
        -- message = await pubsub
        assert.are.equal("single", (pubsub:await()))
        pubsub:close()
      end)
    end)
  end)

  describe("Bytes encoding and decoding", function()
    local db

    before_each(function()
      -- db = redis()
      -- db.set("binary", bytes([128, 0, 255]))
      -- db.set("number", 10)
      -- db.set("jsonkey", dict(foo=123, bar=[1, 2, 3]))
      -- await db
      db = redis()
      db:set("binary", "\128\0\255")
      db:set("number", 10)
      db:set("jsonkey", { foo = 123, bar = { 1, 2, 3 } })
      assert.are.equal(0, select("#", db:await()))
    end)

    it("does not decode by default", function()
      -- await db.get("binary").get("number").get("jsonkey")
      local binary, number, json = db:get("binary"):get("number"):get("jsonkey"):await()
      assert.are.same({ "\128\0\255", "10" }, { binary, number })
      assert.is_true(json == '{"foo":123,"bar":[1,2,3]}' or json == '{"bar":[1,2,3],"foo":123}')
    end)

    it("strdecode replaces invalid sequences by surrogates", function()
      -- await db.get("binary").get("number").get("jsonkey").strdecode
      local binary, number, json = db:get("binary"):get("number"):get("jsonkey"):strdecode():await()
      assert.are.same({ "\237\178\128\0\237\179\191", "10" }, { binary, number })
      assert.are.equal("string", type(json))
      assert.are.equal("\128\0\255", redio.strencode(binary))
    end)

    it("autodecode guesses by content", function()
      -- await db.get("binary").get("number").get("jsonkey").autodecode
      assert.are.same(
        { "\128\0\255", 10, { foo = 123, bar = { 1, 2, 3 } } },
        { db:get("binary"):get("number"):get("jsonkey"):autodecode():await() }
      )
    end)

    it("affects only the next await, and keys are always text", function()
      assert.are.equal(10, (db:get("number"):autodecode():await()))
      assert.are.equal("10", (db:get("number"):await()))
      redis():set("5", 5):await()
      assert.are.same({ "5" }, (redis():keys("5"):autodecode():await()))
      assert.are.equal(4, #redis():keys():await())
    end)
  end)

  describe("Async safety", function()
    it("shares the client, and each worker has a handle of its own", function()
      check.within(5, function()
        local workers = {}
        for i = 1, 20 do
          workers[i] = redio.spawn(function()
            local db = redis()
            db:set("worker" .. i, i)
            db:get("worker" .. i)
            return (db:await())
          end)
        end
        for i, worker in ipairs(workers) do
          assert.are.equal(tostring(i), (worker:await()))
        end
      end)
    end)

    it("prevent_pooling closes the connection after use", function()
      local id = redis():prevent_pooling():client_id():await()
      redio.sleep(0.02)
      assert.is_nil(private:cli("client", "list"):find("id=" .. id .. " ", 1, true))
    end)
  end)

  describe("Connection URLs", function()
    it("mean what they meant", function()
      local parse = redio.parse_url
      local url = parse "redis://localhost/"
      assert.are.same({ "localhost", 6379, 0 }, { url.host, url.port, url.database or 0 })
      assert.is_falsy(url.tls or url.path or url.password or url.username)
      url = parse "redis://:password@localhost/2"
      assert.are.same({ "localhost", "password", 2 }, { url.host, url.password, url.database })
      for _, scheme in ipairs { "rediss", "redis+tls" } do
        url = parse(scheme .. "://localhost/")
        assert.is_truthy(url.tls)
        assert.are.equal("localhost", url.host)
      end
      url = parse "redis+unix:///var/run/redis.sock?database=2"
      assert.are.same({ "/var/run/redis.sock", 2 }, { url.path, url.database })
      assert.is_falsy(url.tls)
      url = parse "redis+unix+tls://hostname.on.certificate/tmp/redis.sock"
      assert.are.equal("/tmp/redis.sock", url.path)
      assert.is_truthy(url.tls)
    end)
  end)
end)
