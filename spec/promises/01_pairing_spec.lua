-- SPDX-License-Identifier: MIT
-- Promise 1, pairing: a reply reaches the caller that sent the command, or none. 10,000 requests are cancelled at
-- random points, among 50 coroutines, behind a proxy that delays, holds and chops; and as many over TLS.

local redio = require "redio"
local certificates = require "spec.support.certificates"
local check = require "spec.support.check"
local peer = require "spec.support.tls_peer"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"
local request_load = require "spec.support.request_load"
local request_progress = require "spec.support.request_progress"
local request_progress_tls = require "spec.support.request_progress_tls"

local CANCELS = 5000 -- under each protocol

-- The two kinds of connections, plain and TLS. `begin(protocol)` returns a proxy, a client through it, and the watch on
-- the progress of requests. `states` are those in which requests are to be cancelled.
local plain = { states = { "queued", "on its way", "half written", "written", "half read" } }
local over_tls = { states = { "queued", "sent", "within a record" } }

function plain.begin(protocol)
  local proxy = proxies.start(server.shared())
  return proxy, redio.Redis(proxy.url, { protocol = protocol, max_connections = 10 }), request_progress.watch(proxy)
end

function over_tls.setup()
  over_tls.certificates = certificates.make()
  over_tls.server = peer.redis(over_tls.certificates)
end

function over_tls.teardown()
  over_tls.server:stop()
  over_tls.certificates:remove()
end

function over_tls.begin(protocol)
  local proxy = proxies.start { host = over_tls.server.host, port = over_tls.server.tls_port }
  local tls = { ca = over_tls.certificates.ca.cert, server_name = "localhost" }
  local url = ("rediss://%s:%d/"):format(proxy.host, proxy.port)
  return proxy, redio.Redis(url, { protocol = protocol, max_connections = 10, tls = tls }), request_progress_tls.watch()
end

local function storm(way, protocol, random)
  local proxy, redis, where = way.begin(protocol)
  local result = check.within(60, function()
    local clear_up = request_load.weather(proxy, random)
    local report = request_load.run {
      client = function() return redis end,
      random = random,
      where = where,
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
  print(("RESP%d, %s"):format(protocol, request_load.summary(result)))
  redis:close()
  proxy:stop()
  if where.stop then
    where:stop()
  end
  return result
end

local function describe_storm(way, protocol)
  local report

  setup(function()
    report = storm(way, protocol, randoms.new "promise 1")
  end)

  it("5,000 requests are cancelled at random points", function()
    assert.is_true(report.cancelled >= CANCELS)
  end)

  it(table.concat(way.states, ", "), function()
    for _, state in ipairs(way.states) do
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
end

describe("Promise 1: a reply reaches the caller that sent the command, or none.", function()
  for protocol = 2, 3 do
    describe(("Over RESP%d,"):format(protocol), function()
      describe_storm(plain, protocol)
    end)
  end

  describe("Over TLS", function()
    setup(over_tls.setup)
    teardown(over_tls.teardown)

    for protocol = 2, 3 do
      describe(("and RESP%d,"):format(protocol), function()
        describe_storm(over_tls, protocol)
      end)
    end
  end)
end)
