-- SPDX-License-Identifier: MIT
-- Promise 20, pool state: a connection that goes back to the pool is as if new, or it is closed. Here it is dirtied in
-- every way and in every spelling, in a chain, in a MULTI, in a script and in on_connect. The next user finds no trace,
-- and each reply reaches its own caller.

local redio = require "redio"
local check = require "spec.support.check"
local commands = require "redio.command.table"
local fixtures = require "spec.support.fixtures"
local server = require "spec.support.server"
local spellings = require "spec.support.spellings"

-- `db` is a handle that keeps its connection, by what it did or because it was lent one.
local WAYS = {
  { "SELECT", function(db) db:select(7):await() end },
  { "WATCH", function(db) db:watch("spec:p20"):await() end },
  { "MULTI left open", function(db) db:multi():set("spec:p20", 1):await() end },
  { "MULTI and a command that is no command", function(db) db:multi():call("NO SUCH"):replies() end },
  { "AUTH as another user", function(db) db:auth("other", "pw"):await() end },
  { "CLIENT TRACKING", function(db) db:client_tracking("ON"):await() end },
  { "CLIENT TRACKING in broadcast", function(db) db:client_tracking("ON", "BCAST", "NOLOOP"):await() end },
  { "CLIENT REPLY OFF", function(db) db:call("CLIENT REPLY", "OFF"):await() end },
  { "CLIENT REPLY SKIP", function(db) db:call("CLIENT REPLY", "SKIP"):await() end },
  { "CLIENT SETNAME", function(db) db:client_setname "dirty":await() end },
  { "CLIENT NO-EVICT", function(db) db:client_no_evict "ON":await() end },
  { "READONLY", function(db) db:call "READONLY":replies() end },
  { "SELECT by call, in lower case", function(db) db:call("select", "7"):await() end },
  { "SELECT in a script's guise: a function of many", function(db) db:ping():select(7):ping():await() end },
  { "a blocking command that is cancelled", function(db) db:blpop("spec:p20:none", 0):timeout(0.01):await() end },
  { "half a transaction that is cancelled", function(db)
    db:multi():call("DEBUG", "SLEEP", "0.02"):await()
    redio.with_timeout(0.001, function() db:exec():await() end)
  end },
  { "replies that were not taken", function(db)
    redio.with_timeout(0.001, function() db:call("DEBUG", "SLEEP", "0.02"):await() end)
  end },
  { "HELLO 2", function(db) db:call("HELLO", "2"):await() end, may_raise = true },
  { "RESET", function(db) db:call "RESET":await() end, may_raise = true },
  { "SUBSCRIBE", function(db) db:call("SUBSCRIBE", "c"):await() end, may_raise = true },
  { "MONITOR", function(db) db:call "MONITOR":await() end, may_raise = true },
  { "QUIT", function(db) db:call "QUIT":await() end, may_raise = true },
}

-- How a handle comes to a connection of its own and loses it.
local HOLDERS = {
  ["with_connection"] = function(redis, dirty)
    redis:with_connection(function(db)
      dirty(db)
      error "in the middle"
    end)
  end,
  ["connection(), closed"] = function(redis, dirty)
    local db = redis:connection()
    local ok, err = pcall(dirty, db)
    db:close()
    error(ok and "in the middle" or err, 0)
  end,
  ["a handle, dropped and collected"] = function(redis, dirty)
    dirty(redis())
    error "in the middle"
  end,
  ["transaction"] = function(redis, dirty)
    redis:transaction("spec:p20:watched", function(db)
      dirty(db)
      error "in the middle"
    end)
  end,
}

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

describe("Promise 20, pool state:", function()
  local it_needs = fixtures.new()
  local one

  setup(function()
    one = server.start()
    one:cli("acl", "setuser", "other", "on", ">pw", "~*", "&*", "+@all")
  end)

  teardown(function()
    one:stop()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- The connection of `db` is as if new, and its replies are its own.
  local function assert_clean(db, name, where)
    for i = 1, 3 do
      assert.are.equal(where .. i, db:echo(where .. i):await(), where)
    end
    local info, found = {}, {}
    for field, value in db:client_info():await():gmatch "([%w-]+)=(%S*)" do
      info[field] = value
    end
    for _, field in ipairs { "db", "multi", "sub", "psub", "ssub", "name", "user", "flags", "redir" } do
      found[field] = info[field]
    end
    assert.are.same({
      db = "0", multi = "-1", sub = "0", psub = "0", ssub = info.ssub and "0", name = name, user = "default",
      flags = "N", redir = "-1",
    }, found, where)
    assert.are.equal(where, db:echo(where):await(), where)
  end

  -- The shared connection and one of the pool.
  local function assert_all_clean(redis, name, where)
    assert_clean(redis(), name, where)
    redis:with_connection(function(db)
      assert_clean(db, name, where .. ", the pool")
    end)
  end

  for holder, hold in pairs(HOLDERS) do
    it(holder .. ": dirtied in every way, then an error", function()
      for protocol = 2, 3 do
        for _, way in ipairs(WAYS) do
          local where = ("%s, RESP%d"):format(way[1], protocol)
          local redis, name = it_needs:client(one.url, {
            max_connections = 1, pool_timeout = 1, protocol = protocol, retry = false,
          })
          check.within(5, function()
            assert.is_false(pcall(hold, redis, way[2]), where)
            collectgarbage()
            collectgarbage()
            redio.sleep(0.001)
            redis:with_connection(function(db)
              assert_clean(db, name, where)
            end)
            -- and the shared connection has not heard of it
            assert.are.equal("shared", (redis():echo "shared":await()), where)
            assert.are.equal("0", redis():client_info():await():match " db=(%d+)", where)
          end)
          redis:close { drain = 0 }
        end
      end
    end)
  end

  it("what undoes its own state goes back and is used again, by the same connection", function()
    local redis = it_needs:client(one.url, { max_connections = 1 })
    check.within(5, function()
      local ids = {}
      for _ = 1, 3 do
        local db = redis()
        db:watch "spec:p20":await()
        local id = db:client_id():await()
        ids[id] = true
        db:multi():set("spec:p20", id):exec():await()
        redis():blpop("spec:p20:none", 0.01):await()
        local again = redis()
        again:watch("spec:p20"):await()
        again:unwatch():await()
      end
      local count = 0
      for _ in pairs(ids) do count = count + 1 end
      assert.are.equal(1, count)
      assert.are.equal(1, redis:stats().idle - (redis[1] and 1 or 0))
    end)
  end)

  it("prevent_pooling closes even what is clean", function()
    local redis = it_needs:client(one.url, { max_connections = 1 })
    check.within(5, function()
      local first = redis():prevent_pooling():client_id():await()
      local second = redis():prevent_pooling():client_id():await()
      assert.are_not.equal(first, second)
      assert.are.equal(0, redis:stats().connections)
    end)
  end)

  describe("in every spelling:", function()
    it("every command that leaves something behind is tried here", function()
      for name, entry in pairs(commands) do
        if leaves_state(entry) then assert.is_table(ARGUMENTS[name], name .. " has no arguments here") end
      end
    end)

    local PLACES = {
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
                for way, use in pairs(PLACES) do
                  local where = ("%s in %s, RESP%d"):format(spelling[1], way, protocol)
                  local db = use(redis, spelling[2])
                  assert_clean(redis(), name, where)
                  db:close()
                  assert_all_clean(redis, name, where .. ", closed")
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
            assert_all_clean(redis, name, command .. " in a script")
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
end)
