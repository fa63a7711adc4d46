-- SPDX-License-Identifier: MIT
-- Promise 20, in every spelling: whatever leaves state on its connection, and however it is written, in a chain, in a
-- MULTI, in a script or in on_connect, no other caller finds a trace of it, and every reply reaches its own caller.

local check = require "spec.support.check"
local commands = require "redio.command.table"
local redio = require "redio"
local spellings = require "spec.support.spellings"
local stage = require "spec.support.stage"

-- Arguments that the server takes, for each command that leaves something behind; several where they differ in that.
local ARGUMENTS = {
  ASKING = { {} },
  AUTH = { { "other", "pw" }, { "wrong" } },
  CLIENT = { { "NOSUCHTHING", "x" } },
  ["CLIENT CACHING"] = { { "yes" } },
  ["CLIENT CAPA"] = { { "redirect" } },
  ["CLIENT IMPORT-SOURCE"] = { { "ON" } },
  ["CLIENT NO-EVICT"] = { { "ON" } },
  ["CLIENT NO-TOUCH"] = { { "ON" } },
  ["CLIENT REPLY"] = { { "OFF" }, { "SKIP" }, { "ON" } },
  ["CLIENT SETINFO"] = { { "LIB-NAME", "other" } },
  ["CLIENT SETNAME"] = { { "other" } },
  ["CLIENT TRACKING"] = { { "ON" }, { "ON", "BCAST" }, { "OFF" } },
  DISCARD = { {} },
  EXEC = { {} },
  HELLO = { {}, { "2" }, { "3" }, { "3", "SETNAME", "other" }, { "3", "AUTH", "other", "pw" } },
  MONITOR = { {} },
  MULTI = { {} },
  PSUBSCRIBE = { { "n*" } },
  PSYNC = { { "?", "-1" } },
  PUNSUBSCRIBE = { {}, { "n*" } },
  QUIT = { {} },
  READONLY = { {} },
  READWRITE = { {} },
  REPLCONF = { { "listening-port", "1" } },
  RESET = { {} },
  ["SCRIPT DEBUG"] = { { "NO" } },
  SELECT = { { "3" }, { "99" } },
  SSUBSCRIBE = { { "s" } },
  SUBSCRIBE = { { "news" } },
  SUNSUBSCRIBE = { {}, { "s" } },
  SYNC = { {} },
  UNSUBSCRIBE = { {}, { "news" } },
  UNWATCH = { {} },
  WATCH = { { "k" } },
}

local function leaves_state(entry)
  return entry.state or entry.mute or entry.watch or entry.unwatch or entry.multi or entry.exec or entry.discard
    or entry.refused or entry.quit
end

describe("Promise 20, in every spelling:", function()
  local it_needs = stage.new()
  local one

  setup(function()
    one = require "spec.support.server".start()
    one:cli("acl", "setuser", "other", "on", ">pw", "~*", "&*", "+@all")
  end)

  teardown(function()
    one:stop()
  end)

  after_each(function()
    it_needs:clear()
  end)

  it("every command that leaves something behind is tried here", function()
    for name, entry in pairs(commands) do
      if leaves_state(entry) then assert.is_table(ARGUMENTS[name], name .. " has no arguments here") end
    end
  end)

  -- That the connection of whoever asks is as it was in the beginning, and its replies are his own.
  local function assert_untouched(db, name, where)
    for i = 1, 3 do
      assert.are.equal(where .. i, db:echo(where .. i):await(), where)
    end
    local info = {}
    for field, value in db:client_info():await():gmatch "([%w-]+)=(%S*)" do
      info[field] = value
    end
    assert.are.same({ "0", "-1", "0", "0", name, "default" },
      { info.db, info.multi, info.sub, info.psub, info.name, info.user }, where)
    assert.is_nil(info.flags:find("[txdt]"), where .. ": flags " .. info.flags)
    assert.are.equal(where, db:echo(where):await(), where)
  end

  local function assert_all_untouched(redis, name, where)
    assert_untouched(redis(), name, where)
    redis:with_connection(function(db)
      assert_untouched(db, name, where .. ", the pool")
    end)
  end

  local WAYS = {
    ["a chain of its own"] = function(redis, send)
      local db = redis()
      pcall(function()
        send(db):await()
      end)
      return db
    end,
    ["the middle of a chain"] = function(redis, send)
      local db = redis()
      pcall(function()
        send(db:set("k", 1)):get("k"):replies()
      end)
      return db
    end,
    ["a MULTI"] = function(redis, send)
      local db = redis()
      pcall(function()
        send(db:multi():set("k", 1)):exec():replies()
      end)
      return db
    end,
    ["a MULTI that is open"] = function(redis, send)
      local db = redis()
      pcall(function()
        db:multi():set("k", 1):await()
        send(db):await()
        db:exec():await()
      end)
      return db
    end,
  }

  for command, tries in pairs(ARGUMENTS) do
    it(command, function()
      for protocol = 2, 3 do
        local redis, name = it_needs:client(one.url, { max_connections = 2, pool_timeout = 2, protocol = protocol,
          retry = false, timeout = 2 })
        check.within(60, function()
          for _, arguments in ipairs(tries) do
            local words = { command }
            for i, argument in ipairs(arguments) do
              words[i + 1] = argument
            end
            for _, spelling in ipairs(spellings.of(words)) do
              for way, use in pairs(WAYS) do
                local where = ("%s in %s, RESP%d"):format(spelling[1], way, protocol)
                local db = use(redis, spelling[2])
                assert_untouched(redis(), name, where)
                db:close()
                assert_all_untouched(redis, name, where .. ", closed")
              end
            end
          end
        end)
        redis:close { drain = 0 }
      end
    end)

    it(command .. ": in a script", function()
      local redis, name = it_needs:client(one.url, { retry = false, timeout = 2 })
      check.within(20, function()
        for _, arguments in ipairs(tries) do
          local words = {}
          for word in command:gmatch "%S+" do
            words[#words + 1] = word
          end
          for _, argument in ipairs(arguments) do
            words[#words + 1] = argument
          end
          pcall(function()
            redis():eval("return redis.pcall(unpack(ARGV))", {}, words):await()
          end)
          assert_all_untouched(redis, name, command .. " in a script")
        end
      end)
    end)

    it(command .. ": in on_connect, where the connection fails or works", function()
      for _, arguments in ipairs(tries) do
        local redis = it_needs:client(one.url, { retry = false, timeout = 2, connect_timeout = 2,
          on_connect = function(db)
            db:call(command .. " " .. table.concat(arguments, " ")):await()
          end })
        check.within(20, function()
          for i = 1, 3 do
            local ok, value = pcall(function()
              return redis():echo("token" .. i):await()
            end)
            if ok then
              assert.are.equal("token" .. i, value)
            else
              assert.is_truthy(type(value) == "string" or redio.errors.is(value))
            end
          end
        end)
      end
    end)
  end
end)
