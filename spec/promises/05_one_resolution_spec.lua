-- SPDX-License-Identifier: MIT
-- Promise 5, one resolution: every awaited chain ends exactly once. Counted while requests are cancelled and run out of
-- time, connections are reset, and clients are closed and made anew.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"
local request_load = require "spec.support.request_load"
local request_progress = require "spec.support.request_progress"

local REQUESTS = 5000 -- under each protocol

local MAY_END = {
  done = true, CancelledError = true, TimeoutError = true, PoolClosedError = true,
  ConnectionError = true, ConnectionClosedError = true, ConnectionForcedCloseError = true,
}

describe("Promise 5: every awaited chain ends exactly once,", function()
  local proxy, random, redis, options

  local function reopen()
    if redis then
      redis:close { drain = 0 }
    end
    redis = redio.Redis(proxy.url, options)
  end

  -- Something bad every few milliseconds, until `over()`.
  local function misfortune(over)
    local kinds = {
      function() proxy:cut "fin" end,
      function() proxy:cut "rst" end,
      function() redis:disconnect() end,
      reopen,
    }
    while not over() do
      redio.sleep(0.01 + random() * 0.04)
      random(kinds)()
    end
  end

  local function storm(protocol)
    proxy = proxies.start(server.shared())
    options = { protocol = protocol, max_connections = 10, retry = { base = 0.001, cap = 0.004 } }
    redis = nil
    reopen()
    local report = check.within(30, function()
      local over = false
      local clear_up = request_load.weather(proxy, random)
      local trouble = redio.spawn(misfortune, function() return over end)
      local result = request_load.run {
        client = function() return redis end,
        random = random,
        where = request_progress.watch(proxy),
        enough = function(so_far) return so_far.begun >= REQUESTS end,
        workers = 50,
        private = true,
        cancel = 0.4,
        longest = 0.015,
        deadline = 0.03,
      }
      over = true
      trouble:await()
      clear_up()
      redio.sleep(0.05) -- for what may come late
      return result
    end)
    print(("RESP%d, %s"):format(protocol, request_load.summary(report)))
    redis:close()
    proxy:stop()
    return report
  end

  setup(function()
    random = randoms.new "promise 5"
  end)

  check.protocols(function(protocol)
    describe(("over RESP%d:"):format(protocol), function()
      local report

      setup(function()
        report = storm(protocol)
      end)

      it("none is left without an end", function()
        assert.is_true(report.begun >= REQUESTS)
        assert.are.equal(report.begun, report.ended)
      end)

      it("none ends twice", function()
        assert.are.equal(0, report.twice)
      end)

      it("each ends with its own results or with an error that says what happened", function()
        for kind in pairs(report.ends) do
          assert.is_true(MAY_END[kind], kind)
        end
      end)

      it("and all ways to end are among them", function()
        for _, kind in ipairs { "done", "CancelledError", "TimeoutError", "ConnectionClosedError" } do
          assert.is_true((report.ends[kind] or 0) > 0, kind)
        end
      end)
    end)
  end)
end)
