-- SPDX-License-Identifier: MIT
-- Timers in nginx that belong to no request.
-- Specs: hosts/nginx/uncaught

local lua_version = require "redio.base.lua_version"

local ngx = rawget(_G, "ngx")

local M = {}

local timers = {} -- set of timers that have not run

-- Runs all timers that are due, also ones that nginx could not run in time (lua_max_running_timers).
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

-- (The timer counts as due even if ngx.now() says otherwise: the two clocks differ, and that one can be set back.)
local function run_timer(premature, timer)
  timer.at = 0
  run_timers(premature)
end

--- Calls `fn()` outside of any request, `seconds` from now, or when the worker exits.
---@return table timer
--- Raises when nginx has no timer left.
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

--- Runs all timers that are due.
---@return number? seconds until the next one; nil without any
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
