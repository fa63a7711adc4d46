-- SPDX-License-Identifier: MIT
-- Promise 19, numbers: integers and floats go both ways without silent loss, on every Lua.

local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local has_integers = math.type ~= nil

-- The text that a number is sent as, written by hand.
local SENT = {
  { 0, "0" }, { -0.0, "0", "-0" }, { 1, "1" }, { -1, "-1" }, { 9, "9" }, { 10, "10" }, { 42, "42" }, { -42, "-42" },
  { 255, "255" }, { 65536, "65536" }, { 2147483647, "2147483647" }, { -2147483648, "-2147483648" },
  { 2147483648, "2147483648" }, { 4294967295, "4294967295" }, { 4294967296, "4294967296" },
  { 1700000000123, "1700000000123" }, { 1700000000123456, "1700000000123456" }, { 99999999999999, "99999999999999" },
  { 100000000000000, "100000000000000" }, { 999999999999999, "999999999999999" },
  { 1e15, "1000000000000000" }, { 9007199254740991, "9007199254740991" }, { 9007199254740992, "9007199254740992" },
  { -9007199254740992, "-9007199254740992" }, { 1e0, "1" }, { 1e2, "100" }, { 3.0, "3" }, { -7.0, "-7" },
  { 0.1, "0.1" }, { 0.2, "0.2" }, { 0.1 + 0.2, "0.30000000000000004" }, { 0.5, "0.5" }, { 1.5, "1.5" },
  { -1.5, "-1.5" },
  { 1 / 3, "0.3333333333333333" }, { 2 / 3, "0.6666666666666666" }, { 3.14159, "3.14159" },
  { math.pi, "3.141592653589793" }, { 100.25, "100.25" }, { 123456.789, "123456.789" },
  { 1700000000.123, "1700000000.123" },
  { 0.001, "0.001" }, { 1e-7, "1e-7", "1e-07", "0.0000001" }, { 1e21, "1e21", "1e+21" }, { 1e22, "1e22", "1e+22" },
  { 1.5e300, "1.5e300", "1.5e+300" }, { -2.5e-300, "-2.5e-300" }, { 5e-324, "5e-324" }, { 4.9e-324, "5e-324" },
  { 2.2250738585072014e-308, "2.2250738585072014e-308" }, { 1.7976931348623157e308, "1.7976931348623157e308",
    "1.7976931348623157e+308" },
  { math.huge, "inf" }, { -math.huge, "-inf" }, { 9007199254740993.0, "9007199254740992" }, { 0.3, "0.3" },
  { 1e-5, "1e-5", "0.00001", "1e-05" }, { 5e-5, "5e-5", "0.00005", "5e-05" }, { 12345678.9, "12345678.9" },
  { 1e100, "1e100", "1e+100" },
  { 123456789012345680, "123456789012345680", "1.2345678901234568e17", "1.2345678901234568e+17" },
  { 2 ^ 63, "9223372036854775808", "9.223372036854776e18", "9.223372036854776e+18" },
}

describe("Promise 19, numbers:", function()
  local it_needs = fixtures.new()
  local redis

  before_each(function()
    redis = it_needs:client(server.shared().url)
  end)

  after_each(function()
    it_needs:clear()
  end)

  it("60 values by ECHO: the text expected, and one that reads back as the same number", function()
    assert.is_true(#SENT >= 60, #SENT .. " values")
    local db = redis()
    for _, case in ipairs(SENT) do
      db:echo(case[1])
    end
    for i, text in ipairs(db:replies()) do
      local number, known = SENT[i][1], false
      for j = 2, #SENT[i] do
        known = known or text == SENT[i][j]
      end
      assert(known, ("%.17g went as %s"):format(number, text))
      if number - number == 0 then assert.are.equal(number, tonumber(text)) end
    end
  end)

  it("floats at random: what is sent reads back as the same bits", function()
    local seed = os.time()
    math.randomseed(seed)
    local db, numbers = redis(), {}
    for i = 1, 2000 do
      numbers[i] = (math.random() - 0.5) * 10 ^ math.random(-300, 300)
      db:echo(numbers[i])
    end
    for i, text in ipairs(db:replies()) do
      assert(tonumber(text) == numbers[i], ("seed %d: %.17g went as %s"):format(seed, numbers[i], text))
    end
  end)

  if has_integers then
    it("64-bit integers of Lua's own, to both ends", function()
      local least, most = math.mininteger, math.maxinteger
      local beyond = 2 * 4503599627370496 + 1 -- 2^53 + 1, also where this cannot be written
      for _, n in ipairs { most, least, most - 1, least + 1, beyond - 1, beyond, -beyond, 2 * beyond } do
        assert.are.equal(("%d"):format(n), (redis():echo(n):await()))
      end
    end)
  end

  it("NaN raises at the call, and nothing is queued", function()
    local db = redis()
    assert.matches("bad argument #2 to 'SET'", check.misuse(function() db:set("k", 0 / 0) end))
    assert.are.equal(0, db:queued())
  end)

  -- An integer beyond 2^53: itself where Lua has integers, else its digits.
  local function whole(text)
    return has_integers and math.tointeger(tonumber(text)) or text
  end

  it("2^53+1, 2^63-1 and -2^63 come from the server as they are, under both protocols", function()
    check.protocols(function(protocol)
      local client = it_needs:client(server.shared().url, { protocol = protocol })
      for _, text in ipairs {
        "9007199254740993", "-9007199254740993", "9223372036854775807", "-9223372036854775808",
      } do
        local counted = client():set("spec:p19", text):incrby("spec:p19", 0):await()
        assert.are.equal(whole(text), counted)
        assert.are.equal(has_integers and "integer" or nil, has_integers and math.type(counted) or nil)
        -- inside a list, and from there to the server again
        local list = client():multi():incrby("spec:p19", 0):exec():await()
        assert.are.equal(whole(text), list[1])
        assert.are.equal(text, (client():echo(counted):await()))
      end
      for _, n in ipairs { 0, 1, -1, 9007199254740991, -9007199254740991 } do
        assert.are.equal(n, (client():set("spec:p19", n):incrby("spec:p19", 0):await()))
      end
      client():del "spec:p19":await()
    end)
  end)

  it("scores and other doubles of the server, under both protocols", function()
    check.protocols(function(protocol)
      local client = it_needs:client(server.shared().url, { protocol = protocol })
      for _, score in ipairs {
        0, 1, -1, 0.1, 0.30000000000000004, 1e300, 5e-324, -2.5, 9007199254740992, math.huge, -math.huge,
      } do
        local db = client():zadd("spec:p19:z", score, "m"):zscore("spec:p19:z", "m")
        local replies = db:replies()
        assert.are.equal(score, replies[2])
      end
      client():del("spec:p19:z"):await()
    end)
  end)

  it("numbers that a reply has no right to are refused, not rounded", function()
    for _, text in ipairs { ":9223372036854775808", ":1.5", ":1e3", ",1e400", ",1,5", ",0x10" } do
      local bytes = text .. "\r\n"
      local peer = it_needs:fake(function() return bytes end)
      local client = it_needs:client(peer.url, { retry = false })
      check.within(5, check.raises, "ProtocolError", function() client():get "k":await() end)
    end
  end)
end)
