-- SPDX-License-Identifier: MIT
-- examples/embed: a program with Lua states and loops of its own, in two threads. And a library for any host must not
-- bring a libuv or a Lua.

local child = require "spec.support.child"
local compile = require "spec.support.compile"
local server = require "spec.support.server"

local lua = os.getenv "LUA" or "lua5.4"
local build = os.getenv "BUILD" or "build"

local function sorted(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    lines[#lines + 1] = line
  end
  table.sort(lines)
  return lines
end

describe("A program that embeds Lua", function()
  if os.getenv "REDIO_SANITIZED" then
    it("", function()
      pending "a program of our own has no sanitizers"
    end)
    return
  end

  local private, directory, program, reason

  setup(function()
    private = server.start()
    directory = compile.directory()
    local ok, output = compile.shell(("make -C examples/embed LUA='%s' OUT='%s/embed'"):format(lua, directory))
    program, reason = ok and directory .. "/embed", output
  end)

  teardown(function()
    private:stop()
    compile.remove(directory)
  end)

  -- Runs the program with a script given as text; how it ended, what it printed.
  local function run(script)
    local output, status = child.run_text(script, private.url, 30, { program })
    return status, output
  end

  it("is compiled by its own Makefile", function()
    assert(program, reason)
  end)

  it("runs the example: two threads, each with a loop for two states", function()
    local output, status = child.run("examples/embed/script.lua", private.url, 30, { program })
    assert.same({
      "thread 1, state 1\t100\ta message",
      "thread 1, state 2\t100\ta message",
      "thread 2, state 1\t100\ta message",
      "thread 2, state 2\t100\ta message",
    }, sorted(output))
    assert.equal(0, status)
    assert.equal("0", private:cli "dbsize")
  end)

  it("may close its states while clients are open, chains are in flight, and handles were dropped", function()
    local status, output = run [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      kept = { redis, redis() }
      redio.spawn(function()
        kept[2]:incr("embed:closed"):await()
        kept[3] = redis:pubsub("embed:channel"):connect()
        kept[4] = redis:connection()
        kept[4]:ping():await()
        require "luv".stop()
      end)
      redio.spawn(function() redis():blpop("embed:none", 0):await() end)
      redio.Redis(os.getenv "REDIS_URL")():ping()
    ]]
    assert.equal("", (output:gsub("redio: warning: a handle was collected[^\n]*\n", "")))
    assert.equal(0, status)
    assert.equal("4", private:cli("get", "embed:closed"))
    private:cli("del", "embed:closed")
  end)

  it("that says when it runs the loop is told where nothing can wait", function()
    local status, output = run [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        timer:close()
        local ok, err = pcall(redio.sleep, 0.01)
        print(ok, (tostring(err):match "this would wait, but here nothing can"))
        redio.spawn(function() redis():ping():await() print "a task can" redis:close() end)
      end)
    ]]
    assert.same({
      "a task can", "a task can", "a task can", "a task can",
      "false\tthis would wait, but here nothing can", "false\tthis would wait, but here nothing can",
      "false\tthis would wait, but here nothing can", "false\tthis would wait, but here nothing can",
    }, sorted(output))
    assert.equal(0, status)
  end)

  it("that does not say so has its loop to itself all the same, while what closes is a coroutine", function()
    local status, output = run [[
      local redio = require "redio"
      require "redio.transport.luv".in_loop = function() return false end
      local uv = require "luv"
      local runs, run = 0, uv.run
      uv.run = function(...) runs = runs + 1 return run(...) end
      local redis = redio.Redis(os.getenv "REDIS_URL")
      coroutine.wrap(function()
        local receiver, handle = redis:pubsub("embed:channel"):connect(), redis:connection()
        handle:ping():await()
        handle:close()
        receiver:close()
        redis:close()
        print(runs)
      end)()
    ]]
    assert.equal("0\n0\n0\n0\n", output)
    assert.equal(0, status)
  end)

  it("may also run a script that runs the loop itself: the quickstart, unchanged", function()
    local file = assert(io.open "examples/quickstart.lua")
    local text = file:read "*a"
    file:close()
    -- four at once would count the same keys
    local status, output = run([[if (...) ~= "thread 1, state 1" then return end ]] .. text)
    assert.equal("Got values:\tHello\t42\nHash:\t2\tAda\t1815\nTransaction:\t43\t44\n", output)
    assert.equal(0, status)
  end)
end)

describe("The libraries", function()
  for _, name in ipairs { "core", "tls" } do
    it(name .. ".so brings neither libuv nor Lua: the host has them", function()
      local ok, output = compile.shell(("ldd '%s/redio/%s.so'"):format(build, name))
      assert(ok, output)
      assert.matches("libc%.so", output)
      assert.is_nil(output:find("libuv", 1, true))
      assert.is_nil(output:find("lua", 1, true))
    end)
  end
end)
