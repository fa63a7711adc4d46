-- SPDX-License-Identifier: MIT
-- Picks the transport of the host. This happens in one function of this file, and nowhere else.
-- Specs: hosts/transport

local M = {}

local function pick()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and ngx.get_phase and "redio.transport.ngx" or "redio.transport.luv"
end

-- When loading a module fails, LuaJIT leaves a marker in package.loaded (a light userdata, which may read as a number)
-- and does not load the module again. This removes the markers.
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

--- The module by which tasks wait, if the default transport names one (task/init.lua).
---@return string? name
function M.tasks()
  local ok, transport = pcall(M.default)
  return ok and transport.tasks or nil
end

-- Loads the transport together with redio, because luv must not be loaded in a coroutine. redio's own error about that
-- is raised here. Any other error, such as a missing luv, is raised when the default transport is first needed: a
-- client with options.transport works without.
local ok, why = pcall(M.default)
if not ok and tostring(why):find "^redio " then error(why, 0) end

return M
