-- SPDX-License-Identifier: MIT
--- All spellings of a command that a handle takes: its method, call(), in pieces, as one text, in any case.

local lua_version = require "redio.base.lua_version"

local spellings = {}

--- Functions that each queue the command on the handle that they are given, and what to call them.
---@param words string[] the command's name, "CLIENT REPLY", then its arguments
---@return table[] list of {name, fun(handle): handle}
function spellings.of(words)
  local name, rest = words[1], { lua_version.unpack(words, 2) }
  local text = table.concat(words, " ")
  local list = {}
  local function add(how, fn)
    list[#list + 1] = { text .. " by " .. how, fn }
  end
  add("call", function(db) return db:call(name, lua_version.unpack(rest)) end)
  add("call in lower case", function(db) return db:call(name:lower(), lua_version.unpack(rest)) end)
  add("its method", function(db) return db[name:lower():gsub("[ -]", "_")](db, lua_version.unpack(rest)) end)
  add("one text", function(db) return db:call(text) end)
  add("one text in odd clothes", function(db) return db:call("\t" .. text:lower():gsub(" ", "  ") .. "\n") end)
  local container, sub = name:match "^(%S+) (%S+)$"
  if container then
    add("its container's method", function(db) return db[container:lower()](db, sub, lua_version.unpack(rest)) end)
    add("call in pieces", function(db) return db:call(container, sub:lower(), lua_version.unpack(rest)) end)
    add("call with spaces", function(db)
      return db:call("  " .. container .. "   " .. sub .. " ", lua_version.unpack(rest))
    end)
  end
  return list
end

return spellings
