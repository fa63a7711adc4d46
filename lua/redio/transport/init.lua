-- SPDX-License-Identifier: MIT
-- Which host this is. The only function that picks a transport.

local M = {}

-- The module of the host's transport, and that of its tasks where they are not coroutines of our own.
local function pick()
  local ngx = rawget(_G, "ngx")
  if type(ngx) == "table" and ngx.get_phase then return "redio.transport.ngx", "redio.task.light" end
  return "redio.transport.luv"
end

-- LuaJIT leaves a mark (light userdata, which it may take for a number) at what it was loading when an error came, and
-- does not load it again.
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

--- The tasks of the host, where it alone may resume; nil where they are coroutines of our own.
---@return table?
function M.tasks()
  local _, name = pick()
  return name and require(name)
end

-- It is loaded now, where the program loads redio, and not on whatever coroutine needs it first. An error of redio's
-- own says that this is the wrong place. An error of luv's, or that there is none, is raised when the default transport
-- is needed: a client with options.transport does not need it.
local ok, why = pcall(M.default)
if not ok and tostring(why):find "^redio " then error(why, 0) end

return M
