-- SPDX-License-Identifier: MIT
-- A client that was closed while its shared connection was still being made took new work again as soon as that was
-- ready, until the drain was over.

local check = require "spec.support.check"
local fake = require "spec.support.fake"
local redio = require "redio"

describe("A client that is closed while it connects", function()
  it("takes no new work, and what was queued before may be answered", function()
    local hello
    local peer = fake.start(function(connection, words)
      if words[1] == "HELLO" then hello = connection end
    end, { protocol = false })
    redio.run(function()
      local redis = redio.Redis(peer.url)
      local first = redio.spawn(function()
        return redis():echo("a"):await()
      end)
      check.eventually(function()
        return hello
      end)
      local closing = redio.spawn(function()
        redis:close { drain = 1 }
      end)
      redio.sleep(0)
      hello:write "%1\r\n$5\r\nproto\r\n:3\r\n"
      redio.sleep(0.05)
      for _ = 1, 3 do
        local err = check.raises("PoolClosedError", function()
          redis():echo("b"):await()
        end)
        assert.are.equal("no", err.sent)
        redio.sleep(0.01)
      end
      hello:write "$1\r\na\r\n"
      assert.are.equal("a", first:await())
      closing:await()
      for _, words in ipairs(peer.requests) do
        assert.are_not.equal("b", words[2])
      end
      assert.are.same({ 0, 0 }, { redis:stats().connections, redis:stats().in_flight })
    end)
    peer:stop()
  end)
end)
