-- SPDX-License-Identifier: MIT
-- Timers come before sockets in a turn of the loop: after a pause of the whole process a deadline struck although the
-- answer had come in time, and lay in the socket.

local uv = require "luv"
local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"
local stage = require "spec.support.stage"

describe("a deadline after a pause of the process", function()
  local it_needs = stage.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Has `wait` wait in a task, and stops everything for longer than it may take.
  local function pause_while(wait)
    check.within(10, function()
      local task = redio.spawn(wait)
      redio.sleep(0.02)
      uv.sleep(400)
      return task:await()
    end)
  end

  it("does not strike when the reply is there: with_timeout", function()
    local redis = it_needs:client(shared.url)
    redis():ping():await()
    pause_while(function()
      assert.are.equal("in time", redio.with_timeout(0.3, function()
        return select(2, redis():call("DEBUG", "SLEEP", "0.1"):echo "in time":await())
      end))
    end)
  end)

  it("does not strike when the reply is there: a handle's timeout", function()
    local redis = it_needs:client(shared.url)
    redis():ping():await()
    pause_while(function()
      local _, said = redis():call("DEBUG", "SLEEP", "0.1"):echo "in time":timeout(0.3):await()
      assert.are.equal("in time", said)
    end)
  end)

  it("does not strike when the reply is there: a blocking command, and what waits for its place in the pool", function()
    local redis = it_needs:client(shared.url, { max_connections = 1, pool_timeout = 0.3 })
    redis():blpop("spec:pause", 0.001):await()
    pause_while(function()
      local holder = redio.spawn(function() return redis():blpop("spec:pause", 0.1):await() end)
      redio.sleep(0)
      assert.are.equal("in time", redis:with_connection(function(db) return (db:echo "in time":await()) end))
      holder:await()
    end)
  end)

  it("strikes when it is not, and what was not written in time is not", function()
    local redis = it_needs:client(shared.url)
    redis():del "spec:pause":await()
    pause_while(function()
      local err = check.raises("TimeoutError", redio.with_timeout, 0.1, function()
        redis():blpop("spec:pause:none", 0):await()
      end)
      assert.matches("0.1 s", err.message)
    end)
    check.within(10, function()
      local task = redio.spawn(function()
        return check.raises("TimeoutError", function() redis():incr "spec:pause":timeout(0.02):await() end)
      end)
      redio.spawn(uv.sleep, 50) -- in the same turn
      assert.are.equal("no", task:await().sent)
      assert.is_nil((redis():get "spec:pause":await()))
    end)
  end)
end)
