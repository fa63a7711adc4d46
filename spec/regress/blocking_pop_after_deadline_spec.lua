-- SPDX-License-Identifier: MIT
-- As in lua-resty-redis: BLPOP ran into the client's deadline, an item was pushed later, and the next command on the
-- same object read the item. It was gone from the list, and reached the wrong caller.

local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"

local PREFIX = "spec:regress:blpop:"

local function key(name)
  return PREFIX .. name
end

describe("After BLPOP ran into a deadline of the client's,", function()
  local redis, other

  -- Each: what sets the deadline of 100 ms, and raises.
  local deadlines = {
    ["handle:timeout"] = function(db)
      db:blpop(key "list", 5):timeout(0.1):await()
    end,
    ["with_timeout"] = function(db)
      redio.with_timeout(0.1, function()
        db:blpop(key "list", 5):await()
      end)
    end,
  }
  -- Each: a handle to try it on.
  local handles = {
    ["a plain handle"] = function() return redis() end,
    ["a handle with a connection of its own"] = function() return redis:connection() end,
  }

  before_each(function()
    redis, other = redio.Redis(server.shared().url), redio.Redis(server.shared().url)
    check.wipe(other, PREFIX)
    other():set(key "own", "GET's own value"):await()
  end)

  after_each(function()
    check.wipe(other, PREFIX)
    redis:close()
    other:close()
  end)

  for how, run_into in pairs(deadlines) do
    for which, new_handle in pairs(handles) do
      it(("by %s on %s, GET gets its own value or an error, and a late item stays in the list"):format(how, which),
        function()
          check.within(5, function()
            local db = new_handle()
            local pusher = redio.spawn(function()
              redio.sleep(0.2)
              other():rpush(key "list", "the item"):await()
            end)
            check.raises("TimeoutError", run_into, db)
            pusher:await()
            local ok, value = pcall(function()
              return (db:get(key "own"):await())
            end)
            if ok then
              assert.are.equal("GET's own value", value)
            else
              assert.is_true(redio.errors.is(value, "ConnectionError"), tostring(value))
            end
            assert.are.same({ "the item" }, (other():lrange(key "list", 0, -1):await()))
            db:close()
          end)
        end)
    end
  end
end)
