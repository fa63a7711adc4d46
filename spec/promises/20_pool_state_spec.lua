-- SPDX-License-Identifier: MIT
-- Promise 20, pool state: a connection that goes back to the pool is provably clean, or it is closed. It is
-- dirtied here in every way, then comes an `error()`: the next user finds it as if it were new.

local redio = require "redio"
local check = require "spec.support.check"
local stage = require "spec.support.stage"

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

describe("Promise 20, pool state:", function()
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

  -- What the next user of the only connection there may be finds.
  local function assert_clean(redis, name, where)
    local info = {}
    redis:with_connection(function(db)
      for field, value in db:client_info():await():gmatch "([%w-]+)=(%S*)" do
        info[field] = value
      end
      assert.are.equal("mine", (db:echo "mine":await()), where)
    end)
    local found = {}
    for _, field in ipairs { "db", "multi", "sub", "psub", "ssub", "name", "user", "flags", "redir" } do
      found[field] = info[field]
    end
    assert.are.same({
      db = "0", multi = "-1", sub = "0", psub = "0", ssub = info.ssub and "0", name = name, user = "default",
      flags = "N", redir = "-1",
    }, found, where)
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
            assert_clean(redis, name, where)
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
end)
