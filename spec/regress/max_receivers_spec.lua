-- SPDX-License-Identifier: MIT
-- Receivers and monitors took from max_connections: the 65th waited for 20 s and raised, and so did every transaction
-- beside 64 receivers.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

describe("receivers and monitors", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  it("take nothing from max_connections, nor are they counted there", function()
    check.within(20, function()
      local redis = it_needs:client(server.shared().url, { max_connections = 2, pool_timeout = 0 })
      local open = {}
      for i = 1, 100 do
        open[i] = (i % 10 == 0 and redis:monitor() or redis:pubsub("c")):connect()
      end
      local stats = redis:stats()
      assert.are.same({ 100, 0, 0, 0 }, { stats.receivers, stats.connections, stats.idle, stats.waiting })
      local one, two = redis:connection(), redis:connection()
      assert.are.same({ "1", "2" }, { one:echo("1"):await(), two:echo("2"):await() })
      check.raises("TimeoutError", function() redis:connection():ping():await() end)
      stats = redis:stats()
      assert.are.same({ 100, 2 }, { stats.receivers, stats.connections })
      redis:disconnect { idle = true }
      assert.are.equal(100, redis:stats().receivers)
      redis:disconnect()
      stats = redis:stats()
      assert.are.same({ 0, 0 }, { stats.receivers, stats.connections })
      check.raises("ConnectionForcedCloseError", open[1].await, open[1])
    end)
  end)

  it("are bounded by max_receivers: one too many raises at once, and names it", function()
    check.within(20, function()
      local redis = it_needs:client(server.shared().url, { max_receivers = 3 })
      local first = redis:pubsub("c"):connect()
      local second, monitor = redis:pubsub("c"):connect(), redis:monitor():connect()
      local fourth = redis:pubsub("c")
      for _, object in ipairs { fourth, redis:monitor(), redis:pubsub("c"):resubscribe() } do
        local err = check.raises("ConnectionError", object.connect, object)
        assert.matches("3 receivers and monitors are open %(max_receivers%)", err.message)
        assert.are.equal("no", err.sent)
      end
      monitor:close()
      assert.are.equal(fourth, fourth:connect())
      assert.are.equal(3, redis:stats().receivers)
      redis():publish("c", "x"):await()
      assert.are.same({ "x", "x", "x" }, { first:await(), second:await(), (fourth:await()) })
      redis():client_kill("TYPE", "pubsub"):await()
      for _, receiver in ipairs { first, second, fourth } do
        check.raises("ConnectionClosedError", receiver.await, receiver)
      end
      assert.are.equal(0, redis:stats().receivers)
    end)
  end)

  it("that were forgotten are not in the way of others", function()
    check.within(20, function()
      local redis = it_needs:client(server.shared().url, { max_receivers = 5 })
      for _ = 1, 50 do
        redis:pubsub("c"):connect()
        redis:monitor():connect()
      end
      assert.is_true(redis:stats().receivers <= 5)
    end)
  end)

  it("1024 of them are what is allowed unless told otherwise", function()
    local options = require "redio.settings"
    assert.are.equal(1024, options.resolve().max_receivers)
    assert.are.equal(7, options.resolve("redis://localhost/?max_receivers=7").max_receivers)
    assert.has_error(function() redio.Redis(nil, { max_receivers = 0 }) end)
  end)
end)
