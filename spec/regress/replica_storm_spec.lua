-- SPDX-License-Identifier: MIT
-- Each READONLY retired whatever connection was the shared one by then: 200 coroutines that wrote to a replica opened
-- 400 connections at once, and 1,000 writes one after the other opened 1,001.

local redio = require "redio"
local server = require "spec.support.server"

describe("A replica that refuses writes", function()
  local replica

  setup(function()
    replica = server.start { "replicaof 127.0.0.1 1", "replica-serve-stale-data yes" }
  end)

  teardown(function()
    replica:stop()
  end)

  local function received()
    return tonumber(replica:cli("info", "stats"):match "total_connections_received:(%d+)")
  end

  local function write(db)
    local ok, err = pcall(db.await, db)
    assert.is_false(ok)
    assert.are.equal("ReadOnlyError", err.kind)
  end

  for _, multiplex in ipairs { true, false } do
    it("is left once for many refusals, and not again at once: multiplex " .. tostring(multiplex), function()
      redio.run(function()
        local redis = redio.Redis(replica.url, { multiplex = multiplex, max_connections = 4 })
        redis():get("a"):await()
        local before = received()
        local tasks = {}
        for i = 1, 200 do
          tasks[i] = redio.spawn(function()
            for _ = 1, 3 do
              write(redis():set("a", i))
            end
          end)
        end
        for i = 1, 200 do
          tasks[i]:await()
        end
        for i = 1, 1000 do
          write(redis():set("a", i))
        end
        local connections = received() - before
        assert.is_true(connections >= 2, "it was never left")
        assert.is_true(connections <= 40, connections .. " connections")
        redis:close()
      end)
    end)
  end

  it("is left at the first refusal, so that the next connection finds the present master", function()
    redio.run(function()
      local redis = redio.Redis(replica.url)
      local id = redis():client_id():await()
      write(redis():set("a", 1))
      assert.are_not.equal(id, redis():client_id():await())
      redis:close()
    end)
  end)
end)
