-- SPDX-License-Identifier: MIT
-- Runs functions side by side, until all have ended or one has failed.
-- Specs: unit/task, promises/29

local arg_check = require "redio.base.arg_check"
local lua_version = require "redio.base.lua_version"
local task = require "redio.task"

local M = {}

local function cancel_all(group)
  for i = 1, #group do
    group[i]:cancel()
  end
end

-- Starts all, and waits until all have ended or one has failed. Returns the one that has failed.
local function run_group(fns, count, group)
  local left, failed, is_over, joiner = count, nil, false, {}
  -- Returns true where an error of the member is known here. After the end of the group it is not: then the members are
  -- cancelled, and what else they raise is to be reported.
  local function on_end(member, ok)
    local was_over = is_over
    left = left - 1
    if not ok then failed = failed or member end
    is_over = failed ~= nil
    if is_over or left == 0 then task.wake(joiner) end
    return not was_over
  end
  for i = 1, count do
    if failed then return failed end
    group[i] = task.start_member(fns[i], on_end)
  end
  if left > 0 and not failed then
    joiner.abandon = function()
      is_over = true
      cancel_all(group)
    end
    task.wait(joiner)
  end
  return failed
end

--- Runs functions side by side.
---@return any ... the first result of each, in order. The first error cancels the others and is raised.
function M.gather(...)
  local count, fns, group = select("#", ...), { ... }, {}
  for i = 1, count do
    arg_check.callable(fns[i], i, "gather", 2)
  end
  if not task.can_wait() then return task.block(nil, M.gather, ...) end
  local failed = run_group(fns, count, group)
  if failed then
    cancel_all(group)
    failed:result()
  end
  local results = {}
  for i = 1, count do
    results[i] = group[i].first
  end
  return lua_version.unpack(results, 1, count)
end

return M
