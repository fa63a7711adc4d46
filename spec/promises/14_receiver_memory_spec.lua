-- SPDX-License-Identifier: MIT
-- Promise 14, receiver memory: messages wait in a bounded queue. While it is full the socket is not read, so that more
-- messages wait in the server, which has limits of its own for that.

local redio = require "redio"
local check = require "spec.support.check"
local process = require "spec.support.process"
local fixtures = require "spec.support.fixtures"

local MIB = 1024 * 1024
local LIMIT, SIZE, COUNT = 100, 16 * 1024, 5000 -- 80 MiB in all

describe("Promise 14, receiver memory:", function()
  local it_needs = fixtures.new()
  local one

  setup(function()
    -- no limit to what the server keeps for a subscriber: the test wants it all there
    one = require "spec.support.server".start { "client-output-buffer-limit pubsub 0 0 0" }
  end)

  teardown(function()
    one:stop()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Publishes all messages at once, while none is taken. Returns the memory that they took in this process.
  local function grown_by_publishing(channel, publisher)
    local padding = ("."):rep(SIZE)
    local function publish(from, to)
      for i = from, to do
        publisher():publish(channel, i .. padding):await()
        if i % 100 == 0 then collectgarbage() end -- or what is measured is the garbage of this loop
      end
    end
    publish(1, 200)
    redio.sleep(0.05)
    process.collect()
    local before = process.status "VmRSS"
    publish(201, COUNT)
    redio.sleep(0.1)
    process.collect()
    return process.status "VmRSS" - before
  end

  local ways = {
    { "a receiver", function(receiver) return function() return receiver:await() end end },
    { "a view of one channel", function(receiver)
      local view = receiver:channel "spec:p14"
      return function() return (view:get()) end
    end },
  }
  for _, way in ipairs(ways) do
    it(way[1] .. " with a fast publisher and a stopped consumer: bounded, nothing lost, in order", function()
      local redis = it_needs:client(one.url, { queue_limit = LIMIT })
      local publisher = it_needs:client(one.url)
      check.within(20, function()
        local receiver = redis:pubsub "spec:p14":connect()
        local take = way[2](receiver)
        local grown = grown_by_publishing("spec:p14", publisher)
        print(("\n%s: %.0f MiB published, queue of %d: %.1f MiB more resident; the server holds the rest")
          :format(way[1], COUNT * SIZE / MIB, LIMIT, grown / MIB))
        assert.is_true(grown < 8 * MIB, ("%.1f MiB more"):format(grown / MIB))
        -- messages beyond the limit came in one read
        assert.is_true(receiver._feed.held <= LIMIT + 64 * 1024 / SIZE, receiver._feed.held .. " held")
        for i = 1, COUNT do
          local message = take()
          assert(tonumber(message:match "^%d+") == i, i)
        end
        receiver:close()
      end)
    end)
  end

  it("large messages: what waits is bounded in bytes as well", function()
    local redis = it_needs:client(one.url, { max_queued_bytes = 4 * MIB })
    local publisher = it_needs:client(one.url)
    check.within(30, function()
      local receiver = redis:pubsub("spec:p14", "spec:p14:other"):connect()
      local view = receiver:channel "spec:p14:other"
      process.collect()
      local before, count, value = process.status "VmRSS", 100, ("v"):rep(MIB)
      for i = 1, count do
        publisher():publish(i % 2 == 0 and "spec:p14" or "spec:p14:other", i .. value):await()
        if i % 10 == 0 then collectgarbage() end
      end
      redio.sleep(0.1)
      process.collect()
      local grown = process.status "VmRSS" - before
      assert.is_true(grown < 24 * MIB, ("%.1f MiB more"):format(grown / MIB))
      assert.is_true(receiver._feed.held_bytes < 6 * MIB)
      for i = 1, count do
        local message = i % 2 == 0 and receiver:await() or view:get()
        assert(tonumber(message:match "^%d+") == i, i)
      end
      receiver:close()
    end)
  end)

  it("a full receiver can be closed, and told of a loss", function()
    local redis = it_needs:client(one.url, { queue_limit = LIMIT })
    local publisher = it_needs:client(one.url)
    check.within(20, function()
      for _ = 1, 2 do
        local receiver = redis:pubsub "spec:p14":connect()
        for i = 1, 3 * LIMIT do
          publisher():publish("spec:p14", i .. (" "):rep(1024)):await()
        end
        receiver:close()
        assert.is_nil(receiver:await())
        assert.are.equal(0, redis:stats().connections)
      end
      local receiver = redis:pubsub "spec:p14":connect()
      for i = 1, 3 * LIMIT do
        publisher():publish("spec:p14", i .. (" "):rep(1024)):await()
      end
      publisher():client_kill("TYPE", "pubsub"):await()
      local taken = 0
      local err = check.raises("ConnectionClosedError", function()
        repeat
          receiver:await()
          taken = taken + 1
        until false
      end)
      assert.is_true(taken >= LIMIT, taken .. " messages, then: " .. tostring(err))
      receiver:close()
    end)
  end)

  it("a monitor with a stopped consumer: bounded, nothing lost", function()
    local redis = it_needs:client(one.url, { queue_limit = LIMIT })
    local worker = it_needs:client(one.url)
    check.within(20, function()
      local monitor = redis:monitor():connect()
      process.collect()
      local before = process.status "VmRSS"
      local value = ("v"):rep(SIZE)
      for i = 1, 2000 do
        worker():set("spec:p14:" .. i, value):await()
      end
      redio.sleep(0.1)
      process.collect()
      local grown = process.status "VmRSS" - before
      assert.is_true(grown < 8 * MIB, ("%.1f MiB more"):format(grown / MIB))
      local seen = 0
      while seen < 2000 do
        local key = monitor:await().command:match '^"SET" "spec:p14:(%d+)"' or false
        if key then
          seen = seen + 1
          assert.are.equal(seen, tonumber(key))
        end
      end
      monitor:close()
    end)
  end)
end)
