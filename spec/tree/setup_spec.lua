-- SPDX-License-Identifier: MIT
-- tools/setup.sh on machines that lack something, which a PATH of the spec's own simulates.

local uv = require "luv"

local bin, log

local function shell(command)
  local pipe = io.popen("{ " .. command .. "\n} </dev/null 2>&1; echo $?")
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return text, tonumber(status)
end

local function program(name, text)
  local file = assert(io.open(bin .. "/" .. name, "w"))
  file:write("#!/bin/sh\n", text, "\n")
  file:close()
  shell("chmod +x " .. bin .. "/" .. name)
end

-- Leaves in the private PATH what every Debian has, and what is named.
local function machine(...)
  local names = { "sh", "dirname", "sed", "sort", "tr", "env", "cat", ... }
  for _, name in ipairs(names) do
    local text = shell("command -v " .. name)
    shell(("ln -s %s %s/%s"):format(text:match("%S+"), bin, name))
  end
end

local function setup_for(parts, variables)
  return shell(("env %s PATH=%s tools/setup.sh %s"):format(variables or "", bin, parts))
end

local function calls()
  local file = io.open(log)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

-- An apt-get and an apt-cache that note how they are called; `known` packages are in the lists.
local function apt(known)
  program("apt-get", ('echo "$DEBIAN_FRONTEND apt-get $*" >>%s'):format(log))
  program("apt-cache", known and "exit 0" or "exit 100")
end

describe("tools/setup.sh", function()
  before_each(function()
    bin = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
    log = bin .. "/calls"
  end)

  after_each(function()
    shell("rm -r " .. bin)
  end)

  it("does and says nothing when nothing is missing", function()
    local lua = os.getenv("LUA") or "lua5.4"
    machine(lua:match("[^/]+$"), "cc", "pkg-config", "redis-server", "redis-cli", "luarocks", "openssl", "luacheck",
      "nm", "clang-format", "cppcheck", "valgrind")
    apt(true)
    local text, status = setup_for("build run test lint", "LUA=" .. lua:match("[^/]+$"))
    assert.equal("", text)
    assert.equal(0, status)
    assert.equal("", calls())
  end)

  it("lists what is missing, and why, where there is no apt", function()
    machine("id")
    local text, status = setup_for("run", "LUA=lua5.4")
    assert.equal(1, status)
    assert.truthy(text:find("redis%-server +the server"))
    assert.truthy(text:find("lua%-luv +sockets"))
  end)

  it("names the packages of the Lua that is asked for, and of other hosts only when these are", function()
    machine("id")
    local headers = { luajit = "libluajit%-5.1%-dev", ["lua5.3"] = "liblua5.3%-dev", ["lua5.4"] = "liblua5.4%-dev" }
    for lua, package in pairs(headers) do
      local text, status = setup_for("build", "LUA=" .. lua)
      assert.equal(1, status)
      assert.matches("\n  " .. lua:gsub("%p", "%%%0") .. " +the Lua", text)
      assert.matches("\n  " .. package .. " +Lua's headers", text)
      assert.is_nil(text:find("neovim", 1, true))
    end
    local text, status = setup_for("hosts") -- and goes on without them
    assert.equal(0, status)
    assert.matches("wanted[^\n]*: neovim\n +it cannot be had", text)
  end)

  it("installs nothing for a Lua that redio is not for", function()
    machine("id")
    apt(true)
    for _, lua in ipairs { "lua5.2", "/usr/bin/lua5.1" } do
      local text, status = setup_for("build run", "LUA=" .. lua)
      assert.equal(1, status)
      assert.matches("redio is for Lua 5.4, 5.3 and LuaJIT 2.1, and not for '" .. lua:gsub("%p", "%%%0"), text)
      assert.equal("", calls())
    end
  end)

  it("says what root should run where there is neither root nor sudo", function()
    machine()
    program("id", "echo 1000")
    apt(true)
    local text, status = setup_for("run", "LUA=lua5.4")
    assert.equal(1, status)
    assert.truthy(text:find("apt-get install lua-cjson lua-luv redis-server redis-tools", 1, true))
    assert.equal("", calls())
  end)

  it("installs as root what is missing, and only that, without a question", function()
    machine("redis-cli")
    program("id", "echo 0")
    apt(true)
    local text, status = setup_for("run", "LUA=lua5.4")
    assert.equal(0, status)
    assert.truthy(text:find("redis%-server +the server"))
    assert.is_nil(text:find("redis-tools", 1, true))
    assert.matches("^noninteractive apt%-get [^\n]*install [^\n]*lua%-cjson lua%-luv redis%-server ?\n$", calls())
  end)

  it("goes on without what is only wanted, where it cannot be had", function()
    machine("id")
    local text, status = setup_for("bench", "LUA=lua5.4")
    assert.equal(0, status)
    assert.truthy(text:find("gnuplot-nox\n  it cannot be had", 1, true), text)

    program("id", "echo 0")
    program("apt-get", ('echo "$*" >>%s; exit 100'):format(log))
    program("apt-cache", "exit 100")
    text, status = setup_for("bench", "LUA=lua5.4")
    assert.equal(0, status)
    assert.truthy(text:find("gnuplot-nox\n  it cannot be had", 1, true), text)
    assert.truthy(calls():find("update\n", 1, true))
  end)

  it("installs by sudo, after an update when the lists are empty", function()
    machine()
    program("id", "echo 1000")
    program("sudo", ('echo sudo >>%s; exec "$@"'):format(log))
    apt(false)
    local _, status = setup_for("run", "LUA=luajit")
    assert.equal(0, status)
    local update, install = calls():match("^sudo\n([^\n]*)\nsudo\n([^\n]*)\n$")
    assert.matches("^noninteractive apt%-get .*update$", update)
    assert.matches("^noninteractive apt%-get .*install .*lua%-luv", install)
  end)
end)
