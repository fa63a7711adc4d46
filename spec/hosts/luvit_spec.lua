-- SPDX-License-Identifier: MIT
-- redio in Luvit. No distribution packages it, so that spec/support/luvit.lua rebuilds its special surroundings.

local child = require "spec.support.child"
local compile = require "spec.support.compile"
local server = require "spec.support.server"

local uv = require "luv"

local ROOT = uv.cwd()
local LUV = "-rdynamic %s -l:liblua5.1-luv.a -l:libuv_a.a -lpthread -ldl -lrt"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

describe("In Luvit", function()
  local reason = not jit and "Luvit is LuaJIT: make test LUA=luajit"
    or os.getenv "REDIO_SANITIZED" and "a program of our own has no sanitizers"
  if reason then
    it("", function()
      pending(reason)
    end)
    return
  end

  local private, directory, luvit

  setup(function()
    private = server.start()
    directory = compile.directory()
    luvit = assert(compile.c(directory, "luvit", read "spec/support/luvit.c", LUV))
  end)

  teardown(function()
    private:stop()
    compile.remove(directory)
  end)

  local function run(path)
    return child.run(path, private.url, 30, { luvit, "spec/support/luvit.lua" })
  end

  local function run_text(text)
    write(directory .. "/main.lua", text)
    return run(directory .. "/main.lua")
  end

  for path in io.popen("ls examples/*.lua"):lines() do
    it(path .. " prints what it prints elsewhere, unchanged", function()
      local expected = child.run(path, private.url)
      local output, status = run(ROOT .. "/" .. path)
      assert.equal(expected, output)
      assert.equal(0, status)
    end)
  end

  it("the luv that is built in is used, and no other libuv loaded, though luv lies on Lua's path", function()
    local output, status = run_text [[
      local redio = require "redio"
      assert(package.searchpath("luv", package.cpath))
      print(redio.Redis(os.getenv "REDIS_URL")():ping():echo "well":await())
      assert(not package.loaded.luv)
      assert(not io.open "/proc/self/maps":read "*a":find("libuv", 1, true))
    ]]
    assert.equal("well\n", output)
    assert.equal(0, status)
  end)

  it("it is required by Lua's paths, also by name of its file", function()
    local text = ([[
      package.path, package.cpath = %q, %q
      local redio = require(%q .. "/lua/redio/init.lua")
      local redis = redio.Redis(os.getenv "REDIS_URL")
      assert(getmetatable(redis) == getmetatable(require "redio.client".new()))
      print(redis():echo "well":await())
    ]]):format(ROOT .. "/lua/?.lua;" .. ROOT .. "/lua/?/init.lua", package.cpath, ROOT)
    local output, status = run_text(text)
    assert.equal("well\n", output)
    assert.equal(0, status)
  end)

  it("modules can wait while they are loaded; by Lua's require, which cannot yield, until the loop runs", function()
    write(directory .. "/luvs.lua", [[
      local redio = require "redio"
      return { (redio.Redis(os.getenv "REDIS_URL")():echo "Luvit's":await()) }
    ]])
    write(directory .. "/luas.lua", [[
      local redio = require "redio"
      return { (redio.Redis(os.getenv "REDIS_URL")():echo "Lua's":await()) }
    ]])
    local output, status = run_text(([[
      package.path = %q .. "/?.lua;" .. package.path
      print(require "luas"[1])
      print(require "./luvs"[1])
      package.loaded.luas = nil
      print(pcall(require, "luas"))
    ]]):format(directory))
    assert.matches("Lua's\nLuvit's\nfalse\tthis would wait, but here nothing can", output)
    assert.equal(0, status)
  end)

  it("logs in to servers of every generation", function()
    local output, status = child.run(ROOT .. "/spec/support/login_program.lua", private.url, 60,
      { luvit, "spec/support/luvit.lua" })
    assert.equal("well\n", output)
    assert.equal(0, status)
  end)

  it("its own timers go on while a coroutine waits", function()
    local output, status = run_text [[
      local redio = require "redio"
      local uv = require "uv"
      local ticks, timer = 0, uv.new_timer()
      timer:start(10, 10, function() ticks = ticks + 1 end)
      local redis = redio.Redis(os.getenv "REDIS_URL")
      redis():blpop("luvit:none", 0.3):await()
      timer:close()
      print(ticks > 10, coroutine.running() ~= nil)
    ]]
    assert.equal("true\ttrue\n", output)
    assert.equal(0, status)
  end)

  it("an error before the first wait is Luvit's to report", function()
    local output, status = run_text [[
      local redio = require "redio"
      redio.Redis("nonsense://")
    ]]
    assert.matches("^Uncaught exception:\n.*nonsense", output)
    assert.equal(255, status)
  end)

  it("an error after a wait, in the script, a coroutine or a task, is reported, and the process lives", function()
    local prelude = [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
    ]]
    for _, text in ipairs {
      [[redis():ping():await() error "lost"]],
      [[coroutine.wrap(function() redis():ping():await() error "lost" end)()]],
      [[redio.spawn(function() redis():ping():await() error "lost" end) collectgarbage()
        redis():ping():await() redio.sleep(0.05) collectgarbage() collectgarbage()]],
    } do
      local output, status = run_text(prelude .. text)
      assert.matches("^redio: uncaught error: [^\n]*main.lua:%d+: lost\nstack traceback:", output)
      assert.equal(0, status)
    end
  end)

  it("may leave with clients open, chains in flight, and receivers that wait: Luvit closes all handles", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      kept = { redis, redis:pubsub("luvit:channel"):connect(), redis:connection() }
      coroutine.wrap(function() kept[2]:await() end)()
      coroutine.wrap(function() redis():blpop("luvit:none", 0):await() end)()
      redis():ping():await()
      print "left"
      require "uv".stop()
    ]]
    assert.equal("left\n", output)
    assert.equal(0, status)
  end)
end)
