-- SPDX-License-Identifier: MIT
-- redio in Neovim: LuaJIT, a luv of its own, and a loop that Neovim runs without luv's knowledge.

local child = require "spec.support.child"
local compile = require "spec.support.compile"
local server = require "spec.support.server"

-- The editor runs the script that is its argument, without a screen and without a user's settings. With `leave` it ends
-- behind the script, else when the script says so.
local EDITOR = [[#!/bin/sh
NVIM_LOG_FILE=/dev/null exec nvim --headless -u NONE -i NONE -n -c "luafile $2" -c "$1"
]]

-- Without a screen print() has ideas of its own about blanks and ends of lines.
local function plain(output)
  return (output:gsub("%s+", ""))
end

describe("In Neovim", function()
  local reason = not jit and "Neovim is LuaJIT: make test LUA=luajit"
    or os.getenv "REDIO_SANITIZED" and "the editor has no sanitizers"
    or not compile.shell "command -v nvim" and "there is no nvim: tools/setup.sh hosts"
  if reason then
    it("", function()
      pending(reason)
    end)
    return
  end

  local private, directory, editor

  setup(function()
    private = server.start()
    directory = compile.directory()
    editor = directory .. "/editor"
    local file = assert(io.open(editor, "w"))
    file:write(EDITOR)
    file:close()
    assert(compile.shell("chmod +x " .. editor))
  end)

  teardown(function()
    private:stop()
    compile.remove(directory)
  end)

  -- A script that says itself when it ends.
  local function run_text(text)
    local output, status = child.run_text(text, private.url, 20, { editor, "" })
    return plain(output), status
  end

  for path in io.popen("ls examples/*.lua"):lines() do
    it(path .. " prints what it prints elsewhere, unchanged", function()
      local expected = child.run(path, private.url)
      local output, status = child.run(path, private.url, 20, { editor, "qa!" })
      assert.equal(plain(expected), plain(output))
      assert.equal(0, status)
    end)
  end

  it("the editor's luv is used", function()
    local output = run_text [[
      local redio = require "redio"
      print(redio.Redis(os.getenv "REDIS_URL")():echo "well":await(), package.loaded.luv == vim.loop)
      vim.cmd "qa!"
    ]]
    assert.equal(plain "well true\n", output)
  end)

  it("logs in to servers of every generation", function()
    local output, status = child.run("spec/support/login_program.lua", private.url, 60, { editor, "" })
    assert.equal("well", plain(output))
    assert.equal(0, status)
  end)

  it("a coroutine that waits does not hold up the editor", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      local ticks, timer = 0, vim.loop.new_timer()
      timer:start(10, 10, vim.schedule_wrap(function()
        vim.api.nvim_buf_set_lines(0, -1, -1, true, { "tick" })
        ticks = ticks + 1
      end))
      coroutine.wrap(function()
        redis():blpop("neovim:none", 0.3):await()
        timer:stop()
        print("ticks:", ticks > 10)
        vim.schedule(function() vim.cmd "qa!" end)
      end)()
      print("goes on at once:", ticks)
    ]]
    assert.equal(plain "goes on at once: 0\nticks: true\n", output)
    assert.equal(0, status)
  end)

  it("behind a wait the editor is out of reach", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      redio.spawn(function()
        redis():ping():await()
        print(vim.in_fast_event(), (pcall(vim.api.nvim_buf_set_lines, 0, 0, 1, true, { "line" })))
        vim.schedule(function() vim.cmd "qa!" end)
      end)
    ]]
    assert.equal(plain "true false\n", output)
    assert.equal(0, status)
  end)

  it("docs/hosts.md knows the way back, and to Redis again", function()
    local file = assert(io.open "docs/hosts.md")
    local block = file:read "*a":match "\n<!%-%- in Neovim %-%->\n```lua\n(.-)```\n"
    file:close()
    local last = "  vim.api.nvim_buf_set_lines(0, 0, 1, true, { line })\n"
    assert.truthy(block:find(last, 1, true))
    local output, status = run_text(block:gsub("nvim_buf_set_lines%b()\n", "%0" .. [[
      print(vim.in_fast_event(), vim.api.nvim_get_current_line())
      print(redis():echo "and again":await())
      vim.schedule(function() vim.cmd "qa!" end)
    ]]))
    assert.equal(plain "false from Redis\nand again\n", output)
    assert.equal(0, status)
  end)

  it("a callback of luv that is no coroutine cannot wait, and is told so", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      vim.loop.new_timer():start(1, 0, function()
        local ok, err = pcall(redio.sleep, 0.01)
        print(ok, (err:match "this would wait, but here nothing can"))
        redis:close()
        vim.schedule(function() vim.cmd "qa!" end)
      end)
    ]]
    assert.equal(plain "false this would wait, but here nothing can\n", output)
    assert.equal(0, status)
  end)

  it("an uncaught error is shown, and the editor lives on", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      coroutine.wrap(function()
        redis():ping():await()
        error "lost"
      end)()
      vim.defer_fn(function()
        print "it lives"
        vim.cmd "qa!"
      end, 200)
    ]]
    assert.matches("redio:uncaughterror:[^\n]*:lost", output)
    assert.matches("stacktraceback", output)
    assert.matches("itlives$", output)
    assert.equal(0, status)
  end)

  it("leaves with clients open, chains in flight, and receivers that wait", function()
    local output, status = run_text [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      kept = { redis, redis:pubsub "neovim:channel":connect(), redis:connection() }
      coroutine.wrap(function() kept[2]:await() end)()
      coroutine.wrap(function() redis():blpop("neovim:none", 0):await() end)()
      redis():ping():await()
      print "left"
      vim.cmd "qa!"
    ]]
    assert.equal(plain "left\n", output)
    assert.equal(0, status)
  end)
end)
