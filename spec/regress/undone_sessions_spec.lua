-- SPDX-License-Identifier: MIT
-- A handle that was closed in a MULTI, with a WATCH, in another database or under another name had its connection
-- closed, and the next one opened another, although one exchange undoes all of that.

local check = require "spec.support.check"
local redio = require "redio"
local server = require "spec.support.server"

describe("A handle that is closed", function()
  local left = {
    ["a WATCH"] = function(db) db:watch("k"):await() end,
    ["an open MULTI"] = function(db) db:multi():set("k", 1):await() end,
    ["a WATCH and an open MULTI"] = function(db)
      db:watch("k"):await()
      db:multi():set("k", 1):await()
    end,
    ["another database"] = function(db) db:select(7):await() end,
    ["another name"] = function(db) db:client_setname("other"):await() end,
    ["all of them"] = function(db)
      db:select(7):client_setname("other"):watch("k"):await()
      db:multi():set("k", 1):await()
    end,
    ["commands that were not sent"] = function(db)
      db:watch("k"):await()
      db:set("k", 1)
    end,
  }

  local function session(db)
    local info = db:client_info():await()
    return { info:match "id=(%d+)", info:match " db=(%d+)", info:match "multi=(-?%d+)", info:match "name=(%S*)" }
  end

  for what, leave in pairs(left) do
    it("with " .. what .. " undoes it and gives its connection back", function()
      check.protocols(function(protocol)
        for _, name in ipairs { false, "mine" } do
          redio.run(function()
            local redis = redio.Redis(server.shared().url .. "3",
              { max_connections = 1, protocol = protocol, client_name = name or nil })
            redis():del("k"):await()
            local first = redis:with_connection(session)
            redis():blpop("none", 0.01):await()
            local second
            for _ = 1, 5 do
              local db = redis()
              leave(db)
              db:close()
              db = redis()
              local state = session(db:watch("another"))
              second = second or state[1]
              assert.are.same({ second, "3", "-1", name or "" }, state)
              db:close()
            end
            assert.are_not.equal(first[1], second)
            assert.is_nil(redis():get("k"):await())
            redis:close()
          end)
        end
      end)
    end)
  end

  it("with anything else has its connection closed", function()
    redio.run(function()
      local redis = redio.Redis(server.shared().url, { max_connections = 1 })
      local db = redis()
      db:watch("k"):client_no_evict("ON"):await()
      local id = db:client_id():await()
      db:close()
      assert.is_nil(redis():client_list():await():find("id=" .. id .. " ", 1, true))
      redis:close()
    end)
  end)

  it("after a loss, or outside of the loop, has nothing to undo", function()
    local redis = redio.Redis(server.shared().url, { max_connections = 1 })
    local db = redis()
    db:watch("k"):await()
    db:close()
    assert.are.equal(0, redis:stats().connections - (redis[1] and 1 or 0))
    redio.run(function()
      db:watch("k"):await()
      local id = db:client_id():await()
      redis():client_kill("ID", id):await()
      db:close()
      assert.are.equal("a", redis():watch("k"):echo("a"):await())
    end)
    redis:close()
  end)
end)
