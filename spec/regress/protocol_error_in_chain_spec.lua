-- SPDX-License-Identifier: MIT
-- The stream died between two replies of one chain. The waiter was resumed with the text as a foreign value, and once
-- more when the connection was given up.

local redio = require "redio"
local check = require "spec.support.check"
local fake = require "spec.support.fake"

describe("a protocol error in the middle of a chain", function()
  it("ends the chain once, as what it is", function()
    local peer = fake.start(function(_, words)
      return words[2] == "2" and ":1\r\n@\r\n" or nil
    end)
    redio.run(function()
      local redis = redio.Redis(peer.url, { retry = false })
      local ends = {}
      coroutine.wrap(function()
        ends[1] = check.raises("ProtocolError", function()
          redis():echo(1):echo(2):await()
        end)
        ends[2] = coroutine.yield() or true
      end)()
      assert.is_truthy(check.eventually(function()
        return ends[1]
      end))
      redio.sleep(0.05)
      assert.is_nil(ends[2])
      redis:close()
    end)
    peer:stop()
  end)
end)
