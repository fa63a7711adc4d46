-- SPDX-License-Identifier: MIT
-- Expands tables and booleans among the arguments of a command to strings and numbers, by its entry in
-- command/table.lua. A call with strings and numbers only does not come here.

local commands = require "redio.command.table"
local messages = require "redio.base.messages"
local plain = require "redio.command.plain"
local trailing = require "redio.command.trailing"

local M = {}

local NO_ARGS = {}

local name_of = {}
for name, entry in pairs(commands) do
  name_of[entry] = name
end

-- Lists ---------------------------------------------------------------------------------------------------

local function refuse_empty(call, example)
  plain.refuse(call, "the table is empty; %s", example)
end

local function put_list(call, list, put_element)
  local count, hole = plain.list_length(call, list)
  if not count then
    plain.refuse(call, "%s; a list of strings is needed, as in {\"a\", \"b\"}", hole or "a record cannot stand here")
  end
  for i = 1, count do
    put_element(call, list[i], "element " .. i)
  end
  return count
end

local function expand_list(call, list, put_element)
  if next(list) == nil then
    if call.entry.args.empty then return end
    refuse_empty(call, "a list of at least one element is needed")
  end
  put_list(call, list, put_element)
end

-- Expands a list to its elements. A record is one value.
local function expand_values(call, value)
  if next(value) ~= nil and value[1] == nil then
    local _, hole = plain.list_length(call, value)
    if hole then plain.refuse(call, hole) end
    plain.put_value(call, value, "the table")
  else
    expand_list(call, value, plain.put_value)
  end
end

local function expand_numkeys(call, keys)
  if next(keys) == nil and not call.entry.args.empty then refuse_empty(call, "a list of at least one key is needed") end
  local out = call.out
  plain.put(call, 0)
  local place = out.n
  if next(keys) ~= nil then out[place] = put_list(call, keys, plain.put_plain) end
end

-- Expands the operations of BITFIELD: a list of lists, with plain arguments among them.
local function expand_rows(call, rows)
  if next(rows) == nil then refuse_empty(call, "lists of operations are needed, as in {{\"GET\", \"u8\", 0}}") end
  put_list(call, rows, function(_, row, what)
    if type(row) == "table" then
      put_list(call, row, plain.put_plain)
    else
      plain.put_plain(call, row, what)
    end
  end)
end

-- Pairs ---------------------------------------------------------------------------------------------------

local function pairs_example(args)
  if args.width then
    return "{name = {longitude, latitude}} or {{longitude, latitude, name}, ...}"
  elseif args.swap then
    return "{member = score} or {{score, member}, ...}"
  end
  return "{name = value} or {{name, value}, ...}"
end

local function put_row(call, row, width, what, example)
  if type(row) ~= "table" or plain.list_length(call, row) ~= width then
    plain.refuse(call, "%s is no list of %d; what can stand here is %s", what, width, example)
  end
  for i = 1, width do
    plain.put_value(call, row[i], what)
  end
end

local function put_record(call, record, args, example)
  for _, key in ipairs(plain.sorted_keys(call, record)) do
    local value = record[key]
    local what = "the value of " .. messages.quote(key)
    if not args.swap then
      plain.put_plain(call, key, "a name")
      plain.put_value(call, value, what)
    elseif args.width then
      put_row(call, value, args.width - 1, what, example)
      plain.put_plain(call, key, "a name")
    else
      plain.put_plain(call, value, what)
      plain.put_plain(call, key, "a name")
    end
  end
end

-- Refuses {nx = true} as a score of a member named nx.
local function refuse_flags(call, record)
  for _, value in pairs(record) do
    if type(value) == "boolean" then trailing.refuse_place(call, "a table of options") end
  end
end

local function expand_pairs(call, value)
  local args = call.entry.args
  local example = pairs_example(args)
  if next(value) == nil then refuse_empty(call, "what can stand here is " .. example) end
  if value[1] == nil then
    if args.swap and trailing.looks_like_options(call.entry, value) then refuse_flags(call, value) end
    put_record(call, value, args, example)
    return
  end
  for i = 1, plain.list_length(call, value) do
    put_row(call, value[i], args.width or 2, "element " .. i, example)
  end
end

-- Calls ---------------------------------------------------------------------------------------------------

-- The options of a call that are written as words, and by how many places these shift the arguments behind them.
local function survey(entry, n, given)
  if not entry.options then return { places = {}, own = {}, at = {}, begin = n + 1, shift = 0 } end
  local words = trailing.words(entry, given, type(given[n]) == "table" and n - 1 or n)
  words.shift = entry.options.before and words.stop - words.begin or 0
  return words
end

-- True when the pairs that start at `first` are complete before argument `last`, so that a table there is not one of
-- their values.
local function pairs_whole(args, first, last, given)
  local width, filled = args.width or 2, 0
  for i = first, last - 1 do
    if filled ~= 0 or type(given[i]) ~= "table" then filled = (filled + 1) % width end
  end
  return filled == 0
end

local function is_options(entry, n, given, words)
  local options, args = entry.options, entry.args
  local last = given[n]
  local first = options and (options.before and options.after + words.shift + 1 or words.begin)
  if not options or type(last) ~= "table" or n < first then return false end
  if args and args.pairs then return pairs_whole(args, args.pairs + words.shift, n, given) end
  local list_from = args and (args.names or args.values)
  return not (list_from and n >= list_from and last[1] ~= nil) -- (XCLAIM takes several lists of ids)
end

-- True when argument `i` of `last` is a key.
local function is_key(call, i, last)
  local keys = call.entry.keys
  local first = keys and keys[1]
  if first then
    local to = keys[2] or first
    if i >= first and i <= (to < 0 and last + 1 + to or to) and (i - first) % (keys[3] or 1) == 0 then return true end
  end
  return call.out.n < call.keys_end
end

-- Refuses a table or boolean that would be sent as JSON at a place where JSON makes no sense.
local function check_place(call, i, last, given, words, in_pairs)
  local entry, value = call.entry, given[i]
  local what = "a " .. type(value)
  if is_key(call, i, last) then
    plain.refuse(call, "a key is a string or a number, not %s", what)
  elseif not entry.options or in_pairs or words.own[i] then
    return
  end
  local args = entry.args or NO_ARGS
  if not (args.value == i or args.values and i >= args.values) then trailing.refuse_place(call, what) end
  local behind = words.begin <= last and given[words.begin]
  if behind and type(value) == "table" and trailing.looks_like_options(entry, value) and not words.at[words.begin] then
    trailing.refuse_place(call, what)
  end
end

local function expand_keys(call, list)
  expand_list(call, list, plain.put_plain)
end

-- The function that expands a table as argument `i`; nil when it is sent as JSON.
local function expander_of(args, i, last)
  if args.numkeys == i then
    return expand_numkeys
  elseif args.rows and i >= args.rows then
    return expand_rows
  elseif i > last - (args.tail or 0) then
    return nil
  elseif args.names and i >= args.names then
    return expand_keys, true
  elseif args.values and i >= args.values then
    return expand_values
  end
end

-- Puts all arguments, with the options in front of argument `before`. Returns true when there was a list of names.
local function expand_all(call, last, given, words, put_options)
  local args, before = call.entry.args or NO_ARGS, put_options and call.entry.options.before
  local pairs_from = args.pairs and args.pairs + words.shift
  local width, filled, many = args.width or 2, 0, false
  for i = 1, last do
    if i == before then put_options(false) end
    call.at = i
    local value = given[i]
    local in_pairs = pairs_from and i >= pairs_from
    local expand, is_names
    if type(value) == "table" then
      if in_pairs and filled == 0 and not (args.names and value[1] ~= nil) then
        expand = expand_pairs
      else
        expand, is_names = expander_of(args, i, last)
      end
    end
    if expand == expand_values and is_key(call, i, last) then expand = expand_keys end
    if expand then
      expand(call, value)
      many = many or is_names
    else
      if type(value) == "table" or type(value) == "boolean" then check_place(call, i, last, given, words, in_pairs) end
      plain.put_value(call, value, "it")
      if args.numkeys == i then call.keys_end = call.out.n + (tonumber(value) or 0) end
      filled = in_pairs and (filled + 1) % width or 0
    end
  end
  if filled ~= 0 and call.entry.options then
    plain.refuse(call, "what can stand here is %s; a table of options stands behind all of it", pairs_example(args))
  end
  return many
end

--- Expands arguments to plain ones.
---@param entry table of command/table.lua; for other commands { name = "JSON.SET" }
---@param json_encode fun(value: any): string
---@param n integer number of arguments
---@return table list of strings and numbers, with their count as `n`
---@return string|nil command to be sent instead (HMGET for HGET with a list of fields)
function M.expand(entry, json_encode, n, ...)
  local given = { ... }
  local call = {
    name = entry.name or name_of[entry],
    entry = entry,
    encode = json_encode,
    out = { n = 0 },
    keys_end = 0, -- length of `out` after all keys that `numkeys` counts
    at = 0,
  }
  local words, last, put_options = survey(entry, n, given), n, nil
  if is_options(entry, n, given, words) then
    last = n - 1
    put_options = trailing.reader(call, given[n], n, words)
  end
  local many = expand_all(call, last, given, words, put_options)
  if put_options then
    if (entry.options.before or n) > last then put_options(false) end
    put_options(true)
  end
  if many and entry.args.many then return call.out, entry.args.many end
  return call.out, nil
end

--- Applies the `rewrite` of an entry.
---@param entry table of command/table.lua
---@param n integer number of arguments
---@return string|nil command to be sent instead; nil when nothing changes
---@return table|nil list its arguments, with their count as `n`. Tables among them are not expanded yet.
function M.rewrite(entry, n, ...)
  local rule = entry.rewrite
  if rule.default then
    if n == 0 then return name_of[entry], { n = 1, rule.default } end
    return nil, nil
  end
  local value = select(rule.at <= n and rule.at or n + 1, ...)
  if not plain.has_fraction(value) then return nil, nil end
  local list = { n = n, ... }
  list[rule.at] = plain.scaled(value, rule.scale)
  return rule.to, list
end

--- The time that a blocking command waits on the server.
---@param entry table of command/table.lua, with `timeout`
---@param n integer number of arguments
---@param list table the arguments, plain ones
---@return number|nil seconds 0 is for ever; nil when it does not block
function M.timeout(entry, n, list)
  local rule = entry.timeout
  local at = rule.at and (rule.at < 0 and n + 1 + rule.at or rule.at)
  if rule.token then
    local place = trailing.words(entry, list, n, true).places[rule.token]
    at = place and place + 1
  end
  local value = at and tonumber(list[at])
  return value and value >= 0 and value * rule.unit or nil -- (the server refuses negative values)
end

return M
