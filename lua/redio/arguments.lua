-- SPDX-License-Identifier: MIT
-- From what is pleasant to write in Lua to what goes over the wire: tables and booleans among a command's
-- arguments become strings and numbers, as the command's entry in commands.lua says. Calls of strings and
-- numbers alone never come here.

local commands = require "redio.commands"
local flat = require "redio.flat"
local text = require "redio.text"
local tokens = require "redio.tokens"

local M = {}

local name_of = {}
for name, entry in pairs(commands) do
  name_of[entry] = name
end

-- Lists ------------------------------------------------------------------------------------------------

local function refuse_empty(call, example)
  flat.refuse(call, "the table is empty; %s", example)
end

local function put_list(call, list, put_element)
  local count, hole = flat.list_length(call, list)
  if not count then
    flat.refuse(call, "%s; a list of strings is needed, as in {\"a\", \"b\"}", hole or "a record cannot stand here")
  end
  for i = 1, count do
    put_element(call, list[i], "element " .. i)
  end
  return count
end

local function expand_list(call, list, put_element)
  if next(list) == nil then
    if call.entry.args.empty then
      return
    end
    refuse_empty(call, "a list of at least one element is needed")
  end
  put_list(call, list, put_element)
end

-- A list stands for its elements; a record is one value.
local function expand_values(call, value)
  if next(value) ~= nil and value[1] == nil then
    local _, hole = flat.list_length(call, value)
    if hole then
      flat.refuse(call, hole)
    end
    flat.put_value(call, value, "the table")
  else
    expand_list(call, value, flat.put_value)
  end
end

local function expand_numkeys(call, keys)
  if next(keys) == nil and not call.entry.args.empty then
    refuse_empty(call, "a list of at least one key is needed")
  end
  local out = call.out
  flat.put(call, 0)
  local place = out.n
  if next(keys) ~= nil then
    out[place] = put_list(call, keys, flat.put_plain)
  end
end

-- BITFIELD: lists of lists, and what stands beside them.
local function expand_rows(call, rows)
  if next(rows) == nil then
    refuse_empty(call, "lists of operations are needed, as in {{\"GET\", \"u8\", 0}}")
  end
  put_list(call, rows, function(_, row, what)
    if type(row) == "table" then
      put_list(call, row, flat.put_plain)
    else
      flat.put_plain(call, row, what)
    end
  end)
end

-- Pairs ------------------------------------------------------------------------------------------------

local function pairs_example(args)
  if args.width then
    return "{name = {longitude, latitude}} or {{longitude, latitude, name}, ...}"
  elseif args.swap then
    return "{member = score} or {{score, member}, ...}"
  end
  return "{name = value} or {{name, value}, ...}"
end

local function put_row(call, row, width, what, example)
  if type(row) ~= "table" or flat.list_length(call, row) ~= width then
    flat.refuse(call, "%s is no list of %d; what can stand here is %s", what, width, example)
  end
  for i = 1, width do
    flat.put_value(call, row[i], what)
  end
end

local function put_record(call, record, args, example)
  for _, key in ipairs(flat.sorted_keys(call, record)) do
    local value = record[key]
    local what = "the value of " .. text.quote(key)
    if not args.swap then
      flat.put_plain(call, key, "a name")
      flat.put_value(call, value, what)
    elseif args.width then
      put_row(call, value, args.width - 1, what, example)
      flat.put_plain(call, key, "a name")
    else
      flat.put_plain(call, value, what)
      flat.put_plain(call, key, "a name")
    end
  end
end

local function expand_pairs(call, value)
  local args = call.entry.args
  local example = pairs_example(args)
  if next(value) == nil then
    refuse_empty(call, "what can stand here is " .. example)
  end
  if value[1] == nil then
    put_record(call, value, args, example)
    return
  end
  for i = 1, flat.list_length(call, value) do
    put_row(call, value[i], args.width or 2, "element " .. i, example)
  end
end

-- Calls ------------------------------------------------------------------------------------------------

-- Whether the pairs that start at `first` are whole before argument `last`, so that a table there is
-- none of their values.
local function pairs_whole(args, first, last, given)
  local width, filled = args.width or 2, 0
  for i = first, last - 1 do
    if filled ~= 0 or type(given[i]) ~= "table" then
      filled = (filled + 1) % width
    end
  end
  return filled == 0
end

local function is_options(entry, n, given)
  local options, args = entry.options, entry.args
  local last = given[n]
  if not options or type(last) ~= "table" or n <= options.after then
    return false
  end
  if args and args.pairs then
    return pairs_whole(args, args.pairs, n, given)
  end
  local list_from = args and (args.names or args.values)
  return not (list_from and n >= list_from and last[1] ~= nil) -- XCLAIM: ids may stand in more than one list
end

-- What a table as argument i stands for, if not for JSON.
local function expander_of(args, i, last)
  if args.numkeys == i then
    return expand_numkeys
  elseif args.rows and i >= args.rows then
    return expand_rows
  elseif i > last - (args.tail or 0) then
    return nil
  elseif args.names and i >= args.names then
    return function(call, list)
      expand_list(call, list, flat.put_plain)
    end, true
  elseif args.values and i >= args.values then
    return expand_values
  end
end

local NO_ARGS = {}

-- Puts the arguments; options, when there are any, in front of argument `before`. Whether there was a list
-- where one name is usual.
local function expand_all(call, last, given, before, options_at)
  local args = call.entry.args or NO_ARGS
  local width, filled, many = args.width or 2, 0, false
  for i = 1, last do
    if i == before then
      tokens.expand(call, given[options_at], options_at)
    end
    call.at = i
    local value = given[i]
    local in_pairs = args.pairs and i >= args.pairs
    local expand, is_names
    if type(value) == "table" then
      if in_pairs and filled == 0 and not (args.names and value[1] ~= nil) then
        expand = expand_pairs
      else
        expand, is_names = expander_of(args, i, last)
      end
    end
    if expand then
      expand(call, value)
      many = many or is_names
    else
      flat.put_value(call, value, "it")
      filled = in_pairs and (filled + 1) % width or 0
    end
  end
  return many
end

---The plain arguments that `...` stand for.
---@param entry table of commands.lua; for other commands { name = "JSON.SET" }
---@param json_encode fun(value: any): string
---@param n integer how many arguments there are
---@return table list of strings and numbers, with their count as `n`
---@return string|nil command the one to send instead of this one (HGET with a list of fields: HMGET)
function M.expand(entry, json_encode, n, ...)
  local given = { ... }
  local call = {
    name = entry.name or name_of[entry],
    entry = entry,
    encode = json_encode,
    out = { n = 0 },
    at = 0,
  }
  local last = n
  if is_options(entry, n, given) then
    last = n - 1
  end
  local before = last < n and (entry.options.before or n)
  local many = expand_all(call, last, given, before, n)
  if before and before > last then
    tokens.expand(call, given[n], n)
  end
  if many and entry.args.many then
    return call.out, entry.args.many
  end
  return call.out, nil
end

---For commands with `rewrite`: what to send when it is something other than what was called for.
---@param entry table of commands.lua
---@param n integer how many arguments there are
---@return string|nil command nil: send it as it is
---@return table|nil list its arguments (tables among them still to be expanded), with their count as `n`
function M.rewrite(entry, n, ...)
  local rule = entry.rewrite
  if rule.default then
    if n == 0 then
      return name_of[entry], { n = 1, rule.default }
    end
    return nil, nil
  end
  local value = select(rule.at <= n and rule.at or n + 1, ...)
  if not flat.has_fraction(value) then
    return nil, nil
  end
  local list = { n = n, ... }
  list[rule.at] = flat.scaled(value, rule.scale)
  return rule.to, list
end

---How long a blocking command waits on the server.
---@param entry table of commands.lua, with `timeout`
---@param n integer how many arguments there are, plain ones
---@param list table the arguments
---@return number|nil seconds 0 is for ever; nil when it does not block
function M.timeout(entry, n, list)
  local rule = entry.timeout
  local at = rule.at and (rule.at < 0 and n + 1 + rule.at or rule.at)
  if rule.token then
    for i = 1, n - 1 do
      local word = type(list[i]) == "string" and list[i]:upper()
      if word == "STREAMS" then
        return nil
      end
      if word == rule.token then
        at = i + 1
        break
      end
    end
  end
  local value = at and tonumber(list[at])
  return value and value * rule.unit
end

return M
