-- SPDX-License-Identifier: MIT
-- Loaded by busted before the first spec.

local uv = require "luv"
local busted = require "busted"

-- luv 1.44 crashes when the Lua state is closed while a handle is still closing, which says nothing
-- about the specs: let such handles finish.
busted.subscribe({ "exit" }, function()
  uv.run("nowait")
  uv.run("nowait")
end)
