-- SPDX-License-Identifier: MIT
-- The Makefile: a variable on its command line has the effect of the same variable in the environment. (GNU make before
-- 4.4 hands variables of its command line to recipes, but not to $(shell ...).)
--
-- Slow: tools/test.sh starts it first.

local uv = require "luv"

local compile = require "spec.support.compile"

-- Without what the make that runs the specs was told.
local FRESH = "env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u MAKELEVEL -u LUA -u BUILD -u CC -u CPPFLAGS -u TLS"

local directory

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function succeed(command, ...)
  local ok, output = compile.shell(("{ " .. command .. "\n} </dev/null"):format(...))
  assert(ok, output)
  return output
end

-- A target made with variables given in the one way or the other.
local WAYS = {
  { "on the command line", function(target, variables)
    return ("%s make %s %s"):format(FRESH, target, variables)
  end },
  { "in the environment", function(target, variables)
    return ("%s %s make %s"):format(FRESH, variables, target)
  end },
}

-- The Luas of this machine that redio can be built for, by their versions' folders.
local function luas()
  local list = {}
  for name, version in pairs { ["lua5.4"] = "5.4", ["lua5.3"] = "5.3", luajit = "5.1" } do
    if compile.shell(("%s LUA=%s tools/lua.sh check"):format(FRESH, name)) then
      list[#list + 1] = { name = name, version = version, build = name == "lua5.4" and "build" or "build/" .. name }
    end
  end
  return list
end

before_each(function()
  directory = compile.directory()
end)

after_each(function()
  compile.remove(directory)
end)

describe("make", function()
  -- The compilers' flags as they would be used, which every object depends on.
  local function flags(way, variables)
    local file = directory .. "/build/obj/flags"
    os.remove(file)
    succeed("%s", way[2](file, ("BUILD='%s/build' "):format(directory) .. variables))
    return read(file)
  end

  -- Headers of an OpenSSL that is new enough, in a place of its own.
  local function openssl()
    succeed("mkdir -p '%s/ssl/include/openssl'", directory)
    write(directory .. "/ssl/include/openssl/ssl.h", "#define OPENSSL_VERSION_NUMBER 0x30000000L\n")
    return directory .. "/ssl"
  end

  for _, way in ipairs(WAYS) do
    describe("with variables " .. way[1], function()
      it("takes the headers of LUA", function()
        for _, lua in ipairs(luas()) do
          local headers = succeed("LUA=%s tools/lua.sh cflags", lua.name):match "%-I%S+"
          assert.matches(" " .. headers:gsub("%p", "%%%0") .. "%s", flags(way, "LUA=" .. lua.name))
        end
      end)

      it("takes LUA_INCDIR", function()
        assert.matches(" %-I/some/where%s", flags(way, "LUA_INCDIR=/some/where"))
      end)

      it("takes OPENSSL_DIR, OPENSSL_INCDIR and OPENSSL_LIBDIR", function()
        local dir = openssl()
        local included = "-I" .. dir .. "/include"
        assert.truthy(flags(way, ("OPENSSL_DIR='%s'"):format(dir)):find(included, 1, true))
        assert.truthy(flags(way, ("OPENSSL_INCDIR='%s/include'"):format(dir)):find(included, 1, true))
        local library = ("%s/build/redio/tls.so"):format(directory)
        local printed = succeed("%s", way[2]("-n V=1 '" .. library .. "'",
          ("BUILD='%s/build' OPENSSL_DIR='%s' OPENSSL_LIBDIR=/some/lib"):format(directory, dir)))
        assert.truthy(printed:find("-L/some/lib -lssl", 1, true), printed)
      end)

      it("takes TLS and CC", function()
        local dir = openssl()
        local given = ("OPENSSL_DIR='%s' "):format(dir)
        assert.is_nil(flags(way, given .. "TLS=no"):find(dir .. "/include", 1, true))
        write(directory .. "/cc", "#!/bin/sh\nexit 1\n") -- which finds no header
        succeed("chmod +x '%s/cc'", directory)
        local without = flags(way, given .. ("CC='%s/cc'"):format(directory))
        assert.equal(directory .. "/cc", without:match "^%S+")
        assert.is_nil(without:find(dir .. "/include", 1, true))
      end)

      it("puts what it installs into the folder of LUA's version, under DESTDIR and PREFIX", function()
        for _, lua in ipairs(luas()) do
          local printed = succeed("%s", way[2]("-n install", ("LUA=%s DESTDIR=/stage PREFIX=/opt"):format(lua.name)))
          assert.truthy(printed:find("/stage/opt/share/lua/" .. lua.version .. "'", 1, true), printed)
          assert.truthy(printed:find("/stage/opt/lib/lua/" .. lua.version .. "'", 1, true), printed)
        end
      end)

      it("installs for one Lua beside another", function()
        local all = luas()
        if #all < 2 then
          pending "one Lua alone is here"
          return
        end
        local prefix = directory .. "/prefix"
        for _, lua in ipairs(all) do
          succeed("%s >'%s/log'", way[2]("install", ("LUA=%s PREFIX='%s'"):format(lua.name, prefix)), directory)
        end
        for _, lua in ipairs(all) do
          local lib = ("%s/lib/lua/%s"):format(prefix, lua.version)
          assert.equal(read(lua.build .. "/redio/core.so"), read(lib .. "/redio/core.so"))
          local share = ("%s/share/lua/%s"):format(prefix, lua.version)
          write(directory .. "/program.lua", [[
            local redio = require "redio"
            assert(package.searchpath("redio.core", package.cpath):find(arg[1], 1, true))
            print(redio._VERSION, redio.run(function() redio.sleep(0.001) return "has run" end))
          ]])
          local printed = succeed("cd / && env -u LUA_PATH_5_3 -u LUA_CPATH_5_3 -u LUA_PATH_5_4 -u LUA_CPATH_5_4 "
            .. "LUA_PATH='%s/?.lua;%s/?/init.lua;;' LUA_CPATH='%s/?.so;;' %s '%s/program.lua' '%s'",
            share, share, lib, lua.name, directory, lib)
          assert.matches("has run\n$", printed)
        end
      end)
    end)
  end

  it("names every variable that a script reads which it asks, and asks in no other way", function()
    local makefile = read "Makefile"
    local told = {}
    for name in makefile:match("\nTOLD = ([^\n]*)"):gmatch "%S+" do
      told[name] = true
    end
    for script in makefile:gmatch "call ask,(%S+)" do
      local source = read("tools/" .. script):gsub("\n#[^\n]*", "")
      for name in source:gmatch "%$[{]?([%u][%u_]+)" do
        assert.is_true(told[name], script .. " reads " .. name)
      end
    end
    for path in io.popen("find . -name Makefile -not -path './build/*'"):lines() do
      for command in read(path):gsub("\n#[^\n]*", ""):gmatch "%$%(shell ([^\n]*)" do
        assert(command:find "^uname " or command:find("$(TOLD)", 1, true), path .. ": " .. command)
      end
    end
  end)

  it("refuses a Lua that redio is not for before it compiles anything, and says which would do", function()
    succeed("mkdir -p '%s/include' && touch '%s/include/lauxlib.h'", directory, directory)
    write(directory .. "/include/lua.h", "#define LUA_VERSION_NUM 501\n")
    for _, way in ipairs(WAYS) do
      local ok, output = compile.shell(way[2]("build", ("LUA_INCDIR='%s/include' BUILD='%s/build'"):format(directory,
        directory)))
      assert.is_false(ok)
      assert.matches("redio is for Lua 5.4, 5.3 and LuaJIT 2.1", output)
      assert.matches("%-%-lua%-version=5.4", output)
      assert.is_nil(output:find "CC  ")
      assert.is_nil(uv.fs_stat(directory .. "/build"))
    end
  end)
end)

describe("tools/nginx.sh", function()
  it("builds with nginx's own headers, whatever the make that runs it was told", function()
    if not uv.fs_stat "build/nginx/nginx" then
      pending "nginx is not here"
      return
    end
    local log = directory .. "/log"
    write(directory .. "/make", ('#!/bin/sh\necho "$@" >%s\n'):format(log))
    succeed("chmod +x '%s/make'", directory)
    succeed("%s LUA_INCDIR=/wrong MAKE='%s/make' tools/nginx.sh", FRESH, directory)
    local told = read(log)
    assert.matches("LUA=%S*build/nginx/luajit BUILD=build/nginx LUA_INCDIR=%S+luajit", told)
    assert.is_nil(told:find("/wrong", 1, true))
  end)
end)

describe("examples/embed", function()
  it("asks for luv by the version of LUA, however that is given", function()
    for _, way in ipairs(WAYS) do
      for _, lua in ipairs(luas()) do
        write(directory .. "/pkg-config", '#!/bin/sh\necho "$*" >>"$LOG"\nexit 1\n')
        succeed("chmod +x '%s/pkg-config'", directory)
        local log = ("%s/%s.log"):format(directory, lua.name)
        compile.shell(("PATH='%s':$PATH LOG='%s' "):format(directory, log)
          .. way[2]("-C examples/embed", ("CC=false LUA=%s OUT='%s/embed'"):format(lua.name, directory)))
        assert.matches("lua" .. lua.version:gsub("%.", "%%.") .. "%-luv", read(log))
        os.remove(log)
      end
    end
  end)
end)
