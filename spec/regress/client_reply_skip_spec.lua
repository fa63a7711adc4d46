-- SPDX-License-Identifier: MIT
-- CLIENT REPLY SKIP swallows the reply of the next command, also that of a CLIENT REPLY which the server does not
-- understand. The client waited for that error, and every reply after it went to the command before its own.

local check = require "spec.support.check"
local redio = require "redio"
local server = require "spec.support.server"

describe("CLIENT REPLY SKIP", function()
  it("holds for one command, whatever that is", function()
    check.protocols(function(protocol)
      redio.run(function()
        local redis = redio.Redis(server.shared().url, { protocol = protocol, timeout = 1 })
        redis:with_connection(function(db)
          db:client_reply("SKIP"):client_reply("never"):echo("a"):echo("b")
          assert.same({ "a", "b" }, db:replies())
          db:client_reply("SKIP"):client_reply("ON", "too many"):echo("c")
          assert.same({ "c" }, db:replies())
          db:client_reply("SKIP"):echo("unheard"):echo("d")
          assert.same({ "d" }, db:replies())
        end)
        redis:close()
      end)
    end)
  end)
end)
