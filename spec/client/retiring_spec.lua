-- SPDX-License-Identifier: MIT
-- A shared connection that retires takes no chain more: those that waited for room go over the next one, and the chains
-- in flight are answered.

local redio = require "redio"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

describe("A retiring connection", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  it("answers what is in flight, and what waits for room goes over the next one", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url, { max_queued_bytes = 64 * 1024 })
    check.within(10, function()
      redis():ping():await()
      local endpoint = redis.topology:pick()
      local conn = endpoint:shared(redis)
      line.up.hold, line.up.window = true, 1
      local large = ("x"):rep(16 * 1024 * 1024)
      local first = redio.spawn(function() return (redis():echo(large):await()) end)
      local late = {}
      for i = 1, 3 do
        late[i] = redio.spawn(function() return (redis():echo("late " .. i):await()) end)
      end
      assert.is_true(check.eventually(function() return conn.backpressure.waiters:count() == 3 end))
      endpoint:leave(conn)
      assert.is_true(conn.retiring)
      line:release()
      for i = 1, 3 do
        assert.are.equal("late " .. i, late[i]:await())
      end
      assert.are.equal(large, first:await())
      check.eventually(function() return conn.lost end)
      assert.are.equal("ConnectionForcedCloseError", conn.lost.kind)
      assert.are_not.equal(conn, endpoint:shared(redis))
      assert.are.equal(1, redis:stats().connections)
    end)
  end)
end)
