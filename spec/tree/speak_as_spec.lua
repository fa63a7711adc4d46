-- SPDX-License-Identifier: MIT
-- spec/support/speak_as.lua makes a redis-server speak as a later one. It changes exactly the answers that differ.

local redio = require "redio"
local check = require "spec.support.check"
local generations = require "spec.support.generations"
local proxy = require "spec.support.proxy"
local random = require "spec.support.random"
local resp_stream = require "spec.support.resp_stream"
local server = require "spec.support.server"

local uv = require "luv"

local LATER = { "redis-7.2", "redis-7.4", "redis-8.0", "valkey-7.2", "valkey-8.0", "valkey-8.1", "valkey-9.0" }

local function request(words)
  local items = {}
  for i, word in ipairs(words) do
    items[i] = generations.bulk(word)
  end
  return generations.list_of(items)
end

-- Sends bytes and returns all that comes until the server hangs up, one text for each message.
local function converse(host, port, bytes)
  local handle, pieces, is_over = uv.new_tcp(), {}, false
  handle:connect(host, port, function(failure)
    assert(not failure, failure)
    handle:read_start(function(_, piece)
      if piece then
        pieces[#pieces + 1] = piece
      else
        is_over = true
        handle:close()
      end
    end)
    handle:write(bytes)
  end)
  assert(check.eventually(function() return is_over end), "the server did not hang up")
  local text, messages, at, stream = table.concat(pieces), {}, 1, resp_stream.new()
  while at <= #text do
    local stop, ended = stream:scan(text, at)
    assert(ended, "half a message")
    messages[#messages + 1] = text:sub(at, stop - 1)
    at = stop
  end
  return messages
end

describe("A server that speaks as a later one", function()
  local own

  after_each(function()
    if own then own:stop() end
  end)

  it("says so in HELLO, takes CLIENT SETINFO, and answers outside of a cluster what it would", function()
    for _, name in ipairs(LATER) do
      local generation = generations.named(name)
      own = server.start { speaks_as = name, password = "secret" }
      check.within(5, function()
        check.protocols(function(protocol)
          local redis = redio.Redis(own.url, { protocol = protocol })
          local db = redis:connection()
          local hello = db:hello(tostring(protocol)):await()
          assert.same({ generation.valkey and "valkey" or "redis", generation.version, protocol, "master" },
            { hello.server, hello.version, hello.proto, hello.role })
          assert.equal(generation.zone, hello.availability_zone)
          assert.equal(#(generation.modules or {}), #hello.modules)
          db:client_setinfo("LIB-NAME", "spec"):client_no_touch("ON"):await()
          local ok = pcall(function() db:readonly():readwrite():await() end)
          assert.equal(generation.valkey ~= nil, ok)
          assert.equal("mine", (db:echo "mine":await()))
          local list = db:multi():client_setinfo("LIB-VER", "1"):echo "yours":exec():await()
          assert.equal("yours", list[2])
          db:close()
          redis:close()
        end)
        local err = check.raises("AuthError", function()
          redio.Redis(("redis://127.0.0.1:%d/"):format(own.port), { retry = false })():ping():await()
        end)
        assert.matches("NOAUTH", tostring(err))
      end)
      own:stop()
    end
  end)

  -- The generation's answer to a request to which the server behind it says `said`.
  local function expected(words, said, generation)
    local name = table.concat(words, " "):upper()
    if words[1] == "HELLO" and said:find "^[%%*]" then
      local protocol = said:byte() == ("%"):byte() and 3 or 2
      return generation:hello(protocol, tonumber(said:match "\r\n:(%d+)\r\n%$4\r\nmode"), "master")
    elseif name:find "^CLIENT SETINFO" or name:find "^READ%u+$" and said:sub(1, 1) == "-" then
      return "+OK\r\n"
    end
    return said
  end

  local function random_request(rng)
    local case = rng(12)
    if case == 1 then return { "HELLO", tostring(rng(2) + 1) } end
    if case == 2 then return { "CLIENT", "SETINFO", "LIB-NAME", "n" .. rng(99) } end
    if case == 3 then return { rng(2) == 1 and "READONLY" or "readwrite" } end
    if case == 4 then return { "HSET", "h" .. rng(3), "f" .. rng(9), ("v"):rep(rng(200)) } end
    if case == 5 then return { "HGETALL", "h" .. rng(3) } end
    if case == 6 then return { "ECHO", "%7\r\n$6\r\nserver\r\n" .. ("x"):rep(rng(3000)) } end
    if case == 7 then return { "NONESUCH", ("y"):rep(rng(50)) } end
    if case == 8 then return { "HELLO", "9" } end
    if case == 9 then return { "CLIENT", "REPLY", "ON" } end
    if case == 10 then return { "EVAL", "return {1, {2, {redis.status_reply('x')}}, 'z', false}", "0" } end
    if case == 11 then return { "LRANGE", "none", "0", "-1" } end
    return { "ECHO", "token " .. rng(1e6) }
  end

  it("keeps every answer with its request: random ones, in random pieces, beside the server itself", function()
    local rng, generation = random.new "speak_as_spec", generations.named "valkey-8.1"
    own = server.start { speaks_as = "valkey-8.1" }
    check.within(60, function()
      for _ = 1, 40 do
        local list, bytes = {}, {}
        for i = 1, 60 do
          list[i] = random_request(rng)
          bytes[i] = request(list[i])
        end
        list[#list + 1] = { "QUIT" }
        bytes = table.concat(bytes) .. (rng(2) == 1 and request { "QUIT" } or "QUIT\r\n")
        own:cli "flushall"
        local direct = converse("127.0.0.2", own.port, bytes)
        own:cli "flushall"
        local line = proxy.start(own)
        line.up.chunk, line.down.chunk = rng(2) == 1 and rng(700) or nil, rng(2) == 1 and rng(300) or nil
        local got = converse("127.0.0.1", line.port, bytes)
        line:stop()
        assert.equal(#list, #direct)
        assert.equal(#list, #got)
        for i, words in ipairs(list) do
          -- (each connection has a number of its own)
          local number = got[i]:match "\r\n(:%d+\r\n%$4\r\nmode)"
          local wanted = expected(words, direct[i], generation)
          if number then wanted = wanted:gsub("\r\n:%d+\r\n%$4\r\nmode", "\r\n" .. number, 1) end
          assert.equal(wanted, got[i], words[1])
        end
      end
    end)
  end)

  it("lets messages, monitors and silence through as they are", function()
    own = server.start { speaks_as = "redis-8.0" }
    check.within(10, function()
      check.protocols(function(protocol)
        local redis = redio.Redis(own.url, { protocol = protocol })
        local receiver = redis:pubsub("a", "b"):psubscribe "c*":connect()
        redis():publish("b", "1"):publish("cc", "2"):await()
        assert.same({ "1", "2" }, { receiver:await(), (receiver:await()) })
        receiver:close()
        local db = redis:connection()
        db:call("CLIENT", "REPLY", "OFF"):set("k", 1):await()
        db:call("CLIENT", "REPLY", "ON"):await()
        assert.equal("1", (db:get "k":await()))
        db:close()
        redis:close()
      end)
    end)
  end)

  it("hangs up when the server does, and answers again when that is back", function()
    own = server.start { speaks_as = "redis-8.0" }
    local redis = redio.Redis(own.url)
    check.within(10, function()
      redis():set("k", 1):await()
      own:kill()
      check.raises("ConnectionError", function() redis():incr "k":await() end)
      own:restart()
      assert.is_true(check.eventually(function()
        return (pcall(function() redis():set("k", 2):await() end))
      end))
      redis:close()
    end)
  end)
end)
