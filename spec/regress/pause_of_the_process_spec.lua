-- SPDX-License-Identifier: MIT
-- The loop runs its timers before it reads its sockets. After a pause of the process that was longer than a deadline,
-- the reply lay in the socket, and yet the deadline struck: the shared connection was closed, and all that was in
-- flight was lost.

local uv = require "luv"
local redio = require "redio"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"
local server = require "spec.support.server"

describe("After a pause of the process", function()
  local it_needs = fixtures.new()
  local url

  setup(function()
    url = server.shared().url
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Runs `wait` in a task, and stops the process for so long once it waits. Returns its results.
  local function pause_while(wait, seconds)
    local task = redio.spawn(wait)
    redio.sleep(0.02)
    uv.sleep((seconds or 0.4) * 1000)
    return task:await()
  end

  -- A reply that comes 0.1 s after the request.
  local function late(db)
    return (select(2, db:call("DEBUG", "SLEEP", "0.1"):echo "in time":await()))
  end

  describe("a deadline does not strike when its reply is there:", function()
    it("the option timeout", function()
      check.within(10, function()
        local redis = it_needs:client(url, { timeout = 0.3 })
        local id = redis():client_id():await()
        assert.are.equal("in time", pause_while(function() return late(redis()) end))
        assert.are.equal(id, redis():client_id():await())
      end)
    end)

    it("a handle's timeout", function()
      check.within(10, function()
        local redis = it_needs:client(url)
        redis():ping():await()
        assert.are.equal("in time", pause_while(function() return late(redis():timeout(0.3)) end))
      end)
    end)

    it("with_timeout", function()
      check.within(10, function()
        local redis = it_needs:client(url)
        redis():ping():await()
        assert.are.equal("in time", pause_while(function() return redio.with_timeout(0.3, late, redis()) end))
      end)
    end)

    it("a blocking command, and a wait for its place in the pool", function()
      check.within(10, function()
        local redis = it_needs:client(url, { max_connections = 1, pool_timeout = 0.3 })
        redis():blpop("spec:pause", 0.001):await()
        pause_while(function()
          local holder = redio.spawn(function() return redis():blpop("spec:pause", 0.1):await() end)
          redio.sleep(0)
          assert.are.equal("in time", redis:with_connection(function(db) return (db:echo "in time":await()) end))
          holder:await()
        end)
      end)
    end)

    it("a login (connect_timeout)", function()
      local peer = it_needs:fake(function(_, words)
        return words[1] == "ECHO" and ("$1\r\n%s\r\n"):format(words[2]) or "+OK\r\n"
      end)
      check.within(10, function()
        local redis = it_needs:client(peer.url, { connect_timeout = 0.3, retry = false })
        local task = redio.spawn(function() return redis():echo("a"):await() end)
        for _ = 1, 4 do
          redio.sleep(0)
        end
        uv.sleep(800)
        assert.are.equal("a", task:await())
      end)
    end)

    it("a health check", function()
      check.within(10, function()
        local redis = it_needs:client(url, { health_check_interval = 0.1 })
        local id = redis():client_id():await()
        for _ = 1, 10 do
          redio.sleep(0.09)
          uv.sleep(250)
        end
        assert.are.equal(id, redis():client_id():await())
      end)
    end)
  end)

  describe("a deadline strikes when its reply is not there:", function()
    it("the option timeout", function()
      check.within(10, function()
        local redis = it_needs:client(url, { timeout = 0.2, retry = false })
        redis():ping():await()
        server.shared():pause()
        it_needs:finally(function() server.shared():resume() end)
        check.raises("TimeoutError", pause_while, function() redis():get("n"):await() end)
      end)
    end)

    it("with_timeout; and a command that was not written in time is not written", function()
      check.within(10, function()
        local redis = it_needs:client(url)
        redis():del "spec:pause":await()
        local err = check.raises("TimeoutError", pause_while, function()
          redio.with_timeout(0.1, function() redis():blpop("spec:pause:none", 0):await() end)
        end)
        assert.matches("0.1 s", err.message)
        local task = redio.spawn(function()
          return check.raises("TimeoutError", function() redis():incr "spec:pause":timeout(0.02):await() end)
        end)
        redio.spawn(uv.sleep, 50) -- in the same turn
        assert.are.equal("no", task:await().sent)
        assert.is_nil((redis():get "spec:pause":await()))
      end)
    end)
  end)
end)
