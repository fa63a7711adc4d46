-- SPDX-License-Identifier: MIT
-- Of a push with more than 200 elements those behind the 200th were dropped without a word.

local redio = require "redio"
local core = require "redio.core"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local MOST = jit and 7000 or 200000

local function connection(receiver)
  local c = core.connection(receiver)
  for _, event in ipairs { "connect", "connected", "established" } do
    c:event(event)
  end
  return c
end

local function push(count, type)
  return (type or ">") .. count .. "\r\n$5\r\nshout\r\n" .. ("$2\r\nhi\r\n"):rep(count - 1)
end

local function told(count, type)
  local c = connection(type == "*")
  c:feed(push(count, type) .. ">1\r\n+after\r\n")
  return { n = 0, c:next {} }, c
end

describe("a push", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  for _, type in ipairs { ">", "*" } do
    it("is told whole, as " .. type, function()
      for _, count in ipairs { 1, 199, 200, 201, 5000, MOST } do
        local got, c = told(count, type)
        assert.are.equal(count + 2, #got)
        assert.is_false(got[1])
        assert.is_true(got[2])
        assert.are.equal("shout", got[3])
        assert.are.equal(count > 1 and "hi" or "shout", got[count + 2])
        assert.are.same({ false, true, "after" }, { c:next {} })
      end
    end)

    it("of more than may be returned is an error that says so, as " .. type, function()
      local got, c = told(MOST + 1, type)
      local why = ("protocol error: a push of more than %d elements"):format(MOST)
      assert.are.same({ n = 0, nil, why }, got)
      assert.are.same({ nil, why }, { c:next {} })
    end)
  end

  it("may hold a long list", function()
    local c = connection()
    c:feed(">2\r\n+invalidate\r\n*100000\r\n" .. ("$2\r\nhi\r\n"):rep(100000))
    local got = { c:next {} }
    assert.are.equal(4, #got)
    assert.are.equal(100000, #got[4])
  end)

  it("that is too long ends the connection with the reason, and the next one lives", function()
    local count = 0
    local peer = it_needs:fake(function()
      count = count + 1
      return count == 1 and push(MOST + 1) or "+after\r\n"
    end)
    check.within(20, function()
      local redis = it_needs:client(peer.url, { retry = false })
      local err = check.raises("ProtocolError", function()
        redis():call("CASE"):await()
      end)
      assert.matches("push of more than " .. MOST .. " elements", tostring(err))
      assert.are.equal("after", (redis():call("CASE"):await()))
    end)
  end)

  it("of some thousands reaches a receiver's connection without harm", function()
    local peer = it_needs:fake(function(fake_connection, words)
      if words[1] == "SUBSCRIBE" then
        fake_connection:write(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" .. push(MOST)
          .. ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n")
      end
    end)
    check.within(20, function()
      local redis = it_needs:client(peer.url, { retry = false })
      local receiver = redis:pubsub("a")
      assert.are.equal("hello", receiver:await())
      receiver:close()
    end)
  end)
end)

describe("thousands of replies of other kinds", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  it("are errors in one list, and errors in lists of lists", function()
    local bytes
    local peer = it_needs:fake(function()
      return bytes
    end)
    check.within(20, function()
      local redis = it_needs:client(peer.url, { retry = false })
      bytes = "*10000\r\n" .. ("-ERR no\r\n"):rep(10000)
      local list = redis():call("CASE"):replies()[1]
      assert.are.equal(10000, #list)
      assert.is_true(redio.errors.is(list[10000], "ReplyError"))
      bytes = "*10000\r\n" .. ("*1\r\n-ERR no\r\n"):rep(10000)
      local err = check.raises("ReplyError", function()
        redis():call("CASE"):await()
      end)
      assert.are.equal(10000, #err.replies[1])
      bytes = "%10000\r\n" .. ("*0\r\n-ERR no\r\n"):rep(10000)
      assert.are.equal(10000, #redis():call("CASE"):replies()[1])
      bytes = "%1\r\n+a\r\n%10000\r\n" .. ("*0\r\n*1\r\n:1\r\n"):rep(10000)
      assert.are.equal(10000, #redis():call("CASE"):replies()[1].a)
    end)
  end)
end)
