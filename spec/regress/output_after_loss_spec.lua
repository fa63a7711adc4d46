-- SPDX-License-Identifier: MIT
-- A connection was lost between a submit and the write, its chain was given up, and the write was still to come: the
-- core handed out as many bytes as the chain had had, from before its buffer. Found by AddressSanitizer.

local core = require "redio.core"

describe("A connection that was lost with a chain unsent", function()
  local ECHO = core.command { name = "ECHO" }

  for _, text in ipairs { "short", ("x"):rep(20000) } do -- the long one is no part of the buffer
    it(("has no output (%d bytes)"):format(#text), function()
      local connection, waiters = core.connection(), {}
      connection:event "connect"
      connection:event "connected"
      connection:event "established"
      local token
      local waiter = coroutine.create(function()
        local pipeline = core.pipeline()
        core.encode(pipeline, ECHO, text)
        assert(connection:submit(pipeline, waiters, core.OWN))
        token = coroutine.yield()
      end)
      assert(coroutine.resume(waiter))
      connection:event "lose"
      assert.is_nil((connection:output()))
      assert.are.equal(waiter, (connection:next(waiters)))
      assert.is_nil((connection:output()))
      assert.are.same({ 0, 0 }, { connection:waiting() })
      assert.is_nil(token)
    end)
  end
end)
