-- SPDX-License-Identifier: MIT
-- The table of commands knew "SUBSCRIBE", and not "SUBSCRIBE news": such a name went out as an unknown, harmless
-- command on the shared connection. Every reply after it reached the caller of the one before. CLIENT REPLY SKIP did
-- the same, SELECT moved all callers to another database, and a key in the name was sent in upper case.

local check = require "spec.support.check"
local lua_version = require "redio.base.lua_version"
local fake = require "spec.support.fake"
local redio = require "redio"
local server = require "spec.support.server"

describe("A command that is spelled in one text", function()
  local url

  setup(function()
    url = server.shared().url
    server.shared():cli("flushall")
  end)

  local function with_client(options, fn)
    options.timeout = options.timeout or 2
    redio.run(function()
      local redis = redio.Redis(url, options)
      fn(redis)
      redis:close()
    end)
  end

  it("is the longest name that is known; the rest are arguments, as they were written", function()
    check.protocols(function(protocol)
      with_client({ protocol = protocol }, function(redis)
        redis():call("SET MyKey SomeValue"):await()
        assert.are.equal("SomeValue", redis():get("MyKey"):await())
        assert.are.equal("SomeValue", redis():call(" get  MyKey "):await())
        assert.are.equal("SomeValue", redis():call("Get", "MyKey"):await())
        assert.are.equal("", redis():call("config get save"):await().save)
        assert.are.equal("", redis():call("CONFIG", "get", "save"):await().save)
        assert.is_true(redis():call("SET other", 1, "NX"):call("DEL other"):replies()[1])
      end)
    end)
  end)

  it("may have more words than a byte counts, and LuaJIT's stack holds", function()
    with_client({}, function(redis)
      for _, count in ipairs { 254, 255, 256, 257, 512 } do
        assert.are.equal(count, redis():call("DEL" .. (" k"):rep(count - 1) .. " last"):call("ECHO", count):replies()[2]
          and count)
        local err = check.raises("ReplyError", function()
          redis():call("NOSUCHCOMMAND" .. (" w"):rep(count)):await()
        end)
        assert.are.equal("NOSUCHCOMMAND", err.command)
      end
      assert.are.equal("mine", redis():echo("mine"):await())
    end)
  end)

  local refused = {
    "SUBSCRIBE news", "subscribe\tnews", " psubscribe  n*", "SSUBSCRIBE x", "MONITOR now", "UNSUBSCRIBE news",
    "PSYNC ? -1", "SYNC now", "REPLCONF listening-port 1",
  }
  for _, text in ipairs(refused) do
    it(("is refused where the command is: %q"):format(text), function()
      with_client({}, function(redis)
        check.misuse(function()
          local db = redis()
          db:call(text)
        end)
        assert.are.equal("still", redis():echo("still"):await())
      end)
    end)
  end

  local function session_of_another(redis)
    local info = redis():client_info():await()
    return info:match "db=(%d+)", info:match "multi=(-?%d+)", info:match "name=(%S*)"
  end

  local dirty = {
    { "SELECT 3" }, { "select", "3" }, { "MULTI" }, { "WATCH k" }, { "CLIENT SETNAME somebody" },
    { "client", "setname", "somebody" }, { "CLIENT REPLY OFF" }, { "CLIENT REPLY SKIP" }, { "client", "reply", "skip" },
    { "CLIENT", "Reply", "OFF" }, { "HELLO 2" }, { "HELLO 3" }, { "CLIENT NO-EVICT ON" }, { "CLIENT TRACKING ON" },
    { "CLIENT NOSUCHTHING x" }, { "client", "nosuchthing" },
  }
  for _, words in ipairs(dirty) do
    it(("has its session to itself: %s"):format(table.concat(words, " | ")), function()
      check.protocols(function(protocol)
        with_client({ protocol = protocol }, function(redis)
          redis():ping():await()
          local db = redis()
          pcall(function()
            db:call(lua_version.unpack(words)):await()
          end)
          for i = 1, 20 do
            assert.are.equal("token" .. i, redis():echo("token" .. i):await())
          end
          assert.are.same({ "0", "-1", "" }, { session_of_another(redis) })
          db:close()
          for i = 1, 20 do
            assert.are.equal("token" .. i, redis():echo("token" .. i):await())
          end
          assert.are.same({ "0", "-1", "" }, { session_of_another(redis) })
        end)
      end)
    end)
  end

  it("is named in errors by its name alone", function()
    with_client({}, function(redis)
      local ok, err = pcall(function()
        redis():call("AUTH Hunter2 and more"):await()
      end)
      assert.is_false(ok)
      assert.is_nil(tostring(err):lower():find("hunter2", 1, true))
    end)
  end)

  it("a subscription that reached a connection for commands all the same ends it", function()
    local peer = fake.start(function(_, words)
      if words[1] ~= "ECHO" then return end
      return (">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n$%d\r\n%s\r\n"):format(#words[2], words[2])
    end)
    redio.run(function()
      local redis = redio.Redis(peer.url, { retry = false })
      local err = check.raises("ProtocolError", function()
        redis():echo("a"):await()
      end)
      assert.is_truthy(err.message:find("subscribed", 1, true))
      redis:close()
    end)
    peer:stop()
  end)
end)
