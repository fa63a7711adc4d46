-- SPDX-License-Identifier: MIT
-- Small timers in nginx, apart from any request.

local lua_version = require "redio.base.lua_version"

local ngx = rawget(_G, "ngx")

local M = {}

local timers = {} -- those that have not run

-- All that are due: nginx may have had no room to run one of them (lua_max_running_timers).
local run_timers = lua_version.interpreted(function(all)
  local now, due = ngx.now(), {}
  for timer in pairs(timers) do
    if all or timer.at <= now then due[#due + 1] = timer end
  end
  for i = 1, #due do
    if timers[due[i]] then
      timers[due[i]] = nil
      due[i].fn()
    end
  end
end)

-- (The timer's own clock may be ahead of the other one, or that may have been set back.)
local function run_timer(premature, timer)
  timer.at = 0
  run_timers(premature)
end

--- Calls `fn()` apart from any request, `seconds` from now, or when nginx is about to end.
---@return table timer
--- Raises when there is no timer to be had.
function M.start_timer(seconds, fn)
  local timer = { at = ngx.now() + seconds, fn = fn }
  timers[timer] = true
  local ok, why = ngx.timer.at(seconds, run_timer, timer)
  if ok then return timer end
  timers[timer] = nil
  error(why, 0)
end

function M.stop_timer(timer)
  timers[timer] = nil
end

--- Runs what should have been run by now; seconds until more is to be.
---@return number? seconds nil: there is nothing
M.catch_up = lua_version.interpreted(function()
  if not next(timers) then return nil end
  run_timers(ngx.worker.exiting())
  local at = math.huge
  for timer in pairs(timers) do
    at = math.min(at, timer.at)
  end
  return at < math.huge and math.max(0.001, at - ngx.now()) or nil
end)

return M
