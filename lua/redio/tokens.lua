-- SPDX-License-Identifier: MIT
-- A table of options at the end of a call, as the tokens that Redis wants. The language of the specifications
-- is told at the top of commands.lua.

local flat = require "redio.flat"
local text = require "redio.text"

local M = {}

-- "LIMIT=offset,count" -> {token = "LIMIT", key = "limit", kind = "list", names = {"offset", "count"}}
local function parse_option(spec)
  local token, mark, rest = spec:match("^(%w+)([~+]?)=?(.*)$")
  local option = { token = token, key = token:lower(), names = {} }
  for name in rest:gmatch("[%w_]+") do
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

-- The argument's own name will do where it can mean only one option: {seconds = 10} for {ex = 10}.
local function add_names(parsed)
  local meant = {}
  for _, option in ipairs(parsed) do
    local name = #option.names == 1 and option.names[1]
    if name and not parsed.by_key[name] then
      meant[name] = meant[name] == nil and option or false
    end
  end
  for name, option in pairs(meant) do
    if option then
      parsed.by_key[name] = option
    end
  end
end

local parsed_options = {}

local function options_of(entry)
  local options = entry.options
  local parsed = parsed_options[options]
  if not parsed then
    parsed = { by_key = {}, keys = {} }
    for i, spec in ipairs(options) do
      local option = parse_option(spec)
      parsed[i] = option
      parsed.by_key[option.key] = option
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

local function refuse_option(call, parsed, key)
  local known = "known are " .. table.concat(parsed.keys, ", ")
  if type(key) == "number" then
    flat.refuse(call, "options go by name, as in {%s = %s}; %s", parsed.keys[1],
      parsed[1].kind == "flag" and "true" or "...", known)
  end
  local near = type(key) == "string" and text.did_you_mean(key, parsed.keys) or ""
  flat.refuse(call, "unknown option %s%s; %s", text.quote(key), near, known)
end

-- option -> its value, for those that are given and not false.
local function read_options(call, parsed, given)
  local chosen = {}
  for _, key in ipairs(flat.sorted_keys(call, given)) do
    local option = parsed.by_key[key]
    local value = given[key]
    if option then
      if chosen[option] ~= nil then
        flat.refuse(call, "option '%s' is there twice, by two names", option.key)
      end
      chosen[option] = value or nil
    elseif not (parsed.trims and (key == "approx" or key == "exact")) then
      refuse_option(call, parsed, key)
    end
  end
  return chosen
end

local put_option = {}

function put_option.flag(call, option, value, what)
  if value ~= true then
    flat.refuse(call, "%s is true or false, not %s", what, text.quote(value))
  end
  flat.put(call, option.token)
end

function put_option.value(call, option, value, what)
  local fractions = call.entry.options.fractions
  local finer = fractions and fractions[option.token]
  if finer and flat.has_fraction(value) then
    flat.put(call, finer)
    flat.put(call, flat.scaled(value, 1000))
    return
  end
  flat.put(call, option.token)
  flat.put_plain(call, value, what)
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
  if type(value) ~= "table" or flat.list_length(call, value) ~= #names then
    flat.refuse(call, "%s is a list of %d: {%s}", what, #names, table.concat(names, ", "))
  end
  flat.put(call, option.token)
  for i = 1, #names do
    flat.put_plain(call, value[i], what)
  end
end

-- One or a list, each put by `each`.
local function for_each(call, value, what, each)
  if type(value) ~= "table" then
    value = { value }
  end
  local count = flat.list_length(call, value)
  if not count then
    flat.refuse(call, "%s is a list of at least one element", what)
  end
  for i = 1, count do
    each(value[i])
  end
end

function put_option.any(call, option, value, what)
  flat.put(call, option.token)
  for_each(call, value, what, function(element)
    flat.put_plain(call, element, what)
  end)
end

-- {{a, b}, ...} of a record or of a list of pairs.
local function rows_of(call, value, what, names)
  local example = ("{%s = %s} or {{%s, %s}, ...}"):format(names[1], names[2], names[1], names[2])
  if type(value) ~= "table" or next(value) == nil then
    flat.refuse(call, "%s is %s", what, example)
  end
  local rows = {}
  if value[1] == nil then
    for i, key in ipairs(flat.sorted_keys(call, value)) do
      rows[i] = { key, value[key] }
    end
    return rows
  end
  for i = 1, flat.list_length(call, value) do
    rows[i] = value[i]
    if type(rows[i]) ~= "table" or flat.list_length(call, rows[i]) ~= 2 then
      flat.refuse(call, "%s is %s", what, example)
    end
  end
  return rows
end

function put_option.again(call, option, value, what)
  if #option.names == 1 then
    for_each(call, value, what, function(element)
      flat.put(call, option.token)
      flat.put_plain(call, element, what)
    end)
    return
  end
  for _, row in ipairs(rows_of(call, value, what, option.names)) do
    flat.put(call, option.token)
    flat.put_plain(call, row[1], what)
    flat.put_plain(call, row[2], what)
  end
end

function put_option.columns(call, option, value, what)
  local rows = rows_of(call, value, what, option.names)
  flat.put(call, option.token)
  for column = 1, 2 do
    for _, row in ipairs(rows) do
      flat.put_plain(call, row[column], what)
    end
  end
end

function put_option.trim(call, option, value, what, given)
  flat.put(call, option.token)
  if given.approx then
    flat.put(call, "~")
  elseif given.exact then
    flat.put(call, "=")
  end
  flat.put_plain(call, value, what)
end

function M.expand(call, given, at)
  call.at = at
  local parsed = options_of(call.entry)
  local chosen = read_options(call, parsed, given)
  for _, option in ipairs(parsed) do
    local value = chosen[option]
    if value ~= nil then
      put_option[option.kind](call, option, value, "option '" .. option.key .. "'", given)
    end
  end
end

return M
