-- SPDX-License-Identifier: MIT
-- A line of more than 64 KiB was a protocol error, although servers send such lines. A script's error ended the shared
-- connection, and a monitor died of any command of that size anywhere on the server.

local redio = require "redio"
local core = require "redio.core"
local check = require "spec.support.check"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local KIB = 1024
local LONG = 70000

describe("a line of more than 64 KiB", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  for _, protocol in ipairs { 2, 3 } do
    it("as an error is the caller's, and no other's: RESP" .. protocol, function()
      local redis = it_needs:client(server.shared().url, { protocol = protocol })
      local script = ("return redis.error_reply('BAD ' .. string.rep('x', %d))"):format(LONG)
      check.within(20, function()
        redis():set("spec:lines", 1):await()
        local others = {}
        for i = 1, 10 do
          others[i] = redio.spawn(function()
            return select(2, pcall(function()
              return redis():incr("spec:lines"):await()
            end))
          end)
        end
        local err = check.raises("ReplyError", function()
          redis():eval(script, 0):await()
        end)
        assert.are.equal("BAD", err.code)
        assert.are.equal(LONG, #err.message)
        assert.matches("^ReplyError: BAD x+%.%.%. %(70004 bytes%)", tostring(err))
        assert.is_true(#tostring(err) < 1200)
        for i = 1, 10 do
          assert.are.equal(i + 1, (others[i]:await()))
        end
        assert.are.equal(0, redis:stats().reconnects)
        redis():delete("spec:lines"):await()
      end)
    end)
  end

  it("as a status is a string", function()
    local redis = it_needs:client(server.shared().url)
    local text = check.within(20, function()
      return redis():eval(("return redis.status_reply(string.rep('x', %d))"):format(LONG), 0):await()
    end)
    assert.are.equal(("x"):rep(LONG), text)
  end)

  it("is what a monitor shows of a large command", function()
    local own = it_needs:server()
    local redis = it_needs:client(own.url)
    local value = ("x"):rep(300 * KIB)
    check.within(20, function()
      local monitor = redis:monitor():connect()
      redis():set("large", value):set("small", "1"):await()
      local lines = {}
      repeat
        lines[#lines + 1] = monitor().command
      until lines[#lines]:find '"small"'
      assert.are.equal(('"SET" "large" "%s"'):format(value), lines[#lines - 1])
      monitor:close()
    end)
  end)

  it("is as long as max_line says, or else max_bulk", function()
    local function outcome(limits, bytes)
      local decoder = core.decoder(limits)
      decoder:feed(bytes)
      local ok, value = decoder:next()
      return ok and #value or value
    end
    local TOO_LONG = "protocol error: a line is too long"
    assert.are.equal(64, outcome({ max_line = 64 }, "+" .. ("x"):rep(64) .. "\r\n"))
    assert.are.equal(TOO_LONG, outcome({ max_line = 64 }, "+" .. ("x"):rep(65)))
    assert.are.equal(LONG, outcome({ max_bulk = LONG }, "+" .. ("x"):rep(LONG) .. "\r\n"))
    assert.are.equal(TOO_LONG, outcome({ max_bulk = LONG }, "+" .. ("x"):rep(LONG + 1)))
    assert.are.equal(LONG, outcome({ max_bulk = 8, max_line = LONG }, "+" .. ("x"):rep(LONG) .. "\r\n"))
  end)

  it("is refused where it is to be a number", function()
    for _, bytes in ipairs { "(1" .. ("0"):rep(64 * KIB), ",0." .. ("1"):rep(64 * KIB) } do
      local decoder = core.decoder()
      decoder:feed(bytes)
      assert.are.same({ nil, "protocol error: a line is too long" }, { decoder:next() })
    end
  end)
end)
