-- SPDX-License-Identifier: MIT
-- Promise 10, liveness: a dead peer is found. An overdue reply closes the connection, idle connections are pinged, any
-- byte counts as alive, and a receiver checks that its PONG came.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local INTERVAL = 0.1
local LATEST = 3 * INTERVAL + 0.1 -- idle for one, unanswered for another, and a slow machine

describe("Promise 10, liveness:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- Two ways to be dead while the connection stays open: the server process stands still, and the
  -- network swallows all bytes. `way(fn)` calls fn(url, die, live).
  local ways = {
    ["a stopped server"] = function(fn)
      local one = it_needs:server()
      it_needs:finally(function() one:resume() end)
      fn(one.url, function() one:pause() end, function() one:resume() end)
    end,
    ["a black hole"] = function(fn)
      local line = it_needs:proxy()
      fn(line.url, function() line.up.drop, line.down.drop = true, true end, function()
        line.up.drop, line.down.drop = nil, nil
      end)
    end,
  }

  -- How long it takes until the client has no connection.
  local function seconds_until_none(redis)
    return (fixtures.time(function()
      while redis:stats().connections > 0 do
        redio.sleep(0.005)
      end
    end))
  end

  for name, way in pairs(ways) do
    describe("with " .. name, function()
      it("idle connections are found dead: the shared one and those in the pool", function()
        way(function(url, die, live)
          local redis = it_needs:client(url, { health_check_interval = INTERVAL })
          check.within(10, function()
            redis():ping():await()
            redis():blpop("spec:p10:none", 0.01):await() -- leaves one in the pool
            assert.are.equal(2, redis:stats().connections)
            redio.sleep(3 * INTERVAL)
            assert.are.equal(2, redis:stats().connections) -- healthy ones stay
            assert.are.equal(0, redis:stats().reconnects)
            die()
            local seconds = seconds_until_none(redis)
            assert.is_true(seconds <= LATEST, ("after %.3f s"):format(seconds))
            live()
            assert.are.equal("works", (redis():echo "works":await()))
          end)
        end)
      end)

      it("without health checks an idle one is found dead by the first reply that is overdue", function()
        way(function(url, die)
          local redis = it_needs:client(url, { timeout = 0.2, retry = false })
          check.within(10, function()
            redis():ping():await()
            die()
            redio.sleep(0.3)
            assert.are.equal(1, redis:stats().connections)
            local seconds, err = fixtures.time(check.raises, "TimeoutError", function()
              redis():incr "spec:p10":await()
            end)
            assert.is_true(seconds >= 0.19 and seconds < 0.35, ("after %.3f s"):format(seconds))
            assert.are.equal("maybe", err.sent)
            assert.are.equal(0, redis:stats().connections)
          end)
        end)
      end)

      it("while replies are pending all waits end in time, and the connection is closed", function()
        way(function(url, die)
          local redis = it_needs:client(url, { timeout = 0.2, retry = false })
          check.within(10, function()
            redis():ping():await()
            die()
            local seconds = fixtures.time(redio.gather, (table.unpack or unpack)((function() -- luacheck: ignore unpack
              local waiters = {}
              for i = 1, 20 do
                waiters[i] = function()
                  check.raises("TimeoutError", function() redis():get "spec:p10":await() end)
                end
              end
              return waiters
            end)()))
            assert.is_true(seconds >= 0.19 and seconds < 0.35, ("after %.3f s"):format(seconds))
            assert.are.equal(0, redis:stats().connections)
          end)
        end)
      end)

      it("while writing, what the peer does not take in time ends the connection", function()
        way(function(url, die)
          local redis = it_needs:client(url, { timeout = 0.3, retry = false })
          check.within(10, function()
            redis():ping():await()
            die()
            local err = check.raises("TimeoutError", function()
              redis():set("spec:p10:large", ("x"):rep(32 * 1024 * 1024)):await()
            end)
            assert.are.equal("maybe", err.sent)
            assert.are.equal(0, redis:stats().connections)
          end)
        end)
      end)

      it("receivers are told: one that waits for a message, and one that was waited on by a view", function()
        way(function(url, die)
          local redis = it_needs:client(url, { health_check_interval = INTERVAL })
          check.within(10, function()
            local receiver = redis:pubsub "spec:p10":connect()
            local viewed = redis:pubsub "spec:p10:view":connect()
            redio.sleep(3 * INTERVAL) -- pinged and healthy
            assert.are.equal(2, redis:stats().receivers)
            assert.are.equal(0, redis:stats().reconnects)
            die()
            local seconds, err = fixtures.time(check.raises, "TimeoutError", receiver.await, receiver)
            assert.is_true(seconds <= LATEST, ("after %.3f s"):format(seconds))
            assert.matches("PING", err.message)
            check.raises("TimeoutError", function() viewed:channel "spec:p10:view":get() end)
            receiver:close()
            viewed:close()
          end)
        end)
      end)

      it("a receiver that resubscribes lives on and tells the gap", function()
        way(function(url, die, live)
          local redis = it_needs:client(url, {
            health_check_interval = INTERVAL, connect_timeout = 0.2, retry = { base = 0.01, cap = 0.05 },
          })
          check.within(10, function()
            local gaps = {}
            local receiver = redis:pubsub "spec:p10:again"
            receiver:resubscribe(function(gap) gaps[#gaps + 1] = gap end):connect()
            local waiting = redio.spawn(function() return receiver:await() end)
            redio.sleep(0)
            die()
            redio.sleep(0.5)
            live()
            assert.is_true(check.eventually(function()
              return redis():publish("spec:p10:again", "back"):await() == 1 and #gaps == 1
            end))
            assert.are.equal("back", waiting:await())
            assert.is_true(gaps[1] > 0.05 and gaps[1] < 3, tostring(gaps[1]))
            receiver:close()
          end)
        end)
      end)
    end)
  end

  it("any byte counts as alive: a reply may take longer than `timeout` while it trickles in", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url, { timeout = 0.2, retry = false, health_check_interval = INTERVAL })
    check.within(10, function()
      redis():set("spec:p10:value", ("v"):rep(64)):await()
      local peer = it_needs:fake(function(connection)
        redio.spawn(function()
          for piece in ("$12\r\ntrickled in!\r\n"):gmatch "..?" do
            connection:write(piece)
            redio.sleep(0.08)
          end
        end)
      end)
      local slow = it_needs:client(peer.url, { timeout = 0.2, retry = false, health_check_interval = INTERVAL })
      local seconds, value = fixtures.time(function() return slow():get "k":await() end)
      assert.are.equal("trickled in!", value)
      assert.is_true(seconds > 0.5, ("%.3f s"):format(seconds))
      assert.are.equal(1, peer.accepted)
      assert.are.equal(1, #peer.requests) -- no PING between, where it would have to wait
    end)
  end)

  describe("when writing takes longer than a reply may,", function()
    local LARGE = ("x"):rep(32 * 1024 * 1024)
    local line, redis

    -- A connection to a peer that does not read until `release()`.
    local function dammed(timeout)
      line = it_needs:proxy()
      redis = it_needs:client(line.url, { timeout = timeout, retry = false })
      redis():ping():await()
      line.up.window, line.up.hold = 1024 * 1024, true
    end

    after_each(function()
      server.shared():cli("del", "spec:p10:large")
    end)

    it("an overdue reply is noticed at the time for reading, from the end of the write on", function()
      dammed { read = 0.4, write = 3 }
      check.within(10, function()
        local sending = redio.spawn(function() redis():set("spec:p10:large", LARGE):await() end)
        redio.sleep(0.7)
        line.down.drop = true
        line:release()
        local written = fixtures.time(function()
          while redis:stats().queued_bytes > 0 do
            redio.sleep(0.001)
          end
        end)
        local seconds, err = fixtures.time(check.raises, "TimeoutError", sending.await, sending)
        assert.matches("0.4 s .*waiting for a reply", err.message)
        assert.is_true(written < 0.5 and seconds > 0.38 and seconds < 0.55,
          ("written in %.3f s, noticed after %.3f s"):format(written, seconds))
      end)
    end)

    it("a reply that is in time is", function()
      dammed { read = 0.4, write = 3 }
      check.within(10, function()
        local sending = redio.spawn(function()
          return redis():set("spec:p10:large", LARGE):strlen("spec:p10:large"):await()
        end)
        redio.sleep(0.7)
        line.down.delay = 0.2
        line:release()
        assert.are.equal(#LARGE, sending:await())
      end)
    end)

    it("a peer that takes nothing is found at the time for writing", function()
      dammed { read = 3, write = 0.4 }
      check.within(10, function()
        local seconds, err = fixtures.time(check.raises, "TimeoutError", function()
          redis():set("spec:p10:large", LARGE):await()
        end)
        assert.matches("0.4 s .*writing", err.message)
        assert.is_true(seconds > 0.38 and seconds < 0.6, ("after %.3f s"):format(seconds))
      end)
    end)

    it("and one that reads slowly lives", function()
      dammed(0.8)
      check.within(10, function()
        line.up.delay, line.up.hold = 0.05, nil -- 20 MiB/s
        local seconds, length = fixtures.time(function()
          return redis():set("spec:p10:large", LARGE):strlen("spec:p10:large"):await()
        end)
        assert.are.equal(#LARGE, length)
        assert.is_true(seconds > 1, ("%.3f s"):format(seconds))
      end)
    end)
  end)

  it("a receiver's PONG is looked for: a peer that confirms subscriptions and nothing else is dead", function()
    local peer = it_needs:fake(function(_, words)
      if words[1] == "SUBSCRIBE" then return ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" end
    end)
    local redis = it_needs:client(peer.url, { health_check_interval = INTERVAL, retry = false })
    check.within(10, function()
      local receiver = redis:pubsub "c":connect()
      local seconds = fixtures.time(check.raises, "TimeoutError", receiver.await, receiver)
      assert.is_true(seconds >= INTERVAL and seconds <= LATEST, ("after %.3f s"):format(seconds))
      assert.are.equal("PING", peer.requests[#peer.requests][1])
      receiver:close()
    end)
  end)

  it("a subscription that is not confirmed is overdue after `timeout`; one that is may be silent for ever", function()
    local peer = it_needs:fake(function(_, words)
      if words[2] == "c" then return ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" end
    end)
    local redis = it_needs:client(peer.url, { timeout = 0.2, retry = false })
    check.within(10, function()
      local receiver = redis:pubsub "c":connect()
      local waiting = redio.spawn(function() receiver:await() end)
      redio.sleep(0.5)
      assert.are.equal("waiting", waiting:status())
      receiver:subscribe "another"
      local seconds = fixtures.time(check.raises, "TimeoutError", waiting.await, waiting)
      assert.is_true(seconds > 0.15 and seconds < 0.4, ("after %.3f s"):format(seconds))
      receiver:close()
    end)
  end)

  it("a receiver with a consumer that stopped is full, not dead", function()
    local redis = it_needs:client(server.shared().url, { health_check_interval = INTERVAL, queue_limit = 10 })
    check.within(10, function()
      local receiver = redis:pubsub "spec:p10:full":connect()
      local chain = redis()
      for i = 1, 1000 do
        chain:publish("spec:p10:full", i .. (" "):rep(1000))
      end
      chain:await()
      redio.sleep(4 * INTERVAL)
      for i = 1, 1000 do
        assert.are.equal(i, tonumber(receiver:await()))
      end
      assert.are.equal(0, redis:stats().reconnects)
      receiver:close()
    end)
  end)

  it("a command that may block for ever is not taken for dead, nor pinged", function()
    local redis, name = it_needs:client(server.shared().url, { health_check_interval = 0.05, timeout = 0.1 })
    local observer = it_needs:client(server.shared().url)
    check.within(10, function()
      local waiting = redio.spawn(function() return redis():blpop("spec:p10:list", 0):await() end)
      redio.sleep(0.5)
      assert.are.equal("waiting", waiting:status())
      local blocked = check.clients(observer, name)[1]
      assert.are.equal("blpop", blocked.cmd)
      observer():rpush("spec:p10:list", "item"):await()
      assert.are.same({ "spec:p10:list", "item" }, waiting:await())
    end)
  end)
end)
