-- SPDX-License-Identifier: MIT
-- Options of commands. A trailing table of options becomes tokens. Tokens that the caller has written as words are
-- found among the arguments. The head of command/table.lua describes the notation of options.
-- Specs: client/arguments_and_replies, regress/options_in_odd_places, regress/option_words_as_values

local messages = require "redio.base.messages"
local plain = require "redio.command.plain"

local M = {}

-- "LIMIT=offset,count" -> {token = "LIMIT", key = "limit", kind = "list", names = {"offset", "count"}}
local function parse_option(spec)
  local token, mark, rest = spec:match "^(%w+)([~+]?)=?(.*)$"
  local option = { token = token, key = token:lower(), names = {} }
  for name in rest:gmatch "[%w_]+" do
    option.names[#option.names + 1] = name
  end
  if mark == "~" then
    option.kind = "trim"
  elseif mark == "+" then
    option.kind = "again"
  elseif rest:find("/", 1, true) then
    option.kind = "columns"
  elseif rest:find("...", 1, true) then
    option.kind = "any"
  elseif #option.names > 1 then
    option.kind = "list"
  else
    option.kind = #option.names == 1 and "value" or "flag"
  end
  return option
end

local ALL = 254 -- more than any command has: all arguments behind such a token belong to it

-- The number of arguments behind the token that belong to the option.
local function takes(option, options)
  if option.token == options.last then
    return ALL
  elseif option.kind == "flag" or option.kind == "any" then
    return 0 -- (weights are numbers, which are never taken for tokens)
  end
  return option.kind == "trim" and 1 or #option.names
end

-- Adds names of arguments as keys where only one option has an argument of that name: {seconds = 10} for {ex = 10}.
local function add_names(parsed)
  local meant = {}
  for _, option in ipairs(parsed) do
    local name = #option.names == 1 and option.names[1]
    if name and not parsed.by_key[name] then meant[name] = meant[name] == nil and option or false end
  end
  for name, option in pairs(meant) do
    if option then parsed.by_key[name] = option end
  end
end

local parsed_options = {}

local function options_of(entry)
  local options = entry.options
  local parsed = parsed_options[options]
  if not parsed then
    parsed = { by_key = {}, by_token = {}, keys = {} }
    for i, spec in ipairs(options) do
      local option = parse_option(spec)
      option.takes = takes(option, options)
      parsed[i] = option
      parsed.by_key[option.key] = option
      parsed.by_token[option.token] = option
      parsed.keys[i] = option.key
      parsed.trims = parsed.trims or option.kind == "trim"
    end
    if parsed.trims then
      parsed.keys[#parsed.keys + 1] = "approx"
      parsed.keys[#parsed.keys + 1] = "exact"
    end
    add_names(parsed)
    parsed_options[options] = parsed
  end
  return parsed
end

-- Words ---------------------------------------------------------------------------------------------------

--- The variants of an entry in the form for core.command: see redio_variants.
---@param entry table of command/table.lua
---@return table? variants nil when there are none
function M.variants(entry)
  if not entry.variants then return nil end
  local options = entry.options
  local parsed = options and options_of(entry) or { by_token = {} }
  local leading = options and options.before ~= nil
  local out, has_shape = { from = options and (options.before or options.after + 1) or 1 }, {}
  out.leading = leading and 1 or 0
  out.numkeys = options and entry.args and entry.args.numkeys or 0
  for _, variant in ipairs(entry.variants) do
    if variant.argc then
      out.argc, out.reply = variant.argc + 1, variant.reply
    else
      local option = parsed.by_token[variant.token]
      local own = variant.takes == "all" and ALL or option and option.takes or 0
      out[#out + 1] = { token = variant.token, takes = own, reply = variant.reply }
      has_shape[variant.token] = true
    end
  end
  out.shaped = #out
  for _, option in ipairs(parsed) do
    if not has_shape[option.token] and (leading or option.takes > 0) then
      out[#out + 1] = { token = option.token, takes = option.takes }
    end
  end
  return out
end

--- The place of the first argument that may be an option, if all arguments before it are given.
---@param entry table of command/table.lua, with `options`
---@param list table the arguments; a number in the place of `numkeys` counts keys that follow it
---@return integer
function M.begin(entry, list)
  local options = entry.options
  local numkeys = entry.args and entry.args.numkeys
  local keys = numkeys and type(list[numkeys]) ~= "table" and tonumber(list[numkeys])
  return (options.before or options.after + 1) + (keys and keys > 0 and keys % 1 == 0 and keys or 0)
end

--- Finds options that are written as words.
---@param entry table of command/table.lua, with `options`
---@param list table the arguments
---@param n integer number of arguments to be searched
---@param unknown? boolean does not stop at an unknown word where options come first
---@return table words {places, at, own, begin, stop}: places of words by token; set of places of words; set of places
--- of their arguments; the first place that may have a word; the first place behind the words
function M.words(entry, list, n, unknown)
  local by_token, leading = options_of(entry).by_token, entry.options.before ~= nil and not unknown
  local places, own, is_word = {}, {}, {}
  local begin = M.begin(entry, list)
  local at = begin
  while at <= n do
    local word = list[at]
    local option = type(word) == "string" and by_token[word:upper()]
    if not option and leading then break end
    if option then
      places[option.token], is_word[at] = at, true
      if option.takes == ALL then break end
      local mark = option.kind == "trim" and (list[at + 1] == "~" or list[at + 1] == "=") and 1 or 0
      for place = at + 1, at + option.takes + mark do
        own[place] = true
      end
      at = at + option.takes + mark
    end
    at = at + 1
  end
  return { places = places, own = own, at = is_word, begin = begin, stop = at }
end

--- True when all keys of a table are names of options of the command.
---@param entry table of command/table.lua
---@param value table
---@return boolean
function M.looks_like_options(entry, value)
  local by_key = entry.options and options_of(entry).by_key
  for key in pairs(value) do
    if not by_key or not by_key[key] then return false end
  end
  return by_key ~= nil and next(value) ~= nil
end

--- Refuses a table or boolean at a place where an option is a word.
---@param what string "a table"
function M.refuse_place(call, what)
  local options = options_of(call.entry)
  plain.refuse(call, "%s cannot stand here; options are words, or a table behind all other arguments, as {%s = %s}",
    what, options.keys[1], options[1].kind == "flag" and "true" or "...")
end

-- Tables --------------------------------------------------------------------------------------------------

local function refuse_option(call, parsed, key)
  local known = "known are " .. table.concat(parsed.keys, ", ")
  if type(key) == "number" then
    plain.refuse(call, "options go by name, as in {%s = %s}; %s", parsed.keys[1],
      parsed[1].kind == "flag" and "true" or "...", known)
  end
  local near = type(key) == "string" and messages.did_you_mean(key, parsed.keys) or ""
  plain.refuse(call, "unknown option %s%s; %s", messages.quote(key), near, known)
end

-- option -> its value, unless that is false.
local function read_options(call, parsed, given)
  local chosen = {}
  for _, key in ipairs(plain.sorted_keys(call, given)) do
    local option = parsed.by_key[key]
    local value = given[key]
    if option then
      if chosen[option] ~= nil then plain.refuse(call, "option '%s' is there twice, by two names", option.key) end
      chosen[option] = value or nil
    elseif not (parsed.trims and (key == "approx" or key == "exact")) then
      refuse_option(call, parsed, key)
    end
  end
  return chosen
end

local put_option = {}

function put_option.flag(call, option, value, what)
  if value ~= true then plain.refuse(call, "%s is true or false, not %s", what, messages.quote(value)) end
  plain.put(call, option.token)
end

function put_option.value(call, option, value, what)
  local fractions = call.entry.options.fractions
  local finer = fractions and fractions[option.token]
  if finer and plain.has_fraction(value) then
    plain.put(call, finer)
    plain.put(call, plain.scaled(value, 1000))
    return
  end
  plain.put(call, option.token)
  plain.put_plain(call, value, what)
end

function put_option.list(call, option, value, what)
  local names = option.names
  if type(value) == "table" and value[1] == nil and value[names[1]] ~= nil then
    local list = {}
    for i, name in ipairs(names) do
      list[i] = value[name]
    end
    value = list
  end
  if type(value) ~= "table" or plain.list_length(call, value) ~= #names then
    plain.refuse(call, "%s is a list of %d: {%s}", what, #names, table.concat(names, ", "))
  end
  plain.put(call, option.token)
  for i = 1, #names do
    plain.put_plain(call, value[i], what)
  end
end

-- Calls `each` with the value, or with each element of a list.
local function for_each(call, value, what, each)
  if type(value) ~= "table" then value = { value } end
  local count = plain.list_length(call, value)
  if not count then plain.refuse(call, "%s is a list of at least one element", what) end
  for i = 1, count do
    each(value[i])
  end
end

function put_option.any(call, option, value, what)
  plain.put(call, option.token)
  for_each(call, value, what, function(element)
    plain.put_plain(call, element, what)
  end)
end

-- Makes {{a, b}, ...} from a record or from a list of pairs.
local function rows_of(call, value, what, names)
  local example = ("{%s = %s} or {{%s, %s}, ...}"):format(names[1], names[2], names[1], names[2])
  if type(value) ~= "table" or next(value) == nil then plain.refuse(call, "%s is %s", what, example) end
  local rows = {}
  if value[1] == nil then
    for i, key in ipairs(plain.sorted_keys(call, value)) do
      rows[i] = { key, value[key] }
    end
    return rows
  end
  for i = 1, plain.list_length(call, value) do
    rows[i] = value[i]
    if type(rows[i]) ~= "table" or plain.list_length(call, rows[i]) ~= 2 then
      plain.refuse(call, "%s is %s", what, example)
    end
  end
  return rows
end

function put_option.again(call, option, value, what)
  if #option.names == 1 then
    for_each(call, value, what, function(element)
      plain.put(call, option.token)
      plain.put_plain(call, element, what)
    end)
    return
  end
  for _, row in ipairs(rows_of(call, value, what, option.names)) do
    plain.put(call, option.token)
    plain.put_plain(call, row[1], what)
    plain.put_plain(call, row[2], what)
  end
end

function put_option.columns(call, option, value, what)
  local rows = rows_of(call, value, what, option.names)
  plain.put(call, option.token)
  for column = 1, 2 do
    for _, row in ipairs(rows) do
      plain.put_plain(call, row[column], what)
    end
  end
end

function put_option.trim(call, option, value, what, given)
  plain.put(call, option.token)
  if given.approx then
    plain.put(call, "~")
  elseif given.exact then
    plain.put(call, "=")
  end
  plain.put_plain(call, value, what)
end

--- Reads a table of options.
---@param words table from M.words: an option that is there as a word is refused in the table
---@return fun(is_last: boolean) put writes the tokens: false writes all but the last one, true the last one
function M.reader(call, given, at, words)
  call.at = at
  local parsed, last = options_of(call.entry), call.entry.options.last
  local chosen = read_options(call, parsed, given)
  for _, option in ipairs(parsed) do
    if chosen[option] ~= nil and words.places[option.token] and option.kind ~= "again" then
      plain.refuse(call, "option '%s' is there twice, in the table and as argument #%d", option.key,
        words.places[option.token])
    end
  end
  return function(is_last)
    local before = call.at
    call.at = at
    for _, option in ipairs(parsed) do
      local value = chosen[option]
      if value ~= nil and (option.token == last) == is_last then
        put_option[option.kind](call, option, value, "option '" .. option.key .. "'", given)
      end
    end
    call.at = before
  end
end

return M
