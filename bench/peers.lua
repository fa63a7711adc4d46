-- SPDX-License-Identifier: MIT
-- The peers that are measured, and how to call each. A peer is a program that prints its workloads with --list. If that
-- fails, the peer is missing. (bench/nginx.lua measures lua-resty-redis.)

local M = {}

local lua = os.getenv "LUA" or "lua5.4"
local build = os.getenv "BUILD" or "build"

-- The first python3 that has the module: the one in PATH may not be the one of the installed packages.
local function python(module)
  return ("PYTHON=$(for p in python3 /usr/bin/python3; do $p -c 'import %s' 2>/dev/null && echo $p && break; done); "
    .. "exec $PIN ${PYTHON:-python3}"):format(module)
end

-- `version` is a command that prints the version in one line. $PIN binds the program to its core.
M.list = {
  { name = "hiredis", run = ("exec $PIN %s/bench/hiredis"):format(build), version = "pkg-config --modversion hiredis" },
  { name = "redio", run = ("exec $PIN %s bench/redio.lua"):format(lua), version = "git describe --always --dirty" },
  {
    name = "redis-benchmark",
    run = ("exec $PIN %s bench/redis_benchmark.lua"):format(lua),
    version = "redis-benchmark --version | grep -o '[0-9][0-9.]*' | head -n 1",
  },
  {
    name = "redis-lua",
    run = ("exec $PIN %s bench/redis_lua.lua"):format(lua),
    version = ([[%s -e 'package.path = package.path .. ";" .. package.path:gsub("5%%.4", "5.3")
      print((require "redis"._VERSION:gsub("redis%%-lua ", "")))']]):format(lua),
  },
  {
    name = "redis-py",
    run = python "redis" .. " bench/redis_py.py",
    version = python "redis" .. [[ -c 'import redis
try:
    import hiredis
    print(redis.__version__, "with hiredis", hiredis.__version__)
except ImportError:
    print(redis.__version__, "without hiredis")']],
  },
  {
    name = "aioredis",
    run = python "aioredis" .. " bench/aioredis_1.py",
    version = python "aioredis" .. " -c 'import aioredis; print(aioredis.__version__)'",
  },
  {
    name = "ioredis",
    run = ("NODE_PATH=%s/bench/node_modules exec $PIN node bench/ioredis.js"):format(build),
    version = ("NODE_PATH=%s/bench/node_modules node -p 'require(\"ioredis/package.json\").version'"):format(build),
  },
}

--- Runs a shell command. Returns its output, and true when it succeeded.
function M.shell(script)
  local pipe = assert(io.popen("( " .. script .. "\n) 2>&1 </dev/null; echo \" $?\""))
  local text, status = pipe:read "*a":match "^(.-)\n? (%d+)\n$"
  pipe:close()
  return text, status == "0"
end

--- Runs a peer in a process of its own. Returns its output, and true when it succeeded.
---@param environment string assignments for the shell
function M.call(peer, environment, words)
  return M.shell(("%s; %s %s"):format(environment, peer.run, words))
end

--- Asks every peer for its workloads.
---@return table present each with `knows`, a set, and `says`, its version
---@return string[] missing names and reasons
function M.present(environment)
  local list, missing = {}, {}
  for _, peer in ipairs(M.list) do
    local text, ok = M.call(peer, environment, "--list")
    if ok then
      peer.knows = {}
      for name in text:gmatch "%S+" do
        peer.knows[name] = true
      end
      peer.says = M.shell(peer.version):match "^[^\n]*"
      list[#list + 1] = peer
    else
      missing[#missing + 1] = ("%s: %s"):format(peer.name, text:match "[^\n]*$")
    end
  end
  return list, missing
end

return M
