-- SPDX-License-Identifier: MIT
-- Finding a command by its name or its method's, and its descriptor for the core, made when it is first used.

local commands = require "redio.command.table"
local core = require "redio.core"
local messages = require "redio.base.messages"
local trailing = require "redio.command.trailing"

local M = {}

---@class redio.Command
---@field name string "CONFIG GET"
---@field entry table its line in commands.lua
---@field core userdata what core.encode takes

local records = {} -- name -> record
local by_method = {} -- method -> name

local methods = {} -- all of them, for hints
for name in pairs(commands) do
  local method = name:lower():gsub("[ -]", "_")
  by_method[method] = name
  methods[#methods + 1] = method
end
by_method.delete = "DEL"

-- A name that nobody knows is sent as it is; so many different ones get a name in error texts.
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

--- The command of that name, in upper case, words apart by one space; nil when the table does not have it.
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

--- A command of which only some calls log in, for such a call.
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
    -- its words are encoded each time, but all share one id
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

-- Commands of modules have a dot behind these.
local MODULES = {
  ai = true, bf = true, cf = true, cms = true, ft = true, graph = true, json = true, rg = true, tdigest = true,
  topk = true, ts = true,
}

--- What to say of a method that is none.
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

--- The command that a text and perhaps the argument behind it name: the longest that the table has. However it is
--- spelled, a command that leaves something behind is found, for its flags decide which connection takes it.
---@param name string one word or more
---@param first any the argument that follows
---@return redio.Command
---@return string[] words of the text that are no part of the name, as they were written
---@return boolean is_taken `first` is part of the name
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
