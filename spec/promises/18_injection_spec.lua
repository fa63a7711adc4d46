-- SPDX-License-Identifier: MIT
-- Promise 18, injection: arguments are bytes behind their length and are never parsed again, and a URL is decoded once.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local ALL = {}
for byte = 0, 255 do
  ALL[#ALL + 1] = string.char(byte)
end
ALL = table.concat(ALL)

-- Arguments that would mean something else if they were parsed again.
local RESP_LIKE = {
  "", "\r", "\n", "\r\n", "\0", "\r\n\r\n", "+OK\r\n", "-ERR no\r\n", "$3\r\nfoo\r\n", "$-1\r\n", "*-1\r\n", ":1\r\n",
  "x\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "\r\n*1\r\n$8\r\nFLUSHALL\r\n", "x\r\n$8\r\nFLUSHALL",
  "FLUSHALL", " FLUSHALL", "k v\nFLUSHALL", '"; FLUSHALL; "', "${x}", "%s%n", "%d %x", "\\r\\n", "\\0", "'", '"', "`",
  "\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "\xf0\x9f\x92\xa9", ("\r\n"):rep(1000), ALL, ALL:rep(300), ALL:reverse(),
}

describe("Promise 18, injection:", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  it("each of 256 bytes, alone and within others, and what looks like RESP comes back by ECHO", function()
    check.protocols(function(protocol)
      local redis = it_needs:client(shared.url, { protocol = protocol })
      local db, sent = redis(), {}
      local function echo(bytes)
        db:echo(bytes)
        sent[#sent + 1] = bytes
      end
      for byte = 0, 255 do
        local char = string.char(byte)
        echo(char)
        echo("a" .. char .. "\r" .. char .. "\n" .. char)
      end
      for _, bytes in ipairs(RESP_LIKE) do
        echo(bytes)
      end
      local got = db:replies()
      assert.are.equal(#sent, #got)
      for i = 1, #sent do
        assert(sent[i] == got[i], ("%q came back as %q"):format(sent[i]:sub(1, 40), tostring(got[i]):sub(1, 40)))
      end
    end)
  end)

  it("they are keys, fields, members, patterns, channels and scripts' arguments as well", function()
    local redis = it_needs:client(shared.url)
    for _, bytes in ipairs(RESP_LIKE) do
      local key = "spec:p18:" .. bytes
      local got, all, script = redis():set(key, bytes):get(key):hset(key .. "h", { [bytes] = bytes })
        :hgetall(key .. "h"):eval("return ARGV[1]", 1, key, bytes):del(key, key .. "h"):await()
      assert.are.equal(bytes, got)
      assert.are.equal(1, all)
      assert.are.same({ [bytes] = bytes }, script)
    end
    check.within(10, function()
      for _, bytes in ipairs(RESP_LIKE) do
        if #bytes < 1000 then
          local receiver = redis:pubsub("spec:p18:" .. bytes):with_channel():connect()
          redis():publish("spec:p18:" .. bytes, bytes):await()
          assert.are.same({ "spec:p18:" .. bytes, bytes }, { receiver:await() })
          receiver:close()
        end
      end
    end)
  end)

  it("MONITOR shows one command for each that was queued, with the arguments that it was given", function()
    local one = it_needs:server() -- without other commands
    local redis = it_needs:client(one.url)
    check.within(10, function()
      redis():ping():await()
      local monitor = redis:monitor():connect()
      local count = 0
      local function expect_one(name, send)
        count = count + 1
        pcall(send)
        redis():echo("mark " .. count):await()
        local seen = {}
        repeat
          seen[#seen + 1] = monitor:await().command
        until seen[#seen] == ('"ECHO" "mark %d"'):format(count)
        assert(#seen <= 2, ("%s: %d commands"):format(name, #seen - 1))
        for _, command in ipairs(seen) do
          assert(not command:upper():find('^"FLUSHALL"'), command)
        end
      end
      for _, bytes in ipairs(RESP_LIKE) do
        if #bytes < 1000 then
          expect_one("an argument", function() redis():get(bytes):await() end)
          expect_one("the name of a command", function() redis():call("GET" .. bytes, "x"):await() end)
          expect_one("all of the name", function() redis():call("x" .. bytes):await() end)
          expect_one("a table as JSON", function() redis():set("k", { x = bytes }):await() end)
        end
      end
      monitor:close()
    end)
  end)

  it("a method's name is no way in either", function()
    local redis = it_needs:client(shared.url)
    for _, name in ipairs { "get\r\nflushall", "get flushall", "flushall\r\n", "get\0", "" } do
      assert.is_false((pcall(function() return redis()[name] end)), name)
    end
  end)

  it("a client's name, a user's, and passwords travel as bytes in the handshake", function()
    for _, bytes in ipairs { "x\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", ALL:gsub("%z", ""), "a b" } do
      check.protocols(function(protocol)
        local peer = it_needs:fake(function(_, words)
          return words[1] == "HELLO" and protocol == 2 and "-ERR unknown command\r\n" or "-WRONGPASS no\r\n"
        end, { protocol = false })
        local redis = it_needs:client(peer.url, {
          username = "u" .. bytes, password = "p" .. bytes, client_name = "n" .. bytes, protocol = protocol,
          retry = false,
        })
        check.within(5, check.raises, "AuthError", function() redis():get "k":await() end)
        local said = peer.requests[1]
        local expected = protocol == 3 and { "HELLO", "3", "AUTH", "u" .. bytes, "p" .. bytes, "SETNAME", "n" .. bytes }
          or { "AUTH", "u" .. bytes, "p" .. bytes }
        assert.are.same(expected, said)
        assert.are.equal(1, #peer.requests)
      end)
    end
  end)

  it("a URL is decoded once: %2540 is %40, and what decoding brings to light is not read as a URL", function()
    local function encode(bytes)
      return (bytes:gsub(".", function(char) return ("%%%02X"):format(char:byte()) end))
    end
    assert.are.equal("%40", redio.parse_url("redis://:%2540@h/").password)
    assert.are.equal("%2540", redio.parse_url("redis://:%252540@h/").password)
    for _, bytes in ipairs {
      "a@b:c/d?e#f&g=h", "x@evil.example:1/", "?db=9", "%25", "%", "+", " ", "\r\nFLUSHALL\r\n", ALL,
    } do
      local said = redio.parse_url("redis://" .. encode(bytes) .. ":" .. encode(bytes) .. "@good.example:7/3")
      assert.are.same({ bytes, bytes, "good.example", 7, 3 },
        { said.username, said.password, said.host, said.port, said.database })
      assert.are.equal(bytes, redio.parse_url("redis://h/?password=" .. encode(bytes)).password)
    end
    assert.are.equal("a+b", redio.parse_url("redis://h/?client_name=a+b").options.client_name)
    local one = it_needs:server { password = "p%40@:/ä" }
    local redis = it_needs:client(("redis://:%s@127.0.0.1:%d/"):format(encode "p%40@:/ä", one.port))
    assert.are.equal("in", (redis():echo "in":await()))
  end)
end)
