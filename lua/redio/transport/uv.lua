-- SPDX-License-Identifier: MIT
-- The host's luv.
-- Specs: hosts/luvit, hosts/neovim

-- A luv that is built into the host comes first, because its loop is the one that runs. Luvit calls it "uv".
local function built_in(name)
  return package.loaded[name] or package.preload[name]
end
local uv_name = built_in "uv" and not built_in "luv" and "uv" or "luv"

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

-- luv runs all callbacks on the coroutine that loads it. Only the main one is sure to be there, and free, when they
-- run.
if not package.loaded[uv_name] and not is_main() and is_installed(uv_name) then
  error("redio cannot be loaded first in a coroutine: it would load luv here, which calls back on the coroutine that "
    .. "loads it; require \"redio\" (or \"luv\") outside of coroutines first, at the top of the program", 0)
end

return require(uv_name)
