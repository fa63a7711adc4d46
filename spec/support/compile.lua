-- SPDX-License-Identifier: MIT
--- Small C programs and modules for the specs, compiled when they are needed into a directory of their own.

local uv = require "luv"

local compile = {}

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a command; whether it succeeded, and what it printed.
function compile.shell(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo $?"))
  local output, status = pipe:read("*a"):match "^(.-)(%d+)\n$"
  pipe:close()
  return tonumber(status) == 0, output
end

--- A new directory; `compile.remove` takes it away.
function compile.directory()
  return assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
end

function compile.remove(directory)
  compile.shell("rm -rf " .. quote(directory))
end

--- Compiles C source with the headers of the Lua that the specs run on.
---@param directory string
---@param name string of the file to make
---@param source string
---@param flags string such as "-shared -fPIC"; a `%s` in it is the flags that link with that Lua
---@return string? path
---@return string? why not
function compile.c(directory, name, source, flags)
  local path = directory .. "/" .. name
  local file = assert(io.open(path .. ".c", "w"))
  file:write(source)
  file:close()
  local ok, cflags = compile.shell "tools/lua.sh cflags"
  if not ok then
    return nil, cflags
  end
  local _, libraries = compile.shell "tools/lua.sh libs"
  local done, output = compile.shell(("${CC:-cc} -O1 -o %s %s %s %s"):format(quote(path), (cflags:gsub("\n", " ")),
    quote(path .. ".c"), flags:format((libraries:gsub("\n", " ")))))
  if not done then
    return nil, output
  end
  return path
end

return compile
