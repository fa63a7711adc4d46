-- SPDX-License-Identifier: MIT
-- Promise 2, cancel on the shared connection: it returns at once. The place in the queue stays, the reply is dropped
-- there, and the connection goes on: one connect is enough for a run like that of promise 1.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"
local request_load = require "spec.support.request_load"
local request_progress = require "spec.support.request_progress"

local CANCELS = 2000 -- under each protocol

describe("Promise 2: a cancel on the shared connection", function()
  local report, accepted, after, random

  local function storm(protocol)
    local proxy = proxies.start(server.shared())
    local redis = redio.Redis(proxy.url, { protocol = protocol })
    check.within(30, function()
      local clear_up = request_load.weather(proxy, random)
      report = request_load.run {
        client = function() return redis end,
        random = random,
        where = request_progress.watch(proxy),
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

  -- Arguments as long as this are not copied into the output, but stand beside it.
  local function large(i)
    return ("large %d "):format(i) .. ("x"):rep(16 * 1024 + i)
  end

  local kinds = {
    function(i) return { "small " .. i } end,
    function(i) return { large(i) } end,
    function(i) return { "small " .. i, large(i), large(i + 1), "last " .. i } end,
  }

  local function encoded(words)
    local out = {}
    for i, word in ipairs(words) do
      out[i] = ("*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n"):format(#word, word)
    end
    return table.concat(out)
  end

  -- Chains that one turn of the loop queues, some of which are cancelled in it: what is to go out, and the others.
  local function queue_and_cancel(redis, count)
    local kept, gone, want = {}, {}, {}
    for i = 1, count do
      local words = random(kinds)(i)
      local task = redio.spawn(function()
        local db = redis()
        for _, word in ipairs(words) do
          db:echo(word)
        end
        return db:await()
      end)
      if random() < 0.5 then
        gone[#gone + 1] = task
      else
        kept[#kept + 1], want[#want + 1] = { task = task, words = words }, encoded(words)
      end
    end
    redio.spawn(function() -- in the turn of the others, and behind them
      while #gone > 0 do
        table.remove(gone, random(#gone)):cancel()
      end
    end)
    return table.concat(want), kept
  end

  it("before the chain is written takes it out: all others go out whole, and get their replies", function()
    local proxy = proxies.start(server.shared())
    local redis = redio.Redis(proxy.url)
    check.within(20, function()
      redis():ping():await()
      local up = proxy.connections[1].up
      for _ = 1, 300 do
        up._seen = {}
        local want, kept = queue_and_cancel(redis, random(8))
        for _, chain in ipairs(kept) do
          assert.are.same(chain.words, { chain.task:await() })
        end
        redis():ping():await()
        local sent = up:bytes()
        assert.is_true(sent == want .. "*1\r\n$4\r\nPING\r\n", "other bytes")
      end
    end)
    assert.are.equal(1, proxy.accepted)
    redis:close()
    proxy:stop()
  end)
end)
