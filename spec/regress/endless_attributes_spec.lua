-- SPDX-License-Identifier: MIT
-- Attributes without a value were not bounded: 128 MiB of `|0\r\n` were taken, and a reply never began.

local core = require "redio.core"

local WHY = "protocol error: too many attributes before a value"

local function outcome(bytes, limits)
  local decoder = core.decoder(limits or { max_elements = 4 })
  decoder:feed(bytes)
  local ok, value = decoder:next()
  return ok, value, decoder
end

describe("attributes before a value", function()
  it("are as many as elements of an aggregate may be, and no more", function()
    for _, attribute in ipairs { "|0\r\n", "|1\r\n+a\r\n+b\r\n", "|1\r\n+a\r\n|1\r\n+b\r\n*2\r\n:1\r\n:2\r\n*0\r\n" } do
      local ok, value = outcome(attribute:rep(4) .. "+OK\r\n")
      assert.is_true(ok)
      assert.are.equal("OK", value)
      assert.is_false((outcome(attribute:rep(4))))
      local decoder
      ok, value, decoder = outcome(attribute:rep(5))
      assert.is_nil(ok)
      assert.are.equal(WHY, value)
      decoder:feed "+OK\r\n"
      assert.are.same({ nil, WHY }, { decoder:next() })
    end
    assert.are.equal(WHY, select(2, outcome "|3\r\n+a\r\n:1\r\n+b\r\n:2\r\n+c\r\n:3\r\n|2\r\n"))
  end)

  it("are counted for each value anew, wherever they stand", function()
    local empty = ("|0\r\n"):rep(4)
    local bytes = empty .. "*2\r\n" .. empty .. ":1\r\n" .. empty .. "%1\r\n" .. empty .. "+a\r\n" .. empty .. ":2\r\n"
    local ok, value, decoder = outcome(bytes .. empty .. ":3\r\n")
    assert.is_true(ok)
    assert.are.same({ 1, { a = 2 } }, value)
    assert.are.equal(3, select(2, decoder:next()))
    assert.are.equal(WHY, select(2, outcome("*1\r\n|1\r\n+a\r\n" .. empty .. "|0\r\n")))
  end)

  it("end the decoder at the same byte in every split", function()
    local bytes = ("|1\r\n+a\r\n:1\r\n"):rep(4) .. "|0\r\n"
    local decoder = core.decoder { max_elements = 4 }
    for at = 1, #bytes do
      assert.are.same({ false }, { decoder:next() })
      decoder:feed(bytes:sub(at, at))
    end
    assert.are.same({ nil, WHY }, { decoder:next() })
  end)

  it("are bounded by default", function()
    local decoder = core.decoder()
    local piece, why = ("|0\r\n"):rep(2 ^ 18), nil
    for _ = 1, 2 ^ 6 + 1 do
      decoder:feed(piece)
      why = select(2, decoder:next())
    end
    assert.are.equal(WHY, why)
  end)
end)
