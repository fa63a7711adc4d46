-- SPDX-License-Identifier: MIT
-- Receivers, their iterators and channel views. Contract: docs, "Pub/Sub".

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

local PREFIX = "spec:pubsub:"

local function name(channel)
  return PREFIX .. channel
end

for _, protocol in ipairs { 2, 3 } do
  describe("A receiver under RESP" .. protocol, function()
    local redis

    setup(function()
      redis = redio.Redis(server.shared().url, { protocol = protocol })
    end)

    teardown(function()
      redis:close()
    end)

    local function publish(channel, ...)
      local db = redis()
      for i = 1, select("#", ...) do
        db:publish(name(channel), (select(i, ...)))
      end
      return db:await()
    end

    local function subscribers(channel)
      return redis():pubsub_numsub(name(channel)):await()
    end

    -- The number of subscribers, whatever form the server's pairs take.
    local function numsub(channel)
      local pairs_or_table = subscribers(channel)
      return pairs_or_table[name(channel)] or pairs_or_table[2]
    end

    -- Runs `fn(receiver)` in a task with a deadline, then closes the receiver.
    local function with(receiver, fn)
      return check.within(10, function()
        local ok, err = pcall(fn, receiver)
        receiver:close()
        if not ok then
          error(err, 0)
        end
      end)
    end

    describe("receives", function()
      it("messages of a channel, in order", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          publish("a", "1", "2", "")
          assert.are.same({ "1", "2", "" }, { (receiver:await()), (receiver()), (receiver:await()) })
        end)
      end)

      it("on the main coroutine without ceremony", function()
        local receiver = redis:pubsub(name "a"):connect()
        publish("a", "message")
        assert.are.equal("message", (receiver:await()))
        receiver:close()
      end)

      it("as its own iterator", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          publish("a", "1", "2", "3")
          local got = {}
          for message in receiver do
            got[#got + 1] = message
            if #got == 3 then
              break
            end
          end
          assert.are.same({ "1", "2", "3" }, got)
        end)
      end)

      it("from several channels, given to pubsub() or subscribed to later", function()
        with(redis:pubsub(name "a", name "b"):subscribe(name "c"):with_channel():connect(), function(receiver)
          publish("a", 1)
          publish("b", 2)
          publish("c", 3)
          for i, channel in ipairs { "a", "b", "c" } do
            assert.are.same({ name(channel), tostring(i) }, { receiver:await() })
          end
        end)
      end)

      it("subscribes with the first wait, and not before", function()
        local receiver = redis:pubsub(name "late")
        check.within(5, function()
          redio.sleep(0.02)
          assert.are.equal(0, numsub "late")
          local task = redio.spawn(function()
            return receiver:await()
          end)
          assert.is_true(check.eventually(function()
            return numsub "late" == 1
          end))
          publish("late", "now")
          assert.are.equal("now", (task:await()))
          receiver:close()
        end)
      end)

      it("connect() returns the receiver when the server has confirmed", function()
        with(redis:pubsub(name "a", name "b"), function(receiver)
          assert.are.equal(receiver, receiver:connect())
          assert.are.same({ 1, 1 }, { numsub "a", numsub "b" })
          assert.are.equal(1, publish("a", "message"))
        end)
      end)

      it("by pattern, and names the channel rather than the pattern", function()
        with(redis:pubsub():psubscribe(name "news.*"):with_channel():connect(), function(receiver)
          publish("news.art", "x")
          publish("news.tech", "y")
          assert.are.same({ name "news.art", "x" }, { receiver:await() })
          assert.are.same({ name "news.tech", "y" }, { receiver:await() })
        end)
      end)

      it("from sharded channels", function()
        with(redis:pubsub():ssubscribe(name "shard"):with_channel():connect(), function(receiver)
          assert.are.equal(1, (redis():spublish(name "shard", "message"):await()))
          assert.are.same({ name "shard", "message" }, { receiver:await() })
        end)
      end)

      it("while the same client publishes, which counts the receivers", function()
        with(redis:pubsub(name "a"):connect(), function(first)
          with(redis:pubsub(name "a"):connect(), function(second)
            assert.are.equal(2, publish("a", "to both"))
            assert.are.same({ "to both", "to both" }, { (first:await()), (second:await()) })
          end)
        end)
        assert.are.equal(0, (publish("nobody", "listens")))
      end)

      it("100,000 messages in order", function()
        local total, batch = 100000, 1000
        redio.run(redio.with_timeout, 60, function()
          local receiver = redis:pubsub(name "many"):connect()
          local publisher = redio.spawn(function()
            for first = 1, total, batch do
              local db = redis()
              for i = first, first + batch - 1 do
                db:publish(name "many", i)
              end
              db:replies()
            end
          end)
          local expected = 0
          for message in receiver do
            expected = expected + 1
            if tonumber(message) ~= expected then
              error("message " .. message .. " where " .. expected .. " was due")
            end
            if expected == total then
              break
            end
          end
          publisher:await()
          receiver:close()
        end)
      end)

      it("all messages in order through a short queue", function()
        local client = redio.Redis(server.shared().url, { protocol = protocol, queue_limit = 5 })
        with(client:pubsub(name "short"):connect(), function(receiver)
          local db = redis()
          for i = 1, 2000 do
            db:publish(name "short", ("%d:"):format(i) .. ("x"):rep(1000))
          end
          db:replies()
          redio.sleep(0.05)
          for i = 1, 2000 do
            assert(receiver:await():match("^%d+") == tostring(i))
          end
        end)
        client:close()
      end)

      it("decoded, and the mode persists", function()
        with(redis:pubsub(name "a"):autodecode():with_channel():connect(), function(receiver)
          publish("a", '{"n":1}', "2", "false", "text")
          local got = {}
          for i = 1, 4 do
            local channel
            channel, got[i] = receiver:await()
            assert.are.equal(name "a", channel)
          end
          assert.are.same({ { n = 1 }, 2, false, "text" }, got)
        end)
        with(redis:pubsub(name "a"):strdecode():connect(), function(receiver)
          publish("a", "\255", "\255")
          assert.are.same({ "\237\179\191", "\237\179\191" }, { (receiver:await()), (receiver:await()) })
        end)
        with(redis:pubsub(name "a"):decoder(string.reverse):connect(), function(receiver)
          publish("a", "abc", "def")
          assert.are.same({ "cba", "fed" }, { (receiver:await()), (receiver:await()) })
        end)
      end)
    end)

    describe("changes its subscriptions:", function()
      it("a channel that is unsubscribed is heard no more", function()
        with(redis:pubsub(name "a", name "b"):with_channel():connect(), function(receiver)
          receiver:unsubscribe(name "a"):connect()
          assert.are.same({ 0, 1 }, { numsub "a", numsub "b" })
          publish("a", "lost")
          publish("b", "heard")
          assert.are.same({ name "b", "heard" }, { receiver:await() })
        end)
      end)

      it("patterns and sharded channels too", function()
        with(redis:pubsub(name "a"):psubscribe(name "p.*"):ssubscribe(name "s"):connect(), function(receiver)
          receiver:punsubscribe(name "p.*"):sunsubscribe(name "s"):connect()
          assert.are.equal(0, publish("p.x", "lost"))
          assert.are.equal(0, (redis():spublish(name "s", "lost"):await()))
          publish("a", "heard")
          assert.are.equal("heard", (receiver:await()))
        end)
      end)

      it("when nothing is subscribed any more, the wait answers nil", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          receiver:unsubscribe(name "a")
          assert.is_nil((receiver:await()))
        end)
        with(redis:pubsub(name "a"):connect(), function(receiver)
          publish("a", "last")
          receiver:subscribe(name "b"):connect() -- the confirmation is behind that message
          receiver:unsubscribe()
          local got = {}
          for message in receiver do
            got[#got + 1] = message
          end
          assert.are.same({ "last" }, got)
        end)
      end)

      it("another coroutine can subscribe while one waits", function()
        with(redis:pubsub(name "a"):with_channel():connect(), function(receiver)
          local waiting = redio.spawn(function()
            return receiver:await()
          end)
          redio.sleep(0.01)
          receiver:subscribe(name "b")
          assert.is_true(check.eventually(function()
            return numsub "b" == 1
          end))
          publish("b", "for the one who waits")
          assert.are.same({ name "b", "for the one who waits" }, { waiting:await() })
        end)
      end)

      it("another coroutine can end the subscription of one that waits", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          local waiting = redio.spawn(function()
            return receiver:await()
          end)
          redio.sleep(0.01)
          receiver:unsubscribe(name "a")
          assert.is_nil((waiting:await()))
        end)
      end)
    end)

    describe("is closed", function()
      it("by close(), any number of times; then the wait answers nil and the server knows", function()
        check.within(5, function()
          local receiver = redis:pubsub(name "a"):connect()
          receiver:close()
          receiver:close()
          assert.is_nil((receiver:await()))
          assert.is_true(check.eventually(function()
            return numsub "a" == 0
          end))
        end)
      end)

      it("while a coroutine waits, which gets nil", function()
        check.within(5, function()
          local receiver = redis:pubsub(name "a"):connect()
          local waiting = redio.spawn(function()
            return receiver:await()
          end)
          redio.sleep(0.01)
          receiver:close()
          assert.is_nil((waiting:await()))
        end)
      end)

      it("when the loop over messages() is left by a break or an error", function()
        if not check.lua54 "local x <close> = nil return true" then
          return pending("Lua 5.4's closing value")
        end
        check.within(5, function()
          local receiver = redis:pubsub(name "a"):connect()
          publish("a", "1", "2")
          for message in receiver:messages() do -- luacheck: ignore 512
            assert.are.equal("1", message)
            break
          end
          assert.is_nil((receiver:await()))
          assert.is_true(check.eventually(function()
            return numsub "a" == 0
          end))

          receiver = redis:pubsub(name "a"):connect()
          publish("a", "1")
          local ok, err = pcall(function()
            for _ in receiver:messages() do
              error("enough")
            end
          end)
          assert.is_false(ok)
          assert.matches("enough", err)
          assert.is_nil((receiver:await()))
        end)
      end)

      it("when the loop over messages() ends", function()
        check.within(5, function()
          local receiver = redis:pubsub(name "a"):with_channel():connect()
          publish("a", "1", "2")
          local got = {}
          for channel, message in receiver:messages() do
            got[#got + 1] = message
            assert.are.equal(name "a", channel)
            if #got == 2 then
              receiver:unsubscribe()
            end
          end
          assert.are.same({ "1", "2" }, got)
          assert.is_nil((receiver:await()))
        end)
      end)

      it("by Lua 5.4's to-be-closed variables and by the collector", function()
        local closing = check.lua54 [[
          return function(redis, channel)
            local receiver <close> = redis:pubsub(channel):connect()
            return receiver
          end
        ]]
        if closing then
          assert.is_nil((closing(redis, name "a"):await()))
        end
        check.within(5, function()
          redis:pubsub(name "collected"):connect()
          assert.is_true(check.eventually(function()
            collectgarbage()
            return numsub "collected" == 0
          end))
        end)
      end)
    end)

    describe("that loses its connection", function()
      local function kill()
        redis():client_kill("TYPE", "pubsub"):await()
      end

      it("raises ConnectionClosedError, for a loss is never silent", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          local waiting = redio.spawn(function()
            return receiver:await()
          end)
          redio.sleep(0.01)
          kill()
          check.raises("ConnectionClosedError", waiting.await, waiting)
        end)
      end)

      it("delivers first what had arrived", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          publish("a", "1", "2")
          redio.sleep(0.05)
          kill()
          redio.sleep(0.05)
          assert.are.same({ "1", "2" }, { (receiver:await()), (receiver:await()) })
          check.raises("ConnectionClosedError", receiver.await, receiver)
        end)
      end)

      it("with resubscribe(fn) subscribes again and tells the gap", function()
        local gap
        with(redis:pubsub(name "a"):psubscribe(name "p.*"):with_channel(), function(receiver)
          receiver:resubscribe(function(seconds)
            gap = seconds
          end):connect()
          local waiting = redio.spawn(function()
            return receiver:await()
          end)
          redio.sleep(0.01)
          kill()
          assert.is_true(check.eventually(function()
            return gap and numsub "a" == 1
          end))
          assert.is_true(type(gap) == "number" and gap >= 0 and gap < 5)
          publish("p.x", "after the gap")
          assert.are.same({ name "p.x", "after the gap" }, { waiting:await() })
        end)
      end)
    end)

    describe("has a view of one channel", function()
      it("that says its name, whether it is a pattern and whether it is active", function()
        with(redis:pubsub(name "a"):psubscribe(name "p.*"):connect(), function(receiver)
          local a, p = receiver:channel(name "a"), receiver:channel(name "p.*")
          assert.are.same({ name "a", false, true }, { a.name, a.is_pattern, a.is_active })
          assert.are.same({ name "p.*", true, true }, { p.name, p.is_pattern, p.is_active })
          receiver:unsubscribe(name "a"):connect()
          assert.is_false(a.is_active)
          assert.is_true(p.is_active)
        end)
      end)

      it("that gets its own messages only", function()
        with(redis:pubsub(name "a", name "b"):connect(), function(receiver)
          local a, b = receiver:channel(name "a"), receiver:channel(name "b")
          publish("a", "a1")
          publish("b", "b1")
          publish("a", "a2")
          assert.are.equal("b1", (b:get()))
          assert.are.same({ "a1", "a2" }, { (a:get()), (a:get()) })
        end)
      end)

      it("that gets with a decoder, as JSON, and within a timeout", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          local view = receiver:channel(name "a")
          publish("a", "abc", '{"n":[1]}', "plain")
          assert.are.equal("cba", (view:get { decoder = string.reverse }))
          assert.are.same({ n = { 1 } }, (view:get_json()))
          assert.are.equal("plain", (view:get { timeout = 1 }))
          check.raises("TimeoutError", view.get, view, { timeout = 0.05 })
          publish("a", "late")
          assert.are.equal("late", (view:get()))
        end)
      end)

      it("that waits for a message without taking it", function()
        with(redis:pubsub(name "a"):connect(), function(receiver)
          local view = receiver:channel(name "a")
          local waiting = redio.spawn(function()
            return view:wait_message()
          end)
          publish("a", "message")
          assert.is_true((waiting:await()))
          assert.are.equal("message", (view:get()))
          receiver:unsubscribe()
          assert.is_false((view:wait_message()))
        end)
      end)

      it("that is iterated to its end", function()
        with(redis:pubsub(name "a", name "b"):connect(), function(receiver)
          local view = receiver:channel(name "a")
          publish("a", "1", "2")
          redio.sleep(0.02)
          receiver:unsubscribe(name "a"):connect()
          local got = {}
          for message in view:messages() do
            got[#got + 1] = message
          end
          assert.are.same({ "1", "2" }, got)
        end)
      end)

      it("that answers nil to a waiting get when it ends, and ChannelClosedError after that", function()
        with(redis:pubsub(name "a", name "b"):connect(), function(receiver)
          local view = receiver:channel(name "a")
          local waiting = redio.spawn(function()
            return view:get()
          end)
          redio.sleep(0.01)
          receiver:unsubscribe(name "a"):connect()
          assert.is_nil((waiting:await()))
          check.raises("ChannelClosedError", view.get, view)
        end)
      end)
    end)
  end)
end
