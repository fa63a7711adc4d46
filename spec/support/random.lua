-- SPDX-License-Identifier: MIT
-- Random numbers that can be repeated, the same on every Lua. The seed is the environment's SEED, else the clock's, and
-- is printed.

local uv = require "luv"

local M = {}

local MODULUS = 2147483647 -- Park and Miller's: exact in doubles, too

--- A generator: `random()` is at least 0 and below 1, `random(n)` an integer from 1 to n, `random(list)` one of it.
---@param what string printed beside the seed
function M.new(what)
  local seed = tonumber(os.getenv "SEED") or uv.hrtime() % 1000000
  print(("%s: SEED=%d"):format(what, seed))
  local state = (seed * 69621 + 1) % MODULUS
  if state == 0 then
    state = 1
  end
  return function(range)
    state = state * 16807 % MODULUS
    if not range then
      return state / MODULUS
    elseif type(range) == "table" then
      return range[state % #range + 1]
    end
    return state % range + 1
  end
end

return M
