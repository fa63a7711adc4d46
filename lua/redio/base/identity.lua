-- SPDX-License-Identifier: MIT
-- Makes texts from values, for use as keys: equal values have equal texts, and different values have different ones.
-- Tables are compared by their contents, functions and other objects by identity.
-- Specs: hosts/nginx/clients, hosts/nginx/connections

local lua_version = require "redio.base.lua_version"

local M = {}

-- object -> its number, given when it is first seen
local numbers, count = setmetatable({}, { __mode = "k" }), 0

local function number_of(object)
  local number = numbers[object]
  if not number then
    count = count + 1
    number, numbers[object] = count, count
  end
  return number
end

--- The text for an object, by its identity.
function M.object(object)
  return type(object) .. "#" .. number_of(object)
end

-- The length before each text makes a list of texts unambiguous.
local function framed(text)
  return #text .. ":" .. text
end

local DEEPEST = 8 -- levels of tables; deeper ones are compared by identity, as a table may contain itself

local text_of

local text_of_table = lua_version.interpreted(function(value, depth)
  local list = {}
  for name, field in pairs(value) do
    list[#list + 1] = framed(text_of(name, depth)) .. framed(text_of(field, depth))
  end
  table.sort(list)
  return "{" .. table.concat(list) .. "}"
end)

function text_of(value, depth)
  local kind = type(value)
  if kind == "string" then return "s" .. value end
  if kind == "number" then return ("n%.17g"):format(value) end
  if kind == "boolean" or kind == "nil" then return tostring(value) end
  if kind == "table" and depth < DEEPEST then return text_of_table(value, depth + 1) end
  return M.object(value)
end

--- The text for any value.
---@return string
function M.of(value)
  return text_of(value, 0)
end

--- The text for several values, nil among them.
---@return string
function M.of_all(...)
  local list = {}
  for i = 1, select("#", ...) do
    list[i] = framed(text_of(select(i, ...), 0))
  end
  return table.concat(list)
end

return M
