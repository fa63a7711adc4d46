-- SPDX-License-Identifier: MIT
-- Checks of the arguments of redio's own functions. Misuse raises at the caller's line, with a text that says which
-- values are right.
--
-- `level` is that of `error`, seen from the function that calls a check: 2 is the line that called that function.
-- Specs: client/raised_errors, client/handle

local M = {}

local function refuse(position, name, wanted, value, level)
  local got = type(value) == "number" and tostring(value) or type(value)
  error(("bad argument #%d to '%s' (%s expected, got %s)"):format(position, name, wanted, got), level + 2)
end

function M.type(value, wanted, position, name, level)
  if type(value) ~= wanted then refuse(position, name, wanted, value, level) end
end

--- A function, or a table with __call.
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

--- A duration among options, where nil is right, too, and with `off` also false ("without").
function M.seconds_option(value, name, level, off)
  if value == nil or is_seconds(value) or off and value == false then return end
  local got = type(value) == "number" and tostring(value) or type(value)
  error(("option '%s' is a number of seconds, 0 or more, not %s"):format(name, got), level + 1)
end

M.refuse = refuse

return M
