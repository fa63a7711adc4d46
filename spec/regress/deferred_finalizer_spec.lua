-- SPDX-License-Identifier: MIT
-- A deferred finalizer was forgotten when the collector ran while the list of deferred work was exchanged for an empty
-- one. The socket of a dropped connection stayed open.

local child = require "spec.support.child"

-- A program of its own, with a heap so small that the collector completes a cycle all the time.
local PROGRAM = [[
local redio = require "redio"
local lua_version = require "redio.base.lua_version"
local transport = require "redio.transport".default()

local made, done, turns, over = 0, 0, 0, false
local function count()
  done = done + 1
end
local function finalize()
  made = made + 1
  transport.defer_finalizer(count)
end
collectgarbage("setpause", 0)
collectgarbage("setstepmul", 400)
redio.run(function()
  local function turn()
    turns = turns + 1
    if turns < 20000 and os.clock() < 3 then -- (Lua 5.3 goes around the whole heap each time)
      lua_version.finalizer(finalize)
      transport.defer(turn)
    else
      over = true
    end
  end
  turn()
  while not over do
    redio.sleep(0.05)
  end
end)
collectgarbage()
redio.run(redio.sleep, 0.01)
print(made, done)
]]

describe("work deferred by a finalizer", function()
  it("is done whenever the collector runs", function()
    local output = child.run_text(PROGRAM, "")
    local made, done = output:match "^(%d+)%s+(%d+)"
    assert(made, output)
    assert.are.equal(made, done)
    assert.is_true(tonumber(made) > 1000)
  end)
end)
