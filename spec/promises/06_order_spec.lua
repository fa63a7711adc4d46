-- SPDX-License-Identifier: MIT
-- Promise 6, order: first in, first out; a chain is contiguous; nothing is reordered over a reconnect. 100 producers
-- append to one log through 200 resets, each with several chains on their way at a time.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"

local LOG = "spec:promise6:log"
local PRODUCERS, RESETS = 100, 200
local PARTS = 3 -- commands in a chain
local AHEAD = 3 -- chains of a producer that are on their way

describe("Promise 6: order.", function()
  local log, proxy, random, failed

  -- Chains in the order of their numbers, each awaited by a task of its own.
  local function produce(redis, producer, over)
    local number, tasks = 0, {}
    while not over() do
      for i = 1, AHEAD do
        number = number + 1
        local chain = ("%d:%d"):format(producer, number)
        tasks[i] = redio.spawn(function()
          local db = redis()
          for part = 1, PARTS do
            db:rpush(LOG, chain .. ":" .. part)
          end
          local ok, err = pcall(db.await, db)
          failed = failed + (ok and 0 or 1)
          assert(ok or redio.errors.is(err, "ConnectionError"), tostring(err))
        end)
      end
      for i = 1, AHEAD do
        tasks[i]:await()
      end
    end
  end

  local function reset()
    for _ = 1, RESETS do
      redio.sleep(0.003 + random() * 0.012)
      proxy.up.chunk = random() < 0.3 and 1 + random(200) or nil
      proxy:cut(random { "fin", "rst" })
    end
    proxy.up.chunk = nil
  end

  setup(function()
    random, failed = randoms.new "promise 6", 0
    local shared = server.shared()
    local observer = redio.Redis(shared.url)
    observer():del(LOG):await()
    proxy = proxies.start(shared)
    local redis = redio.Redis(proxy.url, { retry = { max = 20, base = 0.001, cap = 0.004 } })
    check.within(30, function()
      local over = false
      local producers = {}
      for producer = 1, PRODUCERS do
        producers[producer] = redio.spawn(produce, redis, producer, function() return over end)
      end
      reset()
      over = true
      for producer = 1, PRODUCERS do
        producers[producer]:await()
      end
      log = observer():lrange(LOG, 0, -1):await()
      observer():del(LOG):await()
    end)
    print(("%d entries over %d connections, %d chains failed"):format(#log, proxy.accepted, failed))
    redis:close()
    observer:close()
    proxy:stop()
  end)

  it("Through 200 resets there is work done, and there are chains that a reset ended", function()
    assert.is_true(#log > 10 * PRODUCERS)
    assert.is_true(failed > RESETS)
  end)

  it("each producer's sequence is monotone", function()
    local last = {}
    for _, entry in ipairs(log) do
      local producer, number, part = entry:match "^(%d+):(%d+):(%d+)$"
      local at = number * PARTS + part
      assert(at > (last[producer] or 0), entry .. " came late, or twice")
      last[producer] = at
    end
  end)

  it("and each chain is contiguous, up to where a reset cut it", function()
    for i, entry in ipairs(log) do
      local chain, part = entry:match "^(.*):(%d+)$"
      if tonumber(part) > 1 then
        assert(log[i - 1] == chain .. ":" .. tonumber(part) - 1, entry .. " follows " .. tostring(log[i - 1]))
      end
    end
  end)

  it("A chain that waits for room in a full write queue goes on before those that came later", function()
    local peer = proxies.start(server.shared())
    local redis = redio.Redis(peer.url, { max_queued_bytes = 4096 })
    local key, tasks = LOG .. ":full", {}
    check.within(10, function()
      redis():del(key):await()
      for i = 1, 200 do
        tasks[i] = redio.spawn(function()
          redis():rpush(key, ("%d:%s"):format(i, ("x"):rep(1000))):await()
        end)
      end
      for i = 1, 200 do
        tasks[i]:await()
      end
      for i, entry in ipairs(redis():lrange(key, 0, -1):del(key):await()) do
        assert(tonumber(entry:match "^%d+") == i, "entry " .. i .. " is " .. entry:sub(1, 10))
      end
    end)
    redis:close()
    peer:stop()
  end)
end)
