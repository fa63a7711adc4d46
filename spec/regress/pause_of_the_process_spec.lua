-- SPDX-License-Identifier: MIT
-- The loop looks at its timers before its sockets. After a pause of the process that was longer than a deadline the
-- reply lay in the socket, and was called overdue: the shared connection was closed, and all that was in flight lost.

local fake = require "spec.support.fake"
local redio = require "redio"
local server = require "spec.support.server"
local uv = require "luv"

describe("After a pause of the process", function()
  local url

  setup(function()
    url = server.shared().url
  end)

  -- Adds one, which takes the server a moment.
  local function count(db)
    return select(2, db:call("DEBUG", "SLEEP", 0.05):incr("n"):await())
  end

  -- Stops everything in this process for so long, beginning at the next turn of the loop.
  local function pause(seconds)
    uv.sleep(seconds * 1000)
  end

  it("a reply that is there is no overdue one (timeout)", function()
    redio.run(function()
      local redis = redio.Redis(url, { timeout = 0.3 })
      redis():del("n"):await()
      local id = redis():client_id():await()
      local task = redio.spawn(function()
        return count(redis())
      end)
      redio.sleep(0.02)
      pause(0.8)
      assert.are.equal(1, task:await())
      assert.are.equal(id, redis():client_id():await())
      redis:close()
    end)
  end)

  it("nor by the deadline of a chain or of with_timeout", function()
    redio.run(function()
      local redis = redio.Redis(url)
      redis():del("n"):await()
      for i, wait in ipairs {
        function()
          return count(redis():timeout(0.3))
        end,
        function()
          return redio.with_timeout(0.3, function()
            return count(redis())
          end)
        end,
      } do
        local task = redio.spawn(wait)
        redio.sleep(0.02)
        pause(0.8)
        assert.are.equal(i, task:await())
      end
      redis:close()
    end)
  end)

  it("nor a login (connect_timeout)", function()
    local late = fake.start(function(_, words)
      return words[1] == "ECHO" and ("$1\r\n%s\r\n"):format(words[2]) or "+OK\r\n"
    end)
    redio.run(function()
      local redis = redio.Redis(late.url, { connect_timeout = 0.3, retry = false })
      local task = redio.spawn(function()
        return redis():echo("a"):await()
      end)
      for _ = 1, 4 do
        redio.sleep(0)
      end
      pause(0.8)
      assert.are.equal("a", task:await())
      redis:close()
    end)
    late:stop()
  end)

  it("nor the answer to a health check", function()
    redio.run(function()
      local redis = redio.Redis(url, { health_check_interval = 0.1 })
      local id = redis():client_id():await()
      for _ = 1, 10 do
        redio.sleep(0.09)
        pause(0.25)
      end
      assert.are.equal(id, redis():client_id():await())
      redis:close()
    end)
  end)

  it("a reply that is not there is overdue all the same", function()
    redio.run(function()
      local redis = redio.Redis(url, { timeout = 0.2, retry = false })
      redis():ping():await()
      server.shared():pause()
      local task = redio.spawn(function()
        return redis():get("n"):await()
      end)
      redio.sleep(0.02)
      pause(0.5)
      local ok, err = pcall(task.await, task)
      server.shared():resume()
      assert.is_false(ok)
      assert.are.equal("TimeoutError", err.kind)
      redis:close()
    end)
  end)
end)
