-- SPDX-License-Identifier: MIT
-- Promise 24, out of memory: every allocation from the Nth on fails, Lua's, the core's and OpenSSL's alike, for each N.
-- The result is an error; nothing is lost, the connection is dead and not confused, and the process lives. The programs
-- are oom_scenarios.lua and oom_tls_scenarios.lua. OpenSSL makes tens of thousands of N, of which some run, or all by
-- OOM_STRIDE=1.
--
-- Slow: tools/test.sh starts it first.

local uv = require "luv"
local certificates = require "spec.support.certificates"

local lua = os.getenv "LUA" or "lua5.4"

local function run(command, ...)
  local pipe = io.popen(("{ %s\n} </dev/null 2>&1; echo $?"):format(command:format(...)))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return text, tonumber(status)
end

-- The sources, their malloc under the host's name for it; with what else it takes, to compile and to link.
local BUILD = [[${CC:-cc} -std=c99 -O1 -g -Dmalloc=oom_malloc -Drealloc=oom_realloc -Dfree=oom_free -Isrc \
  $(LUA='%s' tools/lua.sh cflags) %s spec/support/oom.c $(LUA='%s' tools/lua.sh libs) %s -lm -o '%s']]

local CORE = "$(ls src/*.c | grep -v tls) spec/support/oom_core.c"
local TLS = "$(tools/openssl.sh cflags) src/tls.c src/ltls.c src/lbind.c spec/support/oom_tls.c"

describe("without memory", function()
  local program

  if jit then
    -- a table of LuaJIT's that cannot grow forgets what it has
    return pending "LuaJIT's own tables do not survive it"
  end

  before_each(function()
    program = os.tmpname()
  end)

  after_each(function()
    os.remove(program)
  end)

  -- Returns how many scenarios, and how many allocations there were in them.
  local function try(sources, libraries, command)
    local text, status = run(BUILD, lua, sources, lua, libraries, program)
    assert(status == 0, text)
    text, status = run(command, program)
    assert(status == 0, text:sub(-2000))
    local scenarios, allocations = text:match "(%d+) scenarios, (%d+) allocations"
    return tonumber(scenarios), tonumber(allocations)
  end

  it("there are errors, and nothing is lost", function()
    local scenarios, allocations = try(CORE, "", "'%s' spec/support/oom_scenarios.lua")
    assert.is_true(scenarios > 100)
    assert.is_true(allocations > 1000)
  end)

  it("nor over TLS, and no server is trusted for want of memory", function()
    local seed = os.getenv "SEED" or math.floor(uv.hrtime() % 1000007)
    print("promise 24: SEED=" .. seed)
    local certs = certificates.make()
    local command = ("SEED=%s OOM_STRIDE=%s '%%s' spec/support/oom_tls_scenarios.lua '%s'"):format(seed,
      os.getenv "OOM_STRIDE" or 100, certs.dir)
    local ok, scenarios, allocations = pcall(try, TLS, "$(tools/openssl.sh libs)", command)
    certs:remove()
    assert(ok, scenarios)
    assert.is_true(scenarios >= 14)
    assert.is_true(allocations > 10000)
  end)
end)
