-- SPDX-License-Identifier: MIT
-- Promise 2: who is cancelled on the shared connection is free at once. The place in the queue stays, the reply is
-- dropped there, and the connection goes on: one connect is enough for a run as promise 1 makes it.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"
local traffic = require "spec.support.traffic"
local whereabouts = require "spec.support.whereabouts"

local CANCELS = 2000 -- under each protocol

describe("Promise 2: a cancel on the shared connection", function()
  local report, accepted, after, random

  local function storm(protocol)
    local proxy = proxies.start(server.shared())
    local redis = redio.Redis(proxy.url, { protocol = protocol })
    check.within(30, function()
      local clear_up = traffic.weather(proxy, random)
      report = traffic.run {
        client = function() return redis end,
        random = random,
        where = whereabouts.watch(proxy),
        enough = function(so_far) return so_far.cancelled >= CANCELS end,
        workers = 50,
        cancel = 0.8,
        longest = 0.015,
      }
      clear_up()
      after = { redis():echo("after"):await() }
    end)
    accepted = proxy.accepted
    redis:close()
    proxy:stop()
  end

  setup(function()
    random = randoms.new "promise 2"
  end)

  check.protocols(function(protocol)
    describe(("over RESP%d"):format(protocol), function()
      setup(function()
        storm(protocol)
      end)

      it("frees the caller at once", function()
        assert.is_true(report.cancelled >= CANCELS)
        assert.are.equal(0, report.late)
      end)

      it("drops the reply in its place, so that all others get theirs", function()
        assert.is_nil(report.ends.mismatch)
        assert.are.equal(report.begun, report.ends.done + report.ends.CancelledError)
      end)

      it("leaves the connection usable: one connect over the whole run", function()
        assert.are.same({ "after" }, after)
        assert.are.equal(1, accepted)
      end)
    end)
  end)

  it("frees the caller even while the server does not answer at all", function()
    local proxy = proxies.start(server.shared())
    local redis = redio.Redis(proxy.url)
    check.within(5, function()
      redis():ping():await()
      proxy.down.hold = true
      local task = redio.spawn(function() redis():echo("cancelled"):await() end)
      redio.sleep(0.01)
      task:cancel()
      assert.are.equal("cancelled", task:status())
      local next_one = redio.spawn(function() return redis():echo("next"):await() end)
      redio.sleep(0.01)
      proxy:release()
      assert.are.equal("next", (next_one:await()))
    end)
    assert.are.equal(1, proxy.accepted)
    redis:close()
    proxy:stop()
  end)
end)
