-- SPDX-License-Identifier: MIT
-- Assertions and helpers of most specs: errors by kind, misuse by line, both protocols, time limits, lists of the
-- server's clients, programs in an interpreter of their own.

local redio = require "redio"

local check = {}

--- Calls `fn`, which has to raise an error object of `kind`, and returns that object.
function check.raises(kind, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then
    error("nothing was raised, " .. kind .. " was expected", 2)
  end
  if not redio.errors.is(err, kind) then
    error(kind .. " was expected, not " .. tostring(err), 2)
  end
  return err
end

--- Calls `fn`, which has to raise a plain Lua error at one of its own lines; returns its text.
function check.misuse(fn)
  local ok, err = pcall(fn)
  if ok then
    error("nothing was raised", 2)
  end
  if type(err) ~= "string" then
    error("a plain error was expected, not " .. tostring(err), 2)
  end
  local here = debug.getinfo(fn, "S")
  local file, line, text = err:match("^(.-):(%d+): (.*)$")
  line = tonumber(line)
  if file ~= here.short_src or line < here.linedefined or line > here.lastlinedefined then
    error("raised elsewhere than at the caller's line: " .. err, 2)
  end
  return text
end

--- Runs `fn` as a task; after `seconds` it is cancelled and fails, so that a spec never hangs.
function check.within(seconds, fn, ...)
  return redio.run(redio.with_timeout, seconds, fn, ...)
end

--- Calls `fn(protocol)` under RESP2 and under RESP3.
function check.protocols(fn)
  fn(2)
  fn(3)
end

--- Waits until `fn` answers something true, at most two seconds; returns what it last answered.
function check.eventually(fn)
  local answer
  for _ = 1, 100 do
    answer = fn()
    if answer then
      break
    end
    redio.sleep(0.02)
  end
  return answer
end

--- The fields of the server's INFO as a table of strings.
function check.info(redis, section)
  local fields = {}
  for field, value in redis():info(section):await():gmatch("([%w_]+):([^\r\n]*)") do
    fields[field] = value
  end
  return fields
end

--- The server's CLIENT LIST, one table of strings per client; only those called `name`.
function check.clients(redis, name)
  local list = {}
  for line in redis():client_list():await():gmatch("[^\n]+") do
    local client = {}
    for field, value in line:gmatch("([%w-]+)=(%S*)") do
      client[field] = value
    end
    if not name or client.name == name then
      list[#list + 1] = client
    end
  end
  return list
end

--- Deletes the keys that start with `prefix`.
function check.wipe(redis, prefix)
  local keys = redis():keys(prefix .. "*"):await()
  if #keys > 0 then
    redis():del(keys):await()
  end
end

--- Runs Lua source in an interpreter of its own; returns its output (both streams) and exit status.
function check.script(source, command)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(source)
  file:close()
  local lua = os.getenv("LUA") or "lua5.4"
  local pipe = io.popen((command or "%s"):format(lua) .. " " .. path .. " 2>&1; echo $?")
  local text = pipe:read("*a")
  pipe:close()
  os.remove(path)
  local output, status = text:match("^(.-)(%d+)\n$")
  return output, tonumber(status)
end

--- A function from source that only Lua 5.4 can compile, or nil where it cannot.
function check.lua54(source, ...)
  local chunk = (loadstring or load)(source) -- luacheck: ignore loadstring
  return chunk and chunk(...)
end

return check
