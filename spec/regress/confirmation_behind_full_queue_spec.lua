-- SPDX-License-Identifier: MIT
-- connect() hung for ever on a receiver with a full queue: the server's confirmation lay behind messages that were not
-- read.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local KIB = 1024

describe("a receiver with a full queue", function()
  local it_needs = fixtures.new()
  local one

  setup(function()
    one = server.start { "client-output-buffer-limit pubsub 0 0 0" }
  end)

  teardown(function()
    one:stop()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- A receiver of "a", and `count` messages for it that are not taken, more than the network holds.
  local function full(protocol, options, count, size)
    options.protocol = protocol
    local redis, publisher = it_needs:client(one.url, options), it_needs:client(one.url)
    local receiver = redis:pubsub("a"):with_channel():connect()
    local padding = ("."):rep(size)
    for first = 1, count, 100 do
      local db = publisher()
      for i = first, math.min(count, first + 99) do
        db:publish("a", i .. padding)
      end
      db:replies()
    end
    redio.sleep(0.05)
    assert.is_true(receiver._feed.paused)
    return receiver, publisher
  end

  local function take(receiver, count)
    for i = 1, count do
      local channel, message = receiver:await()
      assert(channel == "a" and tonumber(message:match "^%d+") == i, i)
    end
  end

  for _, protocol in ipairs { 2, 3 } do
    it(("gets its confirmations all the same, and loses nothing (RESP%d)"):format(protocol), function()
      check.within(20, function()
        local receiver, publisher = full(protocol, { queue_limit = 10 }, 2000, 8 * KIB)
        receiver:subscribe("b"):connect()
        assert.is_true(receiver.pubsub_channels.b)
        assert.is_true(receiver._feed.paused) -- again
        assert.are.equal(1, (publisher():publish("b", "x"):await()))
        receiver:unsubscribe("b"):connect()
        assert.are.equal(0, (publisher():publish("b", "x"):await()))
        receiver:psubscribe("p*"):ssubscribe("s"):connect()
        take(receiver, 2000)
        assert.are.same({ "b", "x" }, { receiver:await() })
        receiver:close()
      end)
    end)

    it(("says so when they lie behind more than may wait, and goes on (RESP%d)"):format(protocol), function()
      check.within(20, function()
        local receiver = full(protocol, { queue_limit = 10, max_queued_bytes = 256 * KIB }, 2000, 8 * KIB)
        receiver:subscribe "b"
        local err = check.raises("OverflowError", receiver.connect, receiver)
        assert.matches("max_queued_bytes = 262144", err.message)
        check.raises("OverflowError", receiver.connect, receiver)
        assert.is_true(receiver._feed.held_bytes < 512 * KIB)
        take(receiver, 1999)
        assert.are.equal(receiver, receiver:connect())
        assert.is_true(receiver.pubsub_channels.b)
        assert.matches("^2000", select(2, receiver:await()))
        receiver:close()
      end)
    end)
  end

  it("with a coroutine that takes while another waits for the confirmation", function()
    check.within(20, function()
      local receiver = full(3, { queue_limit = 10 }, 2000, 8 * KIB)
      local taking = redio.spawn(function()
        for _ = 1, 2000 do
          receiver:await()
          redio.sleep(0)
        end
      end)
      receiver:subscribe("b"):connect()
      taking:await()
      receiver:close()
    end)
  end)
end)
