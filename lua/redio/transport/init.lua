-- SPDX-License-Identifier: MIT
-- Which host this is. The only function that picks a transport.

local M = {}

-- The module of the host's transport, and that of its tasks where they are not coroutines of our own.
local function pick()
  local ngx = rawget(_G, "ngx")
  if type(ngx) == "table" and ngx.get_phase then return "redio.transport.ngx", "redio.light" end
  return "redio.transport.luv"
end

local function is_main()
  local co, is_the_main_one = coroutine.running()
  return not co or is_the_main_one == true
end

local function is_installed(name)
  for _, searcher in ipairs(rawget(package, "searchers") or rawget(package, "loaders")) do
    local ok, loader = pcall(searcher, name)
    if ok and type(loader) == "function" then return true end
  end
  return false
end

-- LuaJIT leaves a mark (light userdata, which it may take for a number) at what it was loading when an error came, and
-- does not load it again.
local function forget_failed()
  for name, value in pairs(package.loaded) do
    local is_mark = type(value) == "userdata" or type(value) == "number"
    if is_mark and tostring(name):find "^redio" then package.loaded[name] = nil end
  end
end

-- luv calls back on the coroutine that loads it, for good: on a stack that is in use, or gone, unless it is the main one.
local function check_coroutine(name)
  if name ~= "redio.transport.luv" or is_main() then return end
  if package.loaded.luv or package.loaded.uv or not is_installed "luv" then return end
  forget_failed()
  error("redio cannot be loaded first in a coroutine: it would load luv here, which calls back on the coroutine that "
    .. "loads it; require \"redio\" (or \"luv\") outside of coroutines first, at the top of the program", 0)
end

--- The transport of the host that runs this program.
---@return table transport see docs/transports.md
function M.default()
  local name = pick()
  if type(package.loaded[name]) == "table" then return package.loaded[name] end
  check_coroutine(name)
  local ok, loaded = pcall(require, name)
  if ok then return loaded end
  package.loaded[name] = nil
  error(loaded, 0)
end

--- The tasks of the host, where it alone may resume; nil where they are coroutines of our own.
---@return table?
function M.tasks()
  local _, name = pick()
  return name and require(name)
end

-- It is loaded now, where the program loads redio, and not on whatever coroutine needs it first. Where there is no luv,
-- what needs it will say so; options.transport does not.
check_coroutine((pick()))
pcall(M.default)

return M
