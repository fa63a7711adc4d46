-- SPDX-License-Identifier: MIT
-- Arguments of our own functions: misuse raises at the caller's line and says what would be right.
--
-- `level` is the caller's as in `error`, seen from the function that calls here: 2 for whoever called that one.

local M = {}

local function refuse(position, name, wanted, value, level)
  local got = type(value) == "number" and tostring(value) or type(value)
  error(("bad argument #%d to '%s' (%s expected, got %s)"):format(position, name, wanted, got), level + 2)
end

function M.type(value, wanted, position, name, level)
  if type(value) ~= wanted then refuse(position, name, wanted, value, level) end
end

--- A function, or what can be called like one.
function M.callable(value, position, name, level)
  if type(value) == "function" then return end
  local meta = getmetatable(value)
  if type(meta) ~= "table" or not meta.__call then refuse(position, name, "function", value, level) end
end

local function is_seconds(value)
  return type(value) == "number" and value >= 0 -- (NaN is not)
end

--- A duration: a number of seconds, 0 or more.
function M.seconds(value, position, name, level)
  if not is_seconds(value) then refuse(position, name, "seconds, a number of 0 or more", value, level) end
end

--- The same among options, where it may be missing; `off` says that false means "without".
function M.seconds_option(value, name, level, off)
  if value == nil or is_seconds(value) or off and value == false then return end
  local got = type(value) == "number" and tostring(value) or type(value)
  error(("option '%s' is a number of seconds, 0 or more, not %s"):format(name, got), level + 1)
end

M.refuse = refuse

return M
