-- SPDX-License-Identifier: MIT
-- Writes the plain arguments of a call, strings and numbers, to a flat list, and checks each of them. Misuse raises a
-- string without a position. It has the command's name and the argument's number.
-- Specs: client/arguments_and_replies, promises/18, promises/19

local messages = require "redio.base.messages"

local floor = math.floor

local M = {}

-- Fields of `call`, the state of one expansion:
--   name, entry, encode     the command and the JSON encoder
--   out                     the flat list so far
--   at                      number of the current argument

function M.refuse(call, message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  error(("bad argument #%d to '%s' (%s)"):format(call.at, call.name, message), 0)
end

function M.put(call, value)
  local out = call.out
  local n = out.n + 1
  out[n], out.n = value, n
end

-- Puts a string or a number. `what` names its place for an error ("element 2", "option 'ex'").
function M.put_plain(call, value, what)
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" then
    M.refuse(call, "%s is %s; a string or number is needed", what, kind == "nil" and "nil" or "a " .. kind)
  end
  if value ~= value then M.refuse(call, "%s is NaN, which Redis has no form for", what) end
  M.put(call, value)
end

-- Puts a value of any type that can be sent: tables and booleans as JSON.
function M.put_value(call, value, what)
  local kind = type(value)
  if kind == "table" or kind == "boolean" then
    local ok, json = pcall(call.encode, value)
    if not ok then M.refuse(call, "%s cannot be written as JSON: %s", what, messages.of_error(json)) end
    M.put(call, json)
  elseif kind == "string" or kind == "number" then
    M.put_plain(call, value, what)
  elseif kind == "nil" then
    M.refuse(call, "%s is nil, which cannot be sent; send \"\" or leave the command out", what)
  else
    M.refuse(call, "%s is a %s, which cannot be sent; a string, number, boolean or table can", what, kind)
  end
end

-- The length of a list without holes; nil for an empty table or a record.
function M.list_length(call, list)
  if list[1] == nil then
    for key in pairs(list) do
      if type(key) == "number" and key % 1 == 0 and key > 1 then return nil, "element 1 of the list is nil" end
    end
    return nil
  end
  local count, largest = 0, 0
  for key in pairs(list) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 then
      M.refuse(call, "the table is both a list and a record: it has element 1 and the key %s", messages.quote(key))
    end
    count = count + 1
    largest = key > largest and key or largest
  end
  if count < largest then
    local hole = 1
    while list[hole] ~= nil do
      hole = hole + 1
    end
    M.refuse(call, "element %d of the list is nil", hole)
  end
  return count
end

local function sort_keys(a, b)
  local a_kind, b_kind = type(a), type(b)
  if a_kind ~= b_kind then return a_kind == "number" end
  return a < b
end

-- The keys of a record, sorted, so that equal calls send equal bytes.
function M.sorted_keys(call, record)
  local keys = {}
  for key in pairs(record) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" then M.refuse(call, "a %s cannot be a name in a table", kind) end
    keys[#keys + 1] = key
  end
  table.sort(keys, sort_keys)
  return keys
end

function M.has_fraction(value)
  return type(value) == "number" and value > -2 ^ 53 and value < 2 ^ 53 and value % 1 ~= 0
end

-- Rounds to an integer, but a positive value never to 0, which means "at once" or "for ever".
function M.scaled(value, scale)
  local whole = floor(value * scale + 0.5)
  return whole == 0 and value > 0 and 1 or whole
end

return M
