-- SPDX-License-Identifier: MIT
-- Luvit's surroundings of a script, as far as redio notices them, on LuaJIT:
-- - luv is built in under the name "uv", with a libuv of its own (luvit.c).
-- - Each module has a `require` of its own. It looks into the folders libs and deps on the way up, runs Lua files in an
--   environment with `module`, `exports` and `require`, and leaves the rest to Lua's.
-- - The script is a coroutine that starts before the loop does. Luvit itself prints an uncaught error.
-- - At the end all handles are closed.
-- Takes the script's absolute path and returns the exit status.

local uv = require "uv"

local lua_require = require
local modules = {} -- by path

local function folder(path)
  return path:match "^(.*)/[^/]*$"
end

local function existing(path)
  for _, try in ipairs { path, path .. ".lua", path .. "/init.lua" } do
    local stat = uv.fs_stat(try)
    if stat and stat.type == "file" then return try end
  end
end

local function resolve(base, name)
  if name:find "^/" then return existing(name) end
  if name:find "^%." then return existing(base .. "/" .. name) end
  while base do
    local path = existing(base .. "/libs/" .. name) or existing(base .. "/deps/" .. name)
    if path then return path end
    base = folder(base)
  end
end

local run_file

local function requirer(base)
  return function(name)
    if package.preload[name] or package.loaded[name] then return lua_require(name) end
    local path = resolve(base, name)
    if not path then return lua_require(name) end
    return run_file(path)
  end
end

function run_file(path)
  local module = modules[path]
  if module then return module.exports end
  module = { path = path, dir = folder(path), exports = {} }
  modules[path] = module
  local chunk = assert(loadfile(path))
  setfenv(chunk, setmetatable({ module = module, exports = module.exports, require = requirer(module.dir) },
    { __index = _G }))
  local result = chunk()
  if result then module.exports = result end
  return module.exports
end

local function ignore_sigpipe()
  local signal = uv.new_signal()
  uv.signal_start(signal, "sigpipe")
  uv.unref(signal)
end

local function close_all()
  uv.walk(function(handle)
    local function close()
      if not handle:is_closing() then handle:close() end
    end
    if not (handle.shutdown and pcall(handle.shutdown, handle, close)) then close() end
  end)
  uv.run()
end

return function(script)
  ignore_sigpipe()
  local status = 0
  local ok, err = xpcall(function()
    local thread = coroutine.create(run_file)
    local started, why = coroutine.resume(thread, script)
    if not started then error(debug.traceback(thread, why), 0) end
    uv.run()
  end, debug.traceback)
  if not ok then
    status = -1
    io.stderr:write("Uncaught exception:\n", tostring(err), "\n")
  end
  close_all()
  return status
end
