-- SPDX-License-Identifier: MIT
-- with_server.lua COMMAND...: starts a redis-server, runs a command with its address in REDIS_URL (TCP) and
-- REDIS_UNIX_URL, and stops the server afterwards, also when the command fails.

local uv = require "luv"
local server = require "spec.support.server"

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local words = {}
for i, word in ipairs(arg) do
  words[i] = quote(word)
end

local own = server.start()
uv.os_setenv("REDIS_URL", own.url)
uv.os_setenv("REDIS_UNIX_URL", own.unix_url)
local ok, _, code = os.execute(table.concat(words, " "))
own:stop()
if type(ok) == "number" then -- Lua 5.1 and LuaJIT give the status of wait()
  code = math.floor(ok / 256)
  code = ok ~= 0 and code == 0 and 1 or code
end
os.exit(code)
