-- SPDX-License-Identifier: MIT
-- Finds commands by name or by method. The core's descriptor of a command is made when it is first used.
-- Specs: client/every_command, regress/call_spelling

local commands = require "redio.command.table"
local core = require "redio.core"
local messages = require "redio.base.messages"
local trailing = require "redio.command.trailing"

local M = {}

---@class redio.Command
---@field name string "CONFIG GET"
---@field entry table its line in command/table.lua
---@field core userdata the descriptor, for core.encode

local records = {} -- name -> record
local by_method = {} -- method -> name

local methods = {} -- list of all methods, for suggestions
for name in pairs(commands) do
  local method = name:lower():gsub("[ -]", "_")
  by_method[method] = name
  methods[#methods + 1] = method
end
by_method.delete = "DEL"

-- An unknown command is sent as it is. At most this many get a record of their own, with their name in error texts.
local MOST_UNKNOWN = 1000
local unknown_count = 0
local nameless

local function new_record(name, entry, reply)
  local spec = { name = name }
  for key, value in pairs(entry) do
    spec[key] = value
  end
  spec.reply = reply or entry.reply
  spec.variants = not reply and trailing.variants(entry) or nil
  return { name = name, entry = entry, core = core.command(spec) }
end

--- The command of a name in upper case, its words separated by one space; nil when the table does not have it.
---@return redio.Command?
function M.find(name)
  local record = records[name]
  if not record and commands[name] then
    record = new_record(name, commands[name])
    records[name] = record
  end
  return record
end

--- The same command with another reply shape.
---@return redio.Command
function M.shaped(name, reply)
  local key = name .. "\0" .. reply
  records[key] = records[key] or new_record(name, commands[name], reply)
  return records[key]
end

--- The same command as one that logs in, for a call with the option AUTH.
---@param record redio.Command
---@return redio.Command
function M.logging_in(record)
  local key = record.name .. "\0AUTH"
  if not records[key] then
    local entry = {}
    for field, value in pairs(record.entry) do
      entry[field] = value
    end
    entry.auth = true
    records[key] = new_record(record.name, entry)
  end
  return records[key]
end

--- A command that the table does not have.
---@return redio.Command
function M.unknown(name)
  local record = records[name]
  if record then return record end
  if unknown_count == MOST_UNKNOWN then
    -- The words are encoded at each call, and all further commands share one id.
    nameless = nameless or core.command { name = "?" }
    return { name = name, entry = { name = name, reply = "value" }, core = core.command({ name = name }, nameless) }
  end
  unknown_count = unknown_count + 1
  record = new_record(name, { name = name, reply = "value" })
  records[name] = record
  return record
end

--- The name of the command that a method sends.
---@return string?
function M.of_method(method)
  return by_method[method]
end

-- Prefixes of the commands of modules: JSON.SET.
local MODULES = {
  ai = true, bf = true, cf = true, cms = true, ft = true, graph = true, json = true, rg = true, tdigest = true,
  topk = true, ts = true,
}

--- The error text for a method that does not exist.
function M.no_such_method(method)
  local module, rest = method:lower():match "^(%l+)_(.+)$"
  if MODULES[module] then
    local name = (module .. "." .. rest:gsub("_", " ")):upper()
    return ("no command '%s'; that of a module is sent by its name: call(\"%s\", ...)"):format(method, name)
  end
  local near = messages.did_you_mean(method, methods)
  return ("no command '%s'%s; call(\"%s\", ...) sends any"):format(method, near, method:upper())
end

local NO_WORDS = {}

--- Resolves the arguments of `call` to a command, the longest name that the table has. It finds a command in any
--- spelling, since the flags of the command decide which connection it may use.
---@param name string one word or more
---@param first any the argument that follows
---@return redio.Command
---@return string[] words of `name` that are arguments, as they were written
---@return boolean is_taken true when `first` is a part of the name
function M.resolve(name, first)
  local head, rest = name:match "^%s*(%S+)%s*(.*)$"
  head = head:upper()
  local record = M.find(head)
  local container = record and record.entry.container
  if rest == "" then
    local sub = container and type(first) == "string" and M.find(head .. " " .. first:upper())
    return sub or record or M.unknown(head), NO_WORDS, sub and true or false
  end
  local words = {}
  for word in rest:gmatch "%S+" do
    words[#words + 1] = word
  end
  local sub = container and M.find(head .. " " .. words[1]:upper())
  if sub then table.remove(words, 1) end
  return sub or record or M.unknown(head), words, false
end

return M
