-- SPDX-License-Identifier: MIT
-- Promise 1: a reply reaches the caller that sent the command, or nobody. 10,000 requests are cancelled at random
-- points, among 50 coroutines, behind a proxy that delays, holds and chops.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"
local traffic = require "spec.support.traffic"
local whereabouts = require "spec.support.whereabouts"

local CANCELS = 5000 -- under each protocol

local function storm(protocol, random)
  local proxy = proxies.start(server.shared())
  local redis = redio.Redis(proxy.url, { protocol = protocol, max_connections = 10 })
  local result = check.within(60, function()
    local clear_up = traffic.weather(proxy, random)
    local report = traffic.run {
      client = function() return redis end,
      random = random,
      where = whereabouts.watch(proxy),
      enough = function(so_far) return so_far.cancelled >= CANCELS end,
      workers = 50,
      private = true,
      cancel = 0.8,
      longest = 0.015,
    }
    clear_up()
    report.quiet = check.eventually(function()
      local stats = redis:stats()
      return stats.in_flight == 0 and stats.waiting == 0 and stats.queued_bytes == 0
        and stats.idle == stats.connections
    end)
    report.stats = redis:stats()
    return report
  end)
  print(("RESP%d, %s"):format(protocol, traffic.summary(result)))
  redis:close()
  proxy:stop()
  return result
end

describe("Promise 1: a reply reaches the caller that sent the command, or nobody.", function()
  for protocol = 2, 3 do
    describe(("Over RESP%d,"):format(protocol), function()
      local report

      setup(function()
        report = storm(protocol, randoms.new "promise 1")
      end)

      it("5,000 requests are cancelled at random points", function()
        assert.is_true(report.cancelled >= CANCELS)
      end)

      it("queued, half written, written and half read", function()
        for _, state in ipairs { "queued", "on its way", "half written", "written", "half read" } do
          assert.is_true((report.states[state] or 0) >= 50, state .. ": " .. tostring(report.states[state]))
        end
      end)

      it("every other request gets its own reply", function()
        assert.is_nil(report.ends.mismatch)
        for kind in pairs(report.ends) do
          assert.is_true(kind == "done" or kind == "CancelledError", kind)
        end
        assert.is_true(report.ends.done >= 1000)
      end)

      it("each ends once", function()
        assert.are.equal(report.begun, report.ended)
        assert.are.equal(0, report.twice)
      end)

      it("and nothing is left in use", function()
        assert.is_truthy(report.quiet)
        assert.are.same({ 0, 0, 0 }, { report.stats.in_flight, report.stats.waiting, report.stats.queued_bytes })
        assert.are.equal(report.stats.connections, report.stats.idle)
      end)
    end)
  end
end)
