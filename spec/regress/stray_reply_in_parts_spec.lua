-- SPDX-License-Identifier: MIT
-- A reply that nothing had asked for was noticed when it was whole before the next chain was written. When only its
-- beginning had come, its end made it the reply of that chain, and each chain after it got the reply of the one before.

local redio = require "redio"
local check = require "spec.support.check"
local fake = require "spec.support.fake"

describe("A reply too many that comes in parts", function()
  for _, stray in ipairs { "+more\r\n", "$4\r\nmore\r\n", "*2\r\n:1\r\n:2\r\n", "-ERR more\r\n" } do
    it("ends the connection, and is given to no caller: " .. stray:gsub("\r\n", " "), function()
      for cut = 1, #stray - 1 do
        local rest
        local server = fake.start(function(conn, words)
          local answer = (rest or "") .. ("$%d\r\n%s\r\n"):format(#words[2], words[2])
          rest = nil
          if words[2] == "first" then
            answer, rest = answer .. stray:sub(1, cut), stray:sub(cut + 1)
          end
          conn:write(answer)
        end)
        local redis = redio.Redis(server.url, { retry = false })
        check.within(5, function()
          assert.equal("first", redis():get("first"):await())
          local ok, err = pcall(function() return redis():get("second"):await() end)
          assert.is_false(ok)
          assert.is_true(redio.errors.is(err, "ProtocolError") or redio.errors.is(err, "ReplyError"), tostring(err))
          assert.equal("third", redis():get("third"):await())
        end)
        assert.equal(2, server.accepted)
        redis:close()
        server:stop()
      end
    end)
  end

  it("is passed over when it is a push", function()
    local push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    for cut = 1, #push - 1 do
      local rest
      local server = fake.start(function(conn, words)
        local answer = (rest or "") .. ("$%d\r\n%s\r\n"):format(#words[2], words[2])
        rest = nil
        if words[2] == "first" then
          answer, rest = answer .. push:sub(1, cut), push:sub(cut + 1)
        end
        conn:write(answer)
      end)
      local redis = redio.Redis(server.url)
      check.within(5, function()
        assert.equal("first", redis():get("first"):await())
        assert.equal("second", redis():get("second"):await())
        assert.equal("third", redis():get("third"):await())
      end)
      assert.equal(1, server.accepted)
      redis:close()
      server:stop()
    end
  end)
end)
