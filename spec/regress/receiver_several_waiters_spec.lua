-- SPDX-License-Identifier: MIT
-- Several coroutines that wait on one receiver, view or monitor: of two on a monitor the first never woke, of two on a
-- receiver that could not connect the second got an error of redio's own, and a message for one that was closed
-- meanwhile reached no other.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local CHANNEL = "spec:several"
local QUICKLY = { max = 3, base = 0.001, cap = 0.005 }

describe("several that wait:", function()
  local it_needs = fixtures.new()
  local publisher

  before_each(function()
    publisher = it_needs:client(server.shared().url)
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Two ways to wait for the next message of a receiver.
  local WAYS = {
    ["a receiver"] = function(receiver) return function() return receiver:await() end end,
    ["a view"] = function(receiver)
      local view = receiver:channel(CHANNEL)
      return function() return (view:get()) end
    end,
  }

  local function publish(first, last)
    local db = publisher()
    for i = first, last do
      db:publish(CHANNEL, i)
    end
    return db:replies()
  end

  -- Starts `count` tasks that take one message each; they come in order.
  local function start(take, count, got)
    local tasks = {}
    for i = 1, count do
      tasks[i] = redio.spawn(function()
        local message = take()
        got[#got + 1] = i .. ":" .. tostring(message)
        return message
      end)
    end
    redio.sleep(0.01)
    return tasks
  end

  local function expected(from, to, shift)
    local list = {}
    for i = from, to do
      list[#list + 1] = i .. ":" .. i - (shift or 0)
    end
    return list
  end

  for name, way in pairs(WAYS) do
    describe("on " .. name, function()
      it("the first one that waits gets the first message", function()
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local got = {}
          local tasks = start(way(receiver), 10, got)
          publish(1, 4) -- in one read
          redio.sleep(0.02)
          assert.are.same(expected(1, 4), got)
          for i = 5, 10 do
            publish(i, i)
          end
          tasks[10]:await()
          assert.are.same(expected(1, 10), got)
          receiver:close()
        end)
      end)

      it("one that comes again stands behind those that wait", function()
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local take, got = way(receiver), {}
          for i = 1, 3 do
            redio.spawn(function()
              for _ = 1, 10 do
                local message = take()
                got[#got + 1] = { i, tonumber(message) }
              end
            end)
          end
          redio.sleep(0.01)
          publish(1, 30)
          assert.is_true(check.eventually(function() return #got == 30 end))
          for n, pair in ipairs(got) do
            assert.are.same({ (n - 1) % 3 + 1, n }, pair)
          end
          receiver:close()
        end)
      end)

      it("one that waits before the connection is there keeps its place", function()
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL)
          local got = {}
          local tasks = start(way(receiver), 10, got)
          receiver:connect()
          publish(1, 10)
          tasks[10]:await()
          assert.are.same(expected(1, 10), got)
          receiver:close()
        end)
      end)

      it("those that are cancelled, timed out or resumed by others leave the line, and no message with them", function()
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local take, got = way(receiver), {}
          local foreign
          local tasks = start(function()
            local n = #got
            return n >= 0 and take()
          end, 3, got)
          local timed = redio.spawn(function() return pcall(redio.with_timeout, 0.02, take) end)
          local odd = coroutine.create(function() foreign = { pcall(take) } end)
          coroutine.resume(odd)
          redio.sleep(0)
          local last = start(take, 2, got)
          tasks[1]:cancel()
          tasks[3]:cancel()
          coroutine.resume(odd, "not for you")
          assert.is_false((timed:await()))
          assert.is_false(foreign[1])
          publish(1, 3)
          last[2]:await()
          assert.are.same({ "2:1", "1:2", "2:3" }, got)
          receiver:close()
        end)
      end)

      it("a coroutine that was closed (Lua 5.4) leaves the line", function()
        if not coroutine.close then return pending "coroutine.close" end -- luacheck: ignore 143
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local take, got = way(receiver), {}
          local closed = coroutine.create(take)
          coroutine.resume(closed)
          local tasks = start(take, 1, got)
          coroutine.close(closed) -- luacheck: ignore 143
          publish(1, 1)
          assert.are.equal("1", tasks[1]:await())
          receiver:close()
        end)
      end)

      it("a coroutine that was closed between being woken and running leaves its message (Lua 5.4)", function()
        if not coroutine.close then return pending "coroutine.close" end -- luacheck: ignore 143
        local park = require "redio.task.coroutines"
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local take = way(receiver)
          local function nest(levels, fn)
            if levels == 0 then return fn() end
            local waiter = {}
            coroutine.wrap(function()
              park.wait(waiter)
              nest(levels - 1, fn)
            end)()
            park.wake(waiter)
          end
          -- when so many coroutines have resumed each other, another one is resumed later
          local ran, levels = true, 0
          while ran and levels < 100 do
            levels, ran = levels + 1, false
            local closed = coroutine.create(function()
              take()
              ran = true
            end)
            coroutine.resume(closed)
            nest(levels, function()
              receiver:_receive("message", CHANNEL, "not to be lost")
              receiver._feed:deliver()
              if not ran then coroutine.close(closed) end -- luacheck: ignore 143
            end)
          end
          assert.is_false(ran)
          assert.are.equal("not to be lost", take())
          receiver:close()
        end)
      end)

      it("keep their places through losses", function()
        check.within(60, function()
          local line = it_needs:proxy()
          local redis = it_needs:client(line.url, { retry = QUICKLY })
          local gaps = 0
          local receiver = redis:pubsub(CHANNEL):resubscribe(function() gaps = gaps + 1 end):connect()
          local got = {}
          local tasks = start(way(receiver), 20, got)
          local sent = 0
          for round = 1, 5 do
            line:cut "rst"
            assert.is_true(check.eventually(function() return gaps == round end))
            for _ = 1, 4 do
              sent = sent + 1
              publish(sent, sent)
            end
            assert.is_true(check.eventually(function() return #got == sent end))
          end
          tasks[20]:await()
          assert.are.same(expected(1, 20), got)
          receiver:close()
        end)
      end)

      it("when the one that restores the connection is cancelled, the next does it", function()
        check.within(60, function()
          local line = it_needs:proxy()
          local redis = it_needs:client(line.url, { retry = QUICKLY })
          local receiver = redis:pubsub(CHANNEL):resubscribe():connect()
          local got = {}
          local tasks = start(way(receiver), 5, got)
          line.down.hold = true
          line:cut "rst"
          for i = 1, 3 do
            redio.sleep(0.02)
            tasks[i]:cancel()
          end
          redio.sleep(0.02)
          line.down.hold = nil
          line:release()
          assert.is_true(check.eventually(function() return publish(4, 4)[1] == 1 end))
          assert.are.equal("4", tasks[4]:await())
          publish(5, 5)
          assert.are.equal("5", tasks[5]:await())
          receiver:close()
        end)
      end)

      it("all are told of a loss, and of the end", function()
        check.within(60, function()
          local redis = it_needs:client(server.shared().url)
          local receiver = redis:pubsub(CHANNEL):connect()
          local tasks = start(way(receiver), 5, {})
          publisher():client_kill("TYPE", "pubsub"):await()
          for i = 1, 5 do
            check.raises("ConnectionClosedError", tasks[i].await, tasks[i])
          end
          receiver:close()
          receiver = redis:pubsub(CHANNEL):connect()
          tasks = start(way(receiver), 5, {})
          receiver:unsubscribe()
          for i = 1, 5 do
            assert.is_nil((tasks[i]:await()))
          end
          receiver:subscribe(CHANNEL):connect()
          tasks = start(way(receiver), 5, {})
          receiver:close()
          for i = 1, 5 do
            assert.is_nil((tasks[i]:await()))
          end
        end)
      end)
    end)
  end

  it("wait_message() looks, and leaves the message to those that take", function()
    check.within(60, function()
      local redis = it_needs:client(server.shared().url)
      local receiver = redis:pubsub(CHANNEL):connect()
      local view = receiver:channel(CHANNEL)
      local looks = redio.spawn(function() return view:wait_message() end)
      local takes = redio.spawn(function() return (view:get()) end)
      redio.sleep(0.01)
      publish(1, 1)
      assert.is_true((looks:await()))
      assert.are.equal("1", takes:await())
      receiver:close()
    end)
  end)

  describe("for a connection", function()
    local function all_raise(kind, wait)
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = redio.spawn(wait)
      end
      for i = 1, 5 do
        check.raises(kind, tasks[i].await, tasks[i])
      end
    end

    local OBJECTS = {
      ["a receiver"] = function(redis) return redis:pubsub(CHANNEL) end,
      ["a monitor"] = function(redis) return redis:monitor() end,
    }
    for name, new in pairs(OBJECTS) do
      it(name .. ": all raise why there is none", function()
        check.within(60, function()
          local redis = it_needs:client("redis://127.0.0.1:1/")
          local object = new(redis)
          all_raise("ConnectionError", function() object:await() end)
          all_raise("ConnectionError", function() object:connect() end)
          object:close()
        end)
      end)

      it(name .. ": one that is cancelled while it connects leaves that to the next", function()
        check.within(60, function()
          local line = it_needs:proxy()
          local redis = it_needs:client(line.url)
          local object = new(redis)
          line.down.hold = true
          local tasks = {}
          for i = 1, 4 do
            tasks[i] = redio.spawn(function() return object:await() end)
          end
          for i = 1, 3 do
            redio.sleep(0.02)
            tasks[i]:cancel()
            check.raises("CancelledError", tasks[i].await, tasks[i])
          end
          redio.sleep(0.02)
          line.down.hold = nil
          line:release()
          assert.is_true(check.eventually(function()
            publish(1, 1)
            return tasks[4]:status() == "done"
          end))
          object:close()
        end)
      end)

      it(name .. ": one that is closed while it connects leaves that to the next (Lua 5.4)", function()
        if not coroutine.close then return pending "coroutine.close" end -- luacheck: ignore 143
        check.within(60, function()
          local line = it_needs:proxy()
          local redis = it_needs:client(line.url)
          local object = new(redis)
          line.down.hold = true
          local connecting = coroutine.create(function() object:await() end)
          coroutine.resume(connecting)
          local waiting = redio.spawn(function() return object:await() end)
          redio.sleep(0.02)
          coroutine.close(connecting) -- luacheck: ignore 143
          redio.sleep(0.02)
          line.down.hold = nil
          line:release()
          assert.is_true(check.eventually(function()
            publish(1, 1)
            return waiting:status() == "done"
          end))
          assert.are.equal(1, redis:stats().receivers)
          object:close()
          assert.are.equal(0, redis:stats().receivers)
        end)
      end)

      it(name .. " that is closed while it connects: all get nil, at once", function()
        check.within(60, function()
          local line = it_needs:proxy()
          line.down.hold = true
          local object = new(it_needs:client(line.url, { connect_timeout = 9 }))
          local tasks = {}
          for i = 1, 3 do
            tasks[i] = redio.spawn(function() return object:await() end)
          end
          redio.sleep(0.02)
          object:close()
          local seconds = fixtures.time(function()
            for i = 1, 3 do
              assert.is_nil((tasks[i]:await()))
            end
          end)
          assert.is_true(seconds < 3)
        end)
      end)
    end
  end)

  it("on a monitor, each line reaches one, in order", function()
    check.within(60, function()
      local redis = it_needs:client(server.shared().url)
      publisher():ping():await()
      local monitor = redis:monitor():connect()
      local got, tasks = {}, {}
      for i = 1, 4 do
        tasks[i] = redio.spawn(function()
          local entry = monitor:await()
          got[#got + 1] = i .. entry.command:match '"ECHO" "(%d)"'
        end)
      end
      redio.sleep(0.01)
      publisher():echo(1):echo(2):echo(3):echo(4):await()
      for i = 1, 4 do
        tasks[i]:await()
      end
      assert.are.same({ "11", "22", "33", "44" }, got)
      tasks = {}
      for i = 1, 2 do
        tasks[i] = redio.spawn(function() return monitor:await() end)
      end
      redio.sleep(0.01)
      monitor:close()
      assert.is_nil((tasks[1]:await()))
      assert.is_nil((tasks[2]:await()))
    end)
  end)

  it("at random: no message is lost, doubled or out of order", function()
    local random = require "spec.support.random"
    check.within(60, function()
      local redis = it_needs:client(server.shared().url, { queue_limit = 50 })
      local receiver = redis:pubsub(CHANNEL):connect()
      local view = receiver:channel(CHANNEL)
      local draw = random.new "several that wait"
      local total, got, waiting = 3000, {}, 0
      local function take_one()
        waiting = waiting + 1
        local ok, message = pcall(view.get, view, draw(4) == 1 and { timeout = draw(5) / 1000 } or nil)
        waiting = waiting - 1
        if ok and message then got[#got + 1] = tonumber(message) end
      end
      local publishing = redio.spawn(function()
        local sent = 0
        while sent < total do
          local n = math.min(draw(20), total - sent)
          publish(sent + 1, sent + n)
          sent = sent + n
          if draw(3) == 1 then redio.sleep(0.001) end
        end
      end)
      local tasks = {}
      while #got < total do
        while waiting < 20 do
          tasks[#tasks + 1] = redio.spawn(take_one)
          redio.sleep(0)
        end
        if draw(3) == 1 and #tasks > 0 then tasks[draw(#tasks)]:cancel() end
        redio.sleep(0)
      end
      publishing:await()
      for i = 1, total do
        assert(got[i] == i, ("message %s came as number %d"):format(tostring(got[i]), i))
      end
      receiver:close()
    end)
  end)
end)
