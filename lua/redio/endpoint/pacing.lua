-- SPDX-License-Identifier: MIT
-- Full collections, at a distance from each other. A pool that is full collects in search of connections of
-- dropped holders: while all callers wait for a place, nothing else makes the collector run.
-- Specs: regress/full_pool

local M = {}

local SHORTEST, LONGEST = 0.01, 1 -- seconds between two searches

-- A search in vain makes the distance longer, and may take a twentieth of the time.
local IN_VAIN = 20

---@class redio.Pacing
---@field at number the time of the next search, by the transport's clock
local Pacing = {}
Pacing.__index = Pacing

M.SHORTEST, M.LONGEST = SHORTEST, LONGEST

--- `of_use`: after a search that found something, the next may be when so many times its duration is over.
---@param of_use number
---@return redio.Pacing
function M.new(of_use)
  return setmetatable({ at = 0, _pause = SHORTEST, _of_use = of_use }, Pacing)
end

--- Runs `search(...)` if it is time for the next one.
---@param now number
---@param search fun(...): boolean found
function Pacing:run(now, search, ...)
  if now < self.at then return end
  local began = os.clock()
  local found = search(...)
  local took = os.clock() - began
  self._pause = found and SHORTEST or math.min(self._pause * 2, LONGEST)
  self.at = now + took + math.max(self._pause, took * (found and self._of_use or IN_VAIN))
end

return M
