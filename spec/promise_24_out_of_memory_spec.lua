-- SPDX-License-Identifier: MIT
-- P24: every allocation from the Nth on fails, Lua's and the core's alike, for each N: an error, nothing lost, a
-- connection that is dead rather than confused, and a process that lives. What is run: oom_scenarios.lua.

local lua = os.getenv "LUA" or "lua5.4"

local function run(command, ...)
  local pipe = io.popen(("{ %s\n} </dev/null 2>&1; echo $?"):format(command:format(...)))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return text, tonumber(status)
end

-- The core without TLS, its malloc under the host's name for it.
local BUILD = [[cc=${CC:-cc}
for file in src/*.c; do
  case $file in src/tls.c | src/ltls.c) ;; *) sources="$sources $file" ;; esac
done
$cc -std=c99 -O1 -g -Dmalloc=oom_malloc -Drealloc=oom_realloc -Dfree=oom_free -Isrc $(LUA='%s' tools/lua.sh cflags) \
  $sources spec/support/oom.c $(LUA='%s' tools/lua.sh libs) -lm -o '%s']]

describe("without memory", function()
  it("there are errors, and nothing is lost", function()
    if jit then
      -- a table of LuaJIT's that cannot grow forgets what it has
      return pending "LuaJIT's own tables do not survive it"
    end
    local program = os.tmpname()
    local text, status = run(BUILD, lua, lua, program)
    assert(status == 0, text)
    text, status = run("'%s' spec/support/oom_scenarios.lua", program)
    os.remove(program)
    assert(status == 0, text:sub(-2000))
    local scenarios, allocations = text:match "(%d+) scenarios, (%d+) allocations"
    assert.is_true(tonumber(scenarios) > 100)
    assert.is_true(tonumber(allocations) > 1000)
  end)
end)
