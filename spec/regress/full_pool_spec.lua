-- SPDX-License-Identifier: MIT
-- A handle that was dropped with state kept its place in the pool until it was collected, and nothing collects while
-- all wait for a place. And a caller that needed a new connection could open one more than there may be.

local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

describe("a full pool", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Fifty coroutines that do `work` again and again for so many seconds: how often it was done, and its errors.
  local function fifty(seconds, work)
    local over, done, failed, tasks = false, 0, 0, {}
    for i = 1, 50 do
      tasks[i] = redio.spawn(function()
        while not over do
          local ok = pcall(work, i)
          if ok then done = done + 1 else failed = failed + 1 end
        end
      end)
    end
    redio.sleep(seconds)
    over = true
    for i = 1, 50 do
      tasks[i]:await()
    end
    return done, failed
  end

  -- Calls `fn`, and counts the full collections meanwhile.
  local function collections(fn)
    local count, collect = 0, collectgarbage
    rawset(_G, "collectgarbage", function(what, ...)
      if what == nil or what == "collect" then count = count + 1 end
      return collect(what or "collect", ...)
    end)
    local ok, err = pcall(fn)
    rawset(_G, "collectgarbage", collect)
    if not ok then error(err, 0) end
    return count
  end

  it("has room again when handles were dropped with state", function()
    local redis = it_needs:client(shared.url, { max_connections = 16, pool_timeout = 5 })
    check.within(20, function()
      collectgarbage "stop" -- nothing else does
      local ok, done, failed = pcall(fifty, 2, function() redis():client_setname "x":get "x":await() end)
      collectgarbage "restart"
      assert.is_true(ok, done)
      assert.are.equal(0, failed)
      assert.is_true(done > 100)
    end)
  end)

  it("gives what was dropped to one that waits already", function()
    local redis = it_needs:client(shared.url, { max_connections = 1, pool_timeout = 5 })
    check.within(20, function()
      collectgarbage "stop"
      local kept = { redis() }
      kept[1]:client_setname "x":await()
      local waiting = redio.spawn(redis.with_connection, redis, function(db) return (db:echo "mine":await()) end)
      redio.sleep(0.05)
      assert.are.equal("waiting", waiting:status())
      kept[1] = nil
      local ok, said = pcall(redio.with_timeout, 4, waiting.await, waiting)
      collectgarbage "restart"
      assert.is_true(ok, tostring(said))
      assert.are.equal("mine", said)
    end)
  end)

  it("does not collect for each that waits", function()
    local redis = it_needs:client(shared.url, { max_connections = 8 })
    check.within(20, function()
      local done, failed
      local count = collections(function()
        done, failed = fifty(1, function(i)
          redis:with_connection(function(db)
            db:get(i):await()
            redio.sleep(0.001)
            db:get(i):await()
          end)
        end)
      end)
      assert.are.equal(0, failed)
      assert.is_true(done > 100)
      assert.is_true(count < 100 and count < done / 2, ("%d collections for %d"):format(count, done))
    end)
  end)

  it("does not collect at all when each of its connections has a reply to come", function()
    local redis = it_needs:client(shared.url, { max_connections = 2 })
    check.within(20, function()
      assert.are.equal(0, collections(function()
        fifty(0.2, function() redis():blpop("spec:full", 0.01):await() end)
      end))
    end)
  end)

  it("has no more than it may have, although some need new ones", function()
    local redis = it_needs:client(shared.url, { max_connections = 2, pool_timeout = 5 })
    local pool, most = redis.topology:pick().pool, 0
    check.within(20, function()
      local function use(extra)
        local conn = assert(pool:acquire(extra))
        most = math.max(most, pool.size)
        redio.sleep(0.001)
        pool:release(conn, true)
      end
      local tasks = {}
      for i = 1, 40 do
        tasks[i] = redio.spawn(use, i % 3 == 0 and {} or nil)
      end
      for i = 1, 40 do
        tasks[i]:await()
      end
      assert.are.equal(2, most)
      assert.is_true(pool.size <= 2)
    end)
  end)
end)
