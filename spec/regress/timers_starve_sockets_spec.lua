-- SPDX-License-Identifier: MIT
-- Each timer that was started moved the loop's clock on, also from within a timer's callback: with two thousand
-- coroutines that sleep for a millisecond again and again there was always one more that was due, and the loop never
-- came to its sockets.

local check = require "spec.support.check"
local server = require "spec.support.server"

describe("many short sleeps", function()
  it("leave the loop time for replies", function()
    local output, status = check.script(([[
      local redio = require "redio"
      local redis = redio.Redis(%q)
      redio.run(function()
        redis():ping():await()
        local over = false
        for _ = 1, 2000 do
          redio.spawn(function()
            while not over do
              redio.sleep(0.001)
            end
          end)
        end
        redio.sleep(0)
        for _ = 1, 10 do
          redis():ping():await()
        end
        over = true
        print "answered"
      end)
    ]]):format(server.shared().url), "timeout 20 %s")
    assert.are.same({ "answered\n", 0 }, { output, status })
  end)
end)
