-- SPDX-License-Identifier: MIT
-- A subscription that the server ends by itself, as SUNSUBSCRIBE when a slot moves to another node, was not told: the
-- receiver waited on.

local redio = require "redio"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local function array(protocol, ...)
  local parts = { (protocol == 3 and ">" or "*") .. select("#", ...) .. "\r\n" }
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    parts[#parts + 1] = type(part) == "number" and (":%d\r\n"):format(part) or ("$%d\r\n%s\r\n"):format(#part, part)
  end
  return table.concat(parts)
end

describe("a subscription that the server takes away", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- A server that confirms all it is asked; `peer.refuses[name]` is an error instead.
  local function peer_of(protocol)
    local peer
    peer = it_needs:fake(function(connection, words)
      local said = {}
      for i = 2, #words do
        said[i - 1] = peer.refuses[words[i]] or array(protocol, words[1]:lower(), words[i], 1)
      end
      connection:write(table.concat(said))
    end, { protocol = protocol })
    peer.refuses = {}
    function peer.push(...) peer.connections[#peer.connections]:write(array(protocol, ...)) end
    return peer
  end

  for _, protocol in ipairs { 2, 3 } do
    describe(("(RESP%d)"):format(protocol), function()
      local peer, redis

      before_each(function()
        peer = peer_of(protocol)
        redis = it_needs:client(peer.url, { protocol = protocol, retry = { max = 3, base = 0.001, cap = 0.005 } })
      end)

      it("ends the wait with an error, once; then there is nothing to wait for", function()
        check.within(10, function()
          local receiver = redis:pubsub():ssubscribe("s"):connect()
          assert.is_true(receiver.in_pubsub)
          local tasks = {}
          for i = 1, 3 do tasks[i] = redio.spawn(receiver.await, receiver) end
          redio.sleep(0.01)
          peer.push("sunsubscribe", "s", 0)
          check.raises("ChannelClosedError", tasks[1].await, tasks[1])
          assert.is_nil((tasks[2]:await()))
          assert.is_nil((tasks[3]:await()))
          assert.is_false(receiver.in_pubsub)
          assert.is_nil((receiver:await()))
          receiver:ssubscribe("s"):connect()
          peer.push("smessage", "s", "again")
          assert.are.equal("again", receiver:await())
          receiver:close()
        end)
      end)

      it("is told after what had come before, and the others go on", function()
        check.within(10, function()
          local receiver = redis:pubsub("c"):ssubscribe("s"):with_channel():connect()
          peer.push("smessage", "s", "before")
          peer.push("sunsubscribe", "s", 0)
          peer.push("message", "c", "after")
          redio.sleep(0.02)
          assert.are.same({ "s", "before" }, { receiver:await() })
          check.raises("ChannelClosedError", receiver.await, receiver)
          assert.are.same({ "c", "after" }, { receiver:await() })
          assert.is_true(receiver.in_pubsub)
          receiver:close()
        end)
      end)

      it("is told to its view", function()
        check.within(10, function()
          local receiver = redis:pubsub("c"):ssubscribe("s"):connect()
          local view = receiver:channel "s"
          local viewing, waiting = redio.spawn(view.get, view), redio.spawn(receiver.await, receiver)
          redio.sleep(0.01)
          peer.push("sunsubscribe", "s", 0)
          check.raises("ChannelClosedError", viewing.await, viewing)
          assert.is_false(view.is_active)
          check.raises("ChannelClosedError", view.get, view)
          peer.push("message", "c", "for the other")
          assert.are.equal("for the other", waiting:await())
          receiver:close()
        end)
      end)

      it("is subscribed again by one that resubscribes, which tells the gap", function()
        check.within(10, function()
          local gaps = {}
          local receiver = redis:pubsub("c"):ssubscribe("s"):resubscribe(function(gap) gaps[#gaps + 1] = gap end)
          receiver:connect()
          local tasks = {}
          for i = 1, 2 do tasks[i] = redio.spawn(receiver.await, receiver) end
          redio.sleep(0.01)
          local before = #peer.requests
          peer.push("sunsubscribe", "s", 0)
          assert.is_true(check.eventually(function() return #gaps == 1 end))
          assert.is_true(gaps[1] >= 0 and gaps[1] < 5)
          assert.are.same({ { "SSUBSCRIBE", "s" } }, { peer.requests[before + 1], peer.requests[before + 2] })
          assert.is_true(receiver.in_pubsub)
          peer.push("smessage", "s", "one")
          peer.push("message", "c", "two")
          assert.are.same({ "one", "two" }, { (tasks[1]:await()), (tasks[2]:await()) })
          assert.are.equal(1, peer.accepted)
          receiver:close()
        end)
      end)

      it("is subscribed again with the next wait when none waits", function()
        check.within(10, function()
          local gaps = 0
          local receiver = redis:pubsub():ssubscribe("s"):resubscribe(function() gaps = gaps + 1 end):connect()
          peer.push("sunsubscribe", "s", 0)
          redio.sleep(0.02)
          assert.are.same({ 0, false }, { gaps, receiver.in_pubsub })
          receiver:connect()
          assert.are.same({ 1, true }, { gaps, receiver.in_pubsub })
          receiver:close()
        end)
      end)

      it("raises where to go when its slot is another node's now", function()
        check.within(10, function()
          local receiver = redis:pubsub():ssubscribe("s"):resubscribe():connect()
          local task = redio.spawn(receiver.await, receiver)
          redio.sleep(0.01)
          peer.refuses.s = "-MOVED 1 127.0.0.1:7001\r\n"
          peer.push("sunsubscribe", "s", 0)
          check.raises("MovedError", task.await, task)
          receiver:close()
        end)
      end)

      it("is not mistaken for one that was asked for", function()
        check.within(10, function()
          local receiver = redis:pubsub("a", "b"):connect()
          local task = redio.spawn(receiver.await, receiver)
          redio.sleep(0.01)
          receiver:unsubscribe("a"):subscribe("a"):unsubscribe("a"):connect()
          assert.are.equal("waiting", task:status())
          receiver:unsubscribe("b")
          assert.is_nil((task:await()))
          receiver:close()
        end)
      end)
    end)
  end
end)
