-- SPDX-License-Identifier: MIT
-- health_check_interval sent its PING on connections that a handle held. In an open MULTI the PINGs came out of EXEC
-- among the results. After CLIENT REPLY OFF or SKIP no answer came, and the connection was closed.

local check = require "spec.support.check"
local redio = require "redio"
local server = require "spec.support.server"

describe("A health check", function()
  local INTERVAL = 0.05

  local function with_client(fn)
    check.protocols(function(protocol)
      redio.run(function()
        local redis = redio.Redis(server.shared().url, { health_check_interval = INTERVAL, protocol = protocol })
        redis():flushall():hset("h", { f = "v" }):await()
        fn(redis)
        redis:close()
      end)
    end)
  end

  it("stays out of a MULTI that is open across awaits", function()
    with_client(function(redis)
      local db = redis()
      db:multi():incr("a"):await()
      redio.sleep(5 * INTERVAL)
      assert.are.same({ 1, { f = "v" }, 1 }, db:hgetall("h"):incr("b"):exec():await())
    end)
  end)

  it("stays off a connection without replies, or without the next one", function()
    with_client(function(redis)
      redis:with_connection(function(db)
        db:client_reply("OFF"):await()
        redio.sleep(5 * INTERVAL)
        assert.are.same({ "a" }, db:client_reply("ON"):echo("a"):replies())
        db:client_reply("SKIP"):await()
        redio.sleep(5 * INTERVAL)
        db:echo("unheard"):await()
        assert.are.equal("b", db:echo("b"):await())
      end)
    end)
  end)

  it("goes on for what lies in the pool afterwards", function()
    with_client(function(redis)
      redis():watch("a"):await()
      local db = redis()
      db:watch("a"):get("a"):await()
      redio.sleep(3 * INTERVAL)
      db:unwatch():await()
      redis():config_resetstat():await()
      redio.sleep(5 * INTERVAL)
      local stats = redis():info("commandstats"):await()
      assert.is_truthy(stats:find("cmdstat_ping", 1, true))
    end)
  end)
end)
