-- SPDX-License-Identifier: MIT
-- How long to wait before trying again.

local M = {}

local DEFAULT = { base = 0.05, cap = 2 }

--- Full jitter: anything up to a limit that doubles with each attempt, so that many clients do not come back at once.
---@param settings table|boolean? base and cap, in seconds
---@param attempt integer 0 for the first
---@return number seconds
function M.delay(settings, attempt)
  local limits = settings or DEFAULT
  local limit = math.min(limits.cap, limits.base * 2 ^ math.min(attempt, 30))
  return math.random() * limit
end

return M
