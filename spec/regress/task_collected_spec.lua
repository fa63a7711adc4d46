-- SPDX-License-Identifier: MIT
-- On LuaJIT, which has no ephemeron tables, tasks that had ended were kept for ever, and so were those dropped while
-- they waited: a kilobyte for each.

local redio = require "redio"

local function used()
  collectgarbage()
  collectgarbage()
  return collectgarbage "count"
end

describe("a task", function()
  it("is collected when it has ended", function()
    redio.run(function()
      local function work()
        for i = 1, 5000 do
          redio.spawn(function() end)
          if i % 500 == 0 then
            redio.sleep(0.001)
          end
        end
      end
      work()
      local before = used()
      work()
      assert.is_true(used() - before < 500)
    end)
  end)

  it("is collected when it is dropped while it waits", function()
    local alive = setmetatable({}, { __mode = "k" })
    redio.run(function()
      redio.spawn(function()
        alive[coroutine.running()] = true
        coroutine.yield()
      end)
      redio.sleep(0.01)
    end)
    used()
    assert.is_nil(next(alive))
  end)
end)
