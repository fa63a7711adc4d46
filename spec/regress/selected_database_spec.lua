-- SPDX-License-Identifier: MIT
-- `db` of redis:connection() was set when SELECT was queued: it was wrong after one that the server refused, after
-- clear(), and after call("SELECT").

local check = require "spec.support.check"
local redio = require "redio"
local server = require "spec.support.server"

describe("The database of a handle with a connection of its own", function()
  local function with_handle(fn)
    check.protocols(function(protocol)
      redio.run(function()
        local redis = redio.Redis(server.shared().url .. "1", { protocol = protocol })
        redis:with_connection(function(db)
          fn(db)
          local real = tonumber(db:client_info():await():match "db=(%d+)")
          assert.is_true(db.db == false or db.db == real, ("%s, and it is %d"):format(tostring(db.db), real))
        end)
        redis:close()
      end)
    end)
  end

  it("follows SELECT once it is answered, however it is spelled", function()
    with_handle(function(db)
      assert.are.equal(1, db.db)
      db:select(2)
      assert.are.equal(1, db.db)
      db:await()
      assert.are.equal(2, db.db)
      db:call("SELECT", 3):await()
      assert.are.equal(3, db.db)
      db:call("select 4"):get("k"):await()
      assert.are.equal(4, db.db)
      db:select("5"):select(6):replies()
      assert.are.equal(6, db.db)
    end)
  end)

  it("stays where it was when SELECT is refused or forgotten", function()
    with_handle(function(db)
      pcall(function()
        db:select(99):await()
      end)
      assert.are.equal(1, db.db)
      db:select(2):select(99):get("k"):replies()
      assert.are.equal(2, db.db)
      db:select(3):clear()
      db:get("k"):await()
      assert.are.equal(2, db.db)
    end)
  end)

  it("is false while it cannot be told: after SELECT in a MULTI, or with replies turned off", function()
    with_handle(function(db)
      db:multi():select(3):exec():await()
      assert.is_false(db.db)
      db:select(4):await()
      assert.are.equal(4, db.db)
      db:client_reply("OFF"):select(5):client_reply("ON"):await()
      assert.is_false(db.db)
    end)
  end)
end)
