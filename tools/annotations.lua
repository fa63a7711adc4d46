-- SPDX-License-Identifier: MIT
-- annotations.lua: writes lua/redio/meta/commands.lua to standard output, with each command as a method, for LuaLS and
-- other readers of its annotations. It reads lua/redio/command/table.lua, and the documentation of commands from the
-- server at REDIS_URL. A command without documentation gets only its name. `make annotations` starts a server for it.

local commands = require "redio.command.table"
local redio = require "redio"

local WIDTH = 118

-- Words for shapes of replies. The other shapes are not described.
local RESULTS = {
  nothing = "none", boolean = "a boolean", ["true"] = "true, or nil", double = "a number", seconds = "seconds",
  name = "a string", names = "a list of strings", booleans = "a list of booleans", doubles = "a list of numbers",
  map = "a table by field",
}

-- The syntax of arguments, in the usual notation ----------------------------------------------------------

local function has(argument, flag)
  for _, name in ipairs(argument.flags or {}) do
    if name == flag then return true end
  end
  return false
end

local syntax

local function each(list, separator)
  local words = {}
  for i, argument in ipairs(list) do
    words[i] = syntax(argument)
  end
  return table.concat(words, separator)
end

local function core_of(argument)
  if argument.type == "pure-token" then return argument.token end
  local text = argument.name
  if argument.type == "oneof" then
    text = each(argument.arguments, "|")
    if argument.token or not has(argument, "optional") then text = "<" .. text .. ">" end
  elseif argument.type == "block" then
    text = each(argument.arguments, " ")
  end
  return text
end

function syntax(argument)
  local text = core_of(argument)
  local token = argument.type ~= "pure-token" and argument.token and argument.token .. " " or ""
  if has(argument, "multiple_token") then
    text = token .. text .. " [" .. token .. text .. " ...]"
  elseif has(argument, "multiple") then
    text = token .. text .. " [" .. text .. " ...]"
  else
    text = token .. text
  end
  return has(argument, "optional") and "[" .. text .. "]" or text
end

-- The parameters of a method ------------------------------------------------------------------------------

local reserved = { ["end"] = true, ["function"] = true, ["repeat"] = true, self = true }

local function parameter_name(argument)
  local name = argument.name:gsub("[^%w_]", "_")
  return (reserved[name] and name .. "_" or name)
end

-- The place from which a table may stand for all further arguments.
local function table_place(entry)
  local args = entry.args or {}
  return args.names or args.values or args.numkeys or args.rows or math.huge
end

-- The names of the arguments that are always there with one value each, and true when there may be more.
local function parameters(entry, docs)
  if entry.container then return { "subcommand" }, true end
  local list, arguments = {}, docs and docs.arguments or {}
  for place, argument in ipairs(arguments) do
    if argument.token or argument.arguments or has(argument, "optional") then return list, true end
    local optional = entry.rewrite and entry.rewrite.default and "?" or ""
    list[place] = parameter_name(argument) .. optional
    if has(argument, "multiple") or place >= table_place(entry) then return list, true end
  end
  return list, not docs
end

local function signature(entry, docs)
  local list, more = parameters(entry, docs)
  local words = { "self: redio.Handle" }
  for _, name in ipairs(list) do
    words[#words + 1] = name .. ": redio.Value"
  end
  if more then words[#words + 1] = "...: redio.Value" end
  return ("fun(%s): redio.Handle"):format(table.concat(words, ", "))
end

-- Words about a command -----------------------------------------------------------------------------------

local function sentence(text)
  return (text:gsub("%s+", " "):gsub("^%s", ""):gsub("[%s.]+$", "")) .. "."
end

local function description(name, entry, docs)
  local parts = { docs and sentence(docs.summary) }
  if docs then
    parts[#parts + 1] = "`" .. (name .. " " .. each(docs.arguments or {}, " ")):gsub(" $", "") .. "`"
    if docs.replaced_by then parts[#parts + 1] = sentence("Deprecated; instead: " .. docs.replaced_by) end
    parts[#parts + 1] = sentence("Since " .. docs.since)
    if docs.complexity and not entry.container then parts[#parts + 1] = sentence(docs.complexity) end
  else
    parts[1] = "`" .. name .. "`"
  end
  if entry.refused then
    parts[#parts + 1] = "Refused: " .. sentence(entry.refused)
  else
    local result = RESULTS[(entry.method or entry).reply]
    if result and not entry.variants and not entry.container then parts[#parts + 1] = sentence("Result: " .. result) end
  end
  return table.concat(parts, " ")
end

local function print_wrapped(text)
  local line = "---"
  for word in text:gmatch "%S+" do
    if #line > 3 and #line + 1 + #word > WIDTH then
      print(line)
      line = "---"
    end
    line = line .. " " .. word
  end
  print(line)
end

local function print_method(method, name, entry, docs)
  print_wrapped(description(name, entry, docs))
  print(("---@field %s %s"):format(method, signature(entry, docs)))
end

-- The server's documentation, by redio's names of commands: "config|get" -> "CONFIG GET".
local function ask(redis)
  local all = {}
  local function add(list)
    for name, docs in pairs(list) do
      all[name:upper():gsub("|", " ")] = docs
      add(docs.subcommands or {})
    end
  end
  add(redis():command_docs():await())
  return all
end

local redis = redio.Redis(os.getenv "REDIS_URL")
local server = ask(redis)
local version = redis():info("server"):await():match "redis_version:([%w.]+)"
redis:close()

local names = {}
for name in pairs(commands) do
  names[#names + 1] = name
end
table.sort(names)

print "-- SPDX-License-Identifier: MIT"
print "---@meta _"
print("-- Made by tools/annotations.lua from the table of commands and from Redis " .. version
  .. ". Not to be edited, nor required.")
print ""
print "--- A value for Redis: tables stand for lists and pairs where the command wants these, and for JSON elsewhere."
print "---@alias redio.Value string|number|boolean|table"
print ""
print "---@class redio.Handle"
for _, name in ipairs(names) do
  local docs = server[name]
  print_method(name:lower():gsub("[ -]", "_"), name, commands[name], docs)
  if name == "DEL" then print_method("delete", name, commands[name], docs) end
end
