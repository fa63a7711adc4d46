-- SPDX-License-Identifier: MIT
-- Promise 13, write memory: the bytes that wait to be written are bounded. Past the bound, callers wait. Large values
-- are not copied.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local child = require "spec.support.child"
local process = require "spec.support.process"
local fixtures = require "spec.support.fixtures"

local MIB = 1024 * 1024
local PREFIX = "spec:p13:"

describe("Promise 13, write memory:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- A server of its own that can be stopped where it stands, and is let go at the end.
  local function stoppable()
    local one = it_needs:server()
    it_needs:finally(function() one:resume() end)
    return one
  end

  -- Runs `producers` coroutines that each SET `rounds` values of `size` bytes, the server being stopped at
  -- first; the most bytes queued, and what the process grew by, all until it goes on.
  local function produce(producers, rounds, size, limit)
    local one = stoppable()
    local redis = it_needs:client(one.url, { max_queued_bytes = limit, timeout = false })
    local most, grown = 0, nil
    check.within(30, function()
      redis():ping():await()
      one:pause()
      local value = ("v"):rep(size)
      local done, tasks = 0, {}
      process.collect()
      local before = process.status "VmRSS"
      for i = 1, producers do
        tasks[i] = redio.spawn(function()
          for round = 1, rounds do
            redis():set(PREFIX .. i .. ":" .. round, value):await()
            done = done + 1
          end
        end)
      end
      for _ = 1, 30 do
        redio.sleep(0.01)
        most = math.max(most, redis:stats().queued_bytes)
      end
      grown = process.status "VmRSS" - before
      local stopped_at = done
      one:resume()
      for i = 1, producers do
        tasks[i]:await()
      end
      assert.are.equal(0, stopped_at)
      assert.are.equal(producers * rounds, done)
      assert.are.equal(producers * rounds, (redis():dbsize():await()))
    end)
    print(("\n%d coroutines, %d SETs of %d bytes each, limit %.1f MiB: at the most %.1f MiB queued, %.1f MiB more used")
      :format(producers, rounds, size, limit / MIB, most / MIB, grown / MIB))
    return most, grown
  end

  it("the server stopped, 1,000 producers of 20 SETs each: bounded, and then all are done", function()
    -- (8 KiB of a waiting caller are its own)
    local most, grown = produce(1000, 20, 8192, MIB / 4)
    assert.is_true(most <= MIB, ("%.1f MiB queued"):format(most / MIB))
    assert.is_true(grown < 30 * MIB, ("%.1f MiB more"):format(grown / MIB))
  end)

  it("the server stopped, 20,000 coroutines at once: the queue is bounded, no wait ends in vain", function()
    local limit = 4 * MIB
    local most, grown = produce(20000, 1, 4096, limit)
    assert.is_true(most <= 2.5 * limit, ("%.1f MiB queued"):format(most / MIB))
    -- Outside of the queue each caller has a coroutine and an encoded chain.
    assert.is_true(grown < 2.5 * limit + 20000 * 12 * 1024, ("%.1f MiB more"):format(grown / MIB))
  end)

  it("the server stopped, callers that give up at once and come again: still bounded", function()
    local one = stoppable()
    local limit, size = MIB, 16 * 1024
    local redis = it_needs:client(one.url, { max_queued_bytes = limit, timeout = false })
    check.within(30, function()
      redis():ping():await()
      one:pause()
      local value, tries, tasks, most = ("v"):rep(size), 0, {}, 0
      process.collect()
      local before = process.status "VmRSS"
      for i = 1, 100 do
        tasks[i] = redio.spawn(function()
          for _ = 1, 50 do
            check.raises("TimeoutError", function() redis():set(PREFIX .. i, value):timeout(0.001):await() end)
            tries = tries + 1
            most = math.max(most, redis:stats().queued_bytes)
          end
        end)
      end
      for i = 1, 100 do
        tasks[i]:await()
      end
      local grown = process.status "VmRSS" - before
      assert.are.equal(5000, tries) -- 80 MiB
      assert.is_true(most <= 3 * limit, ("%.1f MiB queued"):format(most / MIB))
      assert.is_true(grown < 20 * MIB, ("%.0f MiB more"):format(grown / MIB))
      one:resume()
      assert.are.equal("works", (redis():echo "works":await()))
    end)
  end)

  it("a wait for room that was given up is forgotten", function()
    local one = stoppable()
    local redis = it_needs:client(one.url, { max_queued_bytes = 1024, timeout = false })
    check.within(30, function()
      redis():ping():await()
      one:pause()
      local value = ("v"):rep(MIB)
      local filling = {}
      for i = 1, 10 do
        filling[i] = redio.spawn(function() redis():set(PREFIX .. "filling", value):await() end)
      end
      redio.sleep(0.02)
      local function give_up(rounds)
        for _ = 1, rounds do
          local tasks = {}
          for i = 1, 100 do
            tasks[i] = redio.spawn(function()
              check.raises("TimeoutError", function() redis():set(PREFIX .. i, "x"):timeout(0.001):await() end)
            end)
          end
          for i = 1, 100 do
            tasks[i]:await()
          end
        end
        process.collect()
        return collectgarbage "count"
      end
      local before = give_up(20)
      local after = give_up(100)
      one:resume()
      for i = 1, 10 do
        filling[i]:await()
      end
      -- (a table for each would be a thousand; how large the collector's own are differs by some hundred)
      assert.is_true(after - before < 600, ("10,000 callers left %.0f KiB behind"):format(after - before))
    end)
  end)

  it("a wait for room ends when the connection is lost, the client closed, or time is up", function()
    local one = stoppable()
    local redis = it_needs:client(one.url, { max_queued_bytes = MIB, timeout = false, retry = false })
    check.within(10, function()
      redis():ping():await()
      one:pause()
      local value = ("v"):rep(MIB)
      local tasks = {}
      local function fill()
        for i = 1, 20 do
          tasks[i] = redio.spawn(function() redis():set(PREFIX .. i, value):await() end)
        end
        redio.sleep(0.05)
      end
      local function told(kind)
        for i = 1, 20 do
          check.raises(kind, tasks[i].await, tasks[i])
        end
      end
      fill()
      local seconds, err = fixtures.time(check.raises, "TimeoutError", function()
        redis():set(PREFIX .. "late", value):timeout(0.1):await()
      end)
      assert.is_true(seconds < 0.2)
      assert.are.equal("no", err.sent)
      redis:disconnect()
      told "ConnectionForcedCloseError"
      one:resume()
      redis():ping():await()
      one:pause()
      fill()
      one:kill()
      told "ConnectionError"
    end)
  end)

  local function send_large(url_expression)
    return ([[
      local redio = require "redio"
      local function resident(field)
        for line in io.lines "/proc/self/status" do
          local kilobytes = line:match("^" .. field .. ":%%s*(%%d+)")
          if kilobytes then return kilobytes / 1024 end
        end
      end
      local redis = redio.Redis(%s)
      redis():ping():await()
      local value = ("0123456789abcdef"):rep(16 * 1024 * 1024)
      collectgarbage() collectgarbage()
      local file = assert(io.open("/proc/self/clear_refs", "w"))
      file:write "5" -- the peak from here on
      file:close()
      local before = resident "VmRSS"
      redis():set("spec:p13:large", value):await()
      print(("%%.0f MiB more"):format(resident "VmHWM" - before))
      print(redis():strlen "spec:p13:large":getrange("spec:p13:large", -16, -1):del "spec:p13:large":await())
      redis:close()
    ]]):format(url_expression)
  end

  it("a value of 256 MiB goes out within 300 MiB, itself among them", function()
    local shared = server.shared()
    for _, url in ipairs { shared.url, shared.unix_url } do
      local output, status = child.run_text(send_large [[os.getenv "REDIS_URL"]], url)
      assert.are.equal(0, status, output)
      local more = tonumber(output:match "(%d+) MiB more")
      print("\n256 MiB sent, and at the most " .. more .. " MiB resident beside them that had not been before")
      assert.matches("268435456\t0123456789abcdef\t1", output)
      assert.is_true(256 + more < 300, output)
    end
  end)
end)
