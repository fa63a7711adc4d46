-- SPDX-License-Identifier: MIT
-- Decoding modes: functions from the bytes of a value to a Lua value.
-- Specs: client/values, client/arguments_and_replies

local cjson = require "cjson"
local core = require "redio.core"

local M = {}

-- An instance of cjson for redio alone, as its settings differ from those of the program's.
local json = cjson.new()
json.decode_invalid_numbers(false)
json.encode_invalid_numbers(false)
json.encode_sparse_array(true)

local function decimal_point()
  return ("%.1f"):format(0.5):sub(2, -2)
end

local known_point = decimal_point()

-- cjson reads the locale's decimal point in `new` alone. After a change of the locale it would write 1,5.
local function in_any_locale(fn)
  return function(value)
    local point = decimal_point()
    if point ~= known_point then
      cjson.new()
      known_point = point
    end
    return fn(value)
  end
end

--- The JSON library, unless `options.json` names another.
M.json = { encode = in_any_locale(json.encode), decode = in_any_locale(json.decode) }

local function whole_number(s)
  if not s:find "^%-?%d+$" or s:find "^%-?0%d" then return nil end
  local n = tonumber(s)
  -- A number that Lua cannot hold exactly stays a string.
  if n and core.number(n) == s then return n end
end

local function fraction(s)
  if s:find "^%-?%d+%.?%d*[eE]?[+-]?%d*$" and not s:find "^%-?0%d" and not s:find "^%-?%d+$" then return tonumber(s) end
end

local literal = { ["true"] = true, ["false"] = true, null = true }
local opening = { ["{"] = true, ["["] = true, ['"'] = true }

--- Decodes a value that as a whole is JSON or a number. Returns other values unchanged.
---@param s string
---@param decode fun(s: string): any a decoder of JSON, which raises for anything else
function M.auto(s, decode)
  local number = whole_number(s) or fraction(s)
  if number then return number end
  local first = s:match "^%s*(.)"
  if not (opening[first] or literal[s]) then return s end
  local ok, value = pcall(decode, s)
  if ok then return value end
  return s
end

--- The function that decodes one value in a mode; nil for "none".
---@param mode "none"|"str"|"auto"|function
---@param decode fun(s: string): any JSON
function M.of_mode(mode, decode)
  if type(mode) == "function" then return mode end
  if mode == "auto" then
    return function(s)
      return M.auto(s, decode)
    end
  end
  if mode == "str" then return core.strdecode end
end

--- Decodes values in place. `places` is a list of table, key, table, key.
function M.places(places, count, fn)
  for i = 1, count, 2 do
    local container, key = places[i], places[i + 1]
    container[key] = fn(container[key])
  end
end

return M
