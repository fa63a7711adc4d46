-- SPDX-License-Identifier: MIT
--- Lua programs as processes of their own, that find redio where this process does.

local child = {}

local lua = os.getenv "LUA" or "lua5.4"

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function assignment(name, value)
  return quote(name .. "=" .. value)
end

--- Runs a program beside the server at `url`, for at most so many seconds.
---@param path string
---@param url string
---@param seconds? number 30
---@param host? string[] the words that run it: the Lua of the specs
---@return string output what it wrote, also as errors
---@return integer status 124 when it took longer
function child.run(path, url, seconds, host)
  local words = {
    -- Lua 5.3 and 5.4 prefer the names with the version.
    "env -u LUA_PATH_5_3 -u LUA_CPATH_5_3 -u LUA_PATH_5_4 -u LUA_CPATH_5_4",
    "-u LUA_INIT -u LUA_INIT_5_3 -u LUA_INIT_5_4",
    assignment("LUA_PATH", package.path),
    assignment("LUA_CPATH", package.cpath),
    assignment("REDIS_URL", url),
    "timeout --foreground " .. (seconds or 30), -- (in this process group, which Ctrl-C ends)
  }
  for _, word in ipairs(host or { lua }) do
    words[#words + 1] = quote(word)
  end
  words[#words + 1] = quote(path)
  local pipe = assert(io.popen("{ " .. table.concat(words, " ") .. "\n} 2>&1 </dev/null; printf '\\n%d\\n' $?"))
  local output, status = pipe:read("*a"):match("^(.-)\n(%d+)\n$")
  pipe:close()
  return output, tonumber(status)
end

--- Runs a program given as text.
function child.run_text(text, url, seconds, host)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local output, status = child.run(path, url, seconds, host)
  os.remove(path)
  return (output:gsub(path:gsub("%p", "%%%0"), "program")), status
end

return child
