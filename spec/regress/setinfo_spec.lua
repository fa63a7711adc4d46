-- SPDX-License-Identifier: MIT
-- A server from 7.2 on is told the name of the library, and nothing waits for the answer. For a time, a command that
-- nothing waits for was not written at all if it came first.

local redio = require "redio"
local check = require "spec.support.check"
local fake = require "spec.support.fake"

local HELLO = "%2\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:3\r\n"

describe("A server that keeps such notes", function()
  it("is told the name and version of the library", function()
    local said = {}
    local server = fake.start(function(_, words)
      said[#said + 1] = table.concat(words, " ", 1, math.min(3, #words))
      return words[1] == "HELLO" and HELLO or "+OK\r\n"
    end, { protocol = false })
    local redis = redio.Redis(server.url)
    assert.equal("OK", check.within(5, function()
      return redis():call("ANY"):await()
    end))
    assert.same({ "HELLO 3", "CLIENT SETINFO LIB-NAME", "CLIENT SETINFO LIB-VER", "ANY" }, said)
    redis:close()
    server:stop()
  end)
end)
