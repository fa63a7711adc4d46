-- SPDX-License-Identifier: MIT
-- Loaded by busted before the first spec.

local uv = require "luv"
local busted = require "busted"

-- For `make asan`: a collector that starts anew whenever it is done finds what is used after its end.
local setpause = tonumber(os.getenv "REDIO_SETPAUSE" or "")
if setpause then
  collectgarbage("setpause", setpause)
end

-- luv 1.44 crashes when the Lua state is closed while a handle is still closing, which says nothing
-- about the specs: let such handles finish.
busted.subscribe({ "exit" }, function()
  uv.run("nowait")
  uv.run("nowait")
end)
