-- SPDX-License-Identifier: MIT
-- What a finalizer deferred was forgotten when the collector ran while the list of deferred work was exchanged for
-- an empty one: the socket of a connection that was dropped stayed open.

local redio = require "redio"
local compat = require "redio.compat"
local transport = require "redio.transport".default()

describe("work deferred by a finalizer", function()
  it("is done whenever the collector runs", function()
    local made, done, turns = 0, 0, 0
    local function count()
      done = done + 1
    end
    collectgarbage("stop")
    for _ = 1, 2000 do
      compat.finalizer(function()
        made = made + 1
        transport.defer_finalizer(count)
      end)
    end
    collectgarbage("restart")
    local pause, step = collectgarbage("setpause", 0), collectgarbage("setstepmul", 1000)
    redio.run(function()
      -- what allocates is the exchange of the lists alone, so that is where the collector gets its turns
      local function turn()
        turns = turns + 1
        if turns < 50000 then
          transport.defer(turn)
        end
      end
      turn()
      while turns < 50000 do
        redio.sleep(0.05)
      end
    end)
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    collectgarbage()
    redio.run(redio.sleep, 0.01)
    assert.is_true(made > 1000)
    assert.are.equal(made, done)
  end)
end)
