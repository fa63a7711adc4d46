-- SPDX-License-Identifier: MIT
-- CLIENT REPLY OFF or SKIP that the user has no right to is answered by an error where no answer was due. Over a slow
-- network the next command got it, and so on.

local check = require "spec.support.check"
local proxy = require "spec.support.proxy"
local redio = require "redio"
local server = require "spec.support.server"

describe("CLIENT REPLY that the server refuses", function()
  local guarded

  setup(function()
    guarded = server.start { "user default on nopass ~* &* +@all -client|reply" }
  end)

  teardown(function()
    guarded:stop()
  end)

  for _, word in ipairs { "OFF", "SKIP", "off" } do
    it("is told to its caller, and nothing else is sent: " .. word, function()
      local slow = proxy.start(guarded)
      slow.down.delay = 0.02
      check.protocols(function(protocol)
        redio.run(function()
          local redis = redio.Redis(slow.url, { protocol = protocol, timeout = 2 })
          redis():del("n"):await()
          local db = redis:connection()
          local err = check.raises("NoPermissionError", function()
            db:client_reply(word):incr("n"):client_reply("ON"):echo("a"):await()
          end)
          assert.are.equal("CLIENT REPLY", err.command)
          check.raises("ConnectionError", function()
            db:echo("b"):await()
          end)
          for i = 1, 5 do
            local chain = redis()
            check.raises("NoPermissionError", function()
              chain:client_reply(word):incr("n"):await()
            end)
            assert.are.equal("c" .. i, chain:echo("c" .. i):await())
          end
          assert.is_nil(redis():get("n"):await())
          redis:close()
        end)
      end)
      slow:stop()
    end)
  end
end)
