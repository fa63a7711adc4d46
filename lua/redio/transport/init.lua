-- SPDX-License-Identifier: MIT
-- Finds the host: here is the only function that picks a transport.

local M = {}

local function pick()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and ngx.get_phase and "redio.transport.ngx" or "redio.transport.luv"
end

-- LuaJIT leaves a mark (light userdata, which may look like a number) for a module that could not be loaded, and does
-- not load it again.
local function forget_failed()
  for name, value in pairs(package.loaded) do
    local is_mark = type(value) == "userdata" or type(value) == "number"
    if is_mark and tostring(name):find "^redio" then package.loaded[name] = nil end
  end
end

--- The transport of the host that runs this program.
---@return table transport see docs/transports.md
function M.default()
  local name = pick()
  local loaded = package.loaded[name]
  if type(loaded) == "table" then return loaded end
  local ok, result = pcall(require, name)
  if ok then return result end
  forget_failed()
  error(result, 0)
end

--- The module by which tasks wait on this host, if the default transport names one (see task/init.lua).
---@return string? name
function M.tasks()
  local ok, transport = pcall(M.default)
  return ok and transport.tasks or nil
end

-- The transport is loaded now, where the program loads redio, and not in the coroutine that happens to need it first.
-- An error of redio's own says that this is the wrong place, and is raised here. Any other error, as that luv is
-- missing, is raised when the default transport is needed: a client with options.transport does not need it.
local ok, why = pcall(M.default)
if not ok and tostring(why):find "^redio " then error(why, 0) end

return M
