-- SPDX-License-Identifier: MIT
-- Promise 25, fork and threads: a connection that was inherited over fork is refused in the child, and the child never
-- touches it. Several Lua states in threads of one process do not interfere.

local server = require "spec.support.server"
local child = require "spec.support.child"
local compile = require "spec.support.compile"

-- fork() -> 0 in the child, its process id in the parent; wait(pid) -> its exit status
local FORK = [[
#include <lauxlib.h>
#include <lua.h>
#include <sys/wait.h>
#include <unistd.h>

static int l_fork(lua_State *L) {
  lua_pushinteger(L, fork());
  return 1;
}

static int l_wait(lua_State *L) {
  int status = 0;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
  return 1;
}

int luaopen_forking(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, l_fork);
  lua_setfield(L, -2, "fork");
  lua_pushcfunction(L, l_wait);
  lua_setfield(L, -2, "wait");
  return 1;
}
]]

-- Runs the script in its arguments' first place in as many threads as the second says, each with a Lua
-- state of its own and its number in the global `thread`; three times.
local THREADS = [[
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const char *script;

static void *run(void *number) {
  lua_State *L = luaL_newstate();
  void *failed = NULL;
  luaL_openlibs(L);
  lua_pushinteger(L, (lua_Integer)(size_t)number);
  lua_setglobal(L, "thread");
  if (luaL_loadfile(L, script) || lua_pcall(L, 0, 0, 0)) {
    fprintf(stderr, "thread %d: %s\n", (int)(size_t)number, lua_tostring(L, -1));
    failed = number;
  }
  lua_close(L);
  return failed;
}

int main(int argc, char **argv) {
  int round, i, count = argc > 2 ? atoi(argv[2]) : 2, failed = 0;
  pthread_t threads[16];
  script = argv[1];
  for (round = 0; round < 3; round++) {
    for (i = 0; i < count; i++)
      pthread_create(&threads[i], NULL, run, (void *)(size_t)(i + 1));
    for (i = 0; i < count; i++) {
      void *result;
      pthread_join(threads[i], &result);
      failed |= result != NULL;
    }
  }
  return failed;
}
]]

describe("Promise 25, fork and threads:", function()
  local shared, directory, old_cpath

  setup(function()
    shared = server.shared()
    directory = compile.directory()
    assert(compile.c(directory, "forking.so", FORK, "-shared -fPIC"))
    old_cpath = package.cpath
    package.cpath = directory .. "/?.so;" .. package.cpath -- child programs find it, too
  end)

  teardown(function()
    package.cpath = old_cpath
    compile.remove(directory)
  end)

  -- Runs a program that forks: `in_child` in the child, with what `before` made; then `after` in the parent.
  -- The child's findings go by its exit status: 0 is well.
  local function forked(before, in_child, after)
    local output, status = child.run_text(([[
      io.stdout:setvbuf "no"
      local redio, forking, uv = require "redio", require "forking", require "luv"
      local URL = os.getenv "REDIS_URL"
      local redis = redio.Redis(URL, { timeout = 5 })
      %s
      local pid = forking.fork()
      if pid == 0 then
        local ok, err = xpcall(function()
          %s
        end, debug.traceback)
        if not ok then print("child: " .. tostring(err)) end
        os.exit(ok and 0 or 3, true)
      end
      local status = forking.wait(pid)
      assert(status == 0, "the child ended with " .. status)
      %s
      print "parent: well"
    ]]):format(before, in_child, after), shared.url, 20)
    assert.are.equal("parent: well\n", output)
    assert.are.equal(0, status)
  end

  -- The parent's connections are the same as before, and work.
  local SAME = [[
    assert(redis():client_id():await() == id, "the parent's connection is another one")
    assert(redis():echo "parent":await() == "parent")
  ]]
  local REFUSED = [[
    local function refused(fn, ...)
      local ok, err = pcall(fn, ...)
      assert(not ok and redio.errors.is(err, "ConnectionError"), tostring(err))
      assert(err.message:find "fork", err.message)
    end
  ]]

  it("the shared connection: refused in the child, unharmed in the parent", function()
    forked("local id = redis():client_id():await()", REFUSED .. [[
      refused(function() redis():get "spec:p25":await() end)
      refused(function() redis():get "spec:p25":await() end) -- nor is another one made
    ]], SAME)
  end)

  it("a child that does nothing with it, closes it, collects it, or leaves: the parent's stay open", function()
    for _, act in ipairs {
      "", "redis:close()", "redis:close { drain = 0 }", "redis:disconnect()",
      "redis = nil collectgarbage() collectgarbage()",
      "redis = nil collectgarbage() uv.run 'nowait' collectgarbage()", "os.exit(0, true)", "os.exit(0, false)",
    } do
      forked("local id = redis():client_id():await()", act, SAME)
    end
  end)

  -- The write was refused in the coroutine that was about to wait for it, which ended the process.
  it("a chain of any size: refused in the child before a byte of it is taken", function()
    forked("local id = redis():client_id():await()", REFUSED .. [[
      for _, size in ipairs { 100, 9000, 20000, 1000000 } do
        redio.run(function()
          local ok, err = pcall(function()
            redis():set("spec:p25", ("x"):rep(size)):await()
          end)
          assert(not ok and err.message:find "fork", tostring(err))
          assert(err.sent == "no", err.sent)
        end)
      end
    ]], SAME)
  end)

  it("private ones: pooled, pinned, watching, in MULTI", function()
    forked([[
      local id = redis():client_id():await()
      redis():blpop("spec:p25:none", 0.01):await() -- leaves one in the pool
      local pinned, watching, multi = redis:connection(), redis(), redis()
      local pinned_id = pinned:client_id():await()
      watching:set("spec:p25", 1):watch("spec:p25"):await()
      multi:multi():incr("spec:p25"):await()
    ]], REFUSED .. [[
      refused(function() pinned:ping():await() end)
      refused(function() watching:get("spec:p25"):await() end)
      refused(function() multi:exec():await() end)
      refused(function() redis():blpop("spec:p25:none", 0.01):await() end)
      pinned:close() watching:close() multi:close()
    ]], SAME .. [[
      assert(pinned:client_id():await() == pinned_id)
      watching:close()
      assert(multi:exec():await()[1] == 2)
      redis():del "spec:p25":await()
    ]])
  end)

  it("a receiver: the child is refused, the parent gets its messages", function()
    forked([[
      local receiver = redis:pubsub("spec:p25"):connect()
      local id = redis():client_id():await()
    ]], REFUSED .. [[
      refused(function() redio.with_timeout(1, receiver.await, receiver:subscribe "another") end)
      receiver:close()
    ]], SAME .. [[
      redis():publish("spec:p25", "to the parent"):await()
      assert(redio.with_timeout(2, receiver.await, receiver) == "to the parent")
      receiver:close()
    ]])
  end)

  it("bytes that the parent had not yet written are not written by the child", function()
    forked([[
      local id = redis():set("spec:p25:n", 0):client_id():await()
      local co = coroutine.wrap(function() pcall(function() redis():incr("spec:p25:n"):await() end) end)
      co() -- queued for the next turn of the loop
    ]], [[
      collectgarbage()
      uv.run "nowait"
    ]], [[
      assert(redis():get("spec:p25:n"):await() == "1", "incremented twice, or never")
    ]] .. SAME .. [[ redis():del("spec:p25:n"):await() ]])
  end)

  it("a fork before anything was connected: each has its own", function()
    local output, status = child.run_text([[
      io.stdout:setvbuf "no"
      local forking = require "forking"
      local pid = forking.fork()
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      for i = 1, 100 do
        local token = tostring(pid == 0) .. i
        assert(redis():echo(token):await() == token)
      end
      redis:close()
      if pid ~= 0 then assert(forking.wait(pid) == 0) print "well" end
    ]], shared.url, 20)
    assert.are.equal("well\n", output)
    assert.are.equal(0, status)
  end)

  it("four Lua states in four threads: every reply its own, also when the states are closed", function()
    if os.getenv "REDIO_SANITIZED" then
      return pending "a program of our own has no sanitizers"
    end
    local program = assert(compile.c(directory, "threads", THREADS, "-Wl,-E -pthread %s -lm -ldl"))
    local script = directory .. "/thread.lua"
    local file = assert(io.open(script, "w"))
    file:write [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      local name = "spec:p25:thread:" .. thread
      redio.run(function()
        local fns = {}
        for i = 1, 10 do
          fns[i] = function()
            for j = 1, 100 do
              local token = name .. ":" .. i .. ":" .. j
              assert(redis():echo(token):await() == token)
            end
            redis:transaction(name, function(db) db:incr(name) end)
          end
        end
        local receiver = redis:pubsub(name):connect()
        redio.gather((table.unpack or unpack)(fns))
        redis():publish(name, "mine"):await()
        assert(receiver:await() == "mine")
        receiver:close()
        local ok, err = pcall(function() redis():lpush(name, 1):await() end)
        assert(not ok and redio.errors.is(err, "WrongTypeError"))
        redis():del(name):await()
      end)
      redis:close()
    ]]
    file:close()
    -- (the program takes the script and the number of threads as its arguments)
    local pipe = assert(io.popen(("REDIS_URL=%s LUA_PATH='%s' LUA_CPATH='%s' timeout 20 %s %s 4 2>&1; echo $?"):format(
      shared.url, package.path, package.cpath, program, script)))
    local output = pipe:read "*a"
    pipe:close()
    assert.are.equal("0\n", output)
  end)

  it("the core has no state of its own outside the Lua states: no writable static data", function()
    local path = (os.getenv "BUILD" or "build") .. "/redio/core.so"
    local pipe = assert(io.popen("nm " .. path .. " 2>/dev/null"))
    local found = {}
    for line in pipe:lines() do
      local kind, name = line:match " ([bBdD]) (%S+)$"
      -- (names with _ belong to the compiler and the linker)
      if kind and not name:find "^_" and not name:find "^completed" and not name:find "^__" then
        found[#found + 1] = kind .. " " .. name
      end
    end
    pipe:close()
    -- (tables of constants that hold addresses are written once, by the loader)
    for _, entry in ipairs(found) do
      assert.is_nil(entry:find "^[bB]", entry)
    end
  end)
end)
