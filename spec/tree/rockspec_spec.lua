-- SPDX-License-Identifier: MIT
-- The rock and `make install`: the files that they install, which can be required from there alone.
--
-- Slow: tools/test.sh starts it first.

local uv = require "luv"
local child = require "spec.support.child"
local server = require "spec.support.server"

local ROCKSPEC, RELEASE = "rockspec/redio-scm-1.rockspec", "rockspec/redio-0.1.0-1.rockspec"
local lua = os.getenv("LUA") or "lua5.4"

-- The output of a command, and true if it succeeded.
local function run(command, ...)
  local pipe = io.popen("{ " .. command:format(...) .. "\n} </dev/null 2>&1; echo $?")
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return text, status == "0"
end

local function succeed(command, ...)
  local text, ok = run(command, ...)
  assert(ok, text)
  return text
end

-- (Without optimization the compiler takes half the time, and the files are the same.)
local CFLAGS = "-O0 -fPIC"
local LUAROCKS_CONFIG = ('variables = { CFLAGS = "%s" }\n'):format(CFLAGS)
  -- Provided: LuaRocks would ask its server for them.
  .. 'rocks_provided = { luv = "1.44.2-1", ["lua-cjson"] = "2.1.0-1" }\n'

-- For Lua 5.1 LuaRocks takes the headers of PUC Lua, unless it is told otherwise.
local function headers()
  if not jit then return "" end
  return (succeed "tools/lua.sh cflags":gsub("^%-I", "LUA_INCDIR="):gsub("\n", ""))
end

-- The search paths of what is installed in `tree`, and nothing of the sources.
local function paths(tree, version)
  local share, lib = tree .. "/share/lua/" .. version, tree .. "/lib/lua/" .. version
  return ("%s/?.lua;%s/?/init.lua;;"):format(share, share), lib .. "/?.so;;"
end

-- Requires redio, and each of its modules that there is, from `tree` alone and far from the sources; all but `without`.
local function require_from(tree, version, without, interpreter)
  local program = [[
    local redio = require "redio"
    assert(type(redio.Redis) == "function")
    for path in io.popen("cd lua && find redio -name '*.lua'"):lines() do
      local name = path:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
      local file = assert(package.searchpath(name, package.path), name)
      assert(file:sub(1, #arg[1]) == arg[1], file)
    end
    for _, name in ipairs { "redio.core", "redio.tls" } do
      local file, tried = package.searchpath(name, package.cpath)
      if name == arg[2] then
        assert(not file, file)
      else
        assert(file, tried)
        assert(file:sub(1, #arg[1]) == arg[1], file)
        require(name)
      end
    end
    print(redio._VERSION)
  ]]
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(program)
  file:close()
  local path, cpath = paths(tree, version)
  local command = "env -u LUA_PATH_5_3 -u LUA_CPATH_5_3 -u LUA_PATH_5_4 -u LUA_CPATH_5_4 "
    .. "LUA_PATH='%s' LUA_CPATH='%s' %s %s %s %s"
  local text, ok = run(command, path, cpath, interpreter or lua, name, tree, without or "")
  os.remove(name)
  assert(ok, text)
end

describe("an installed redio", function()
  local tree, version

  before_each(function()
    tree = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
    version = succeed("tools/lua.sh version"):match("%S+")
  end)

  after_each(function()
    succeed("rm -rf '%s'", tree)
  end)

  local function luarocks_for(lua_version, where, command, ...)
    local config = tree .. "/config.lua"
    local file = assert(io.open(config, "w"))
    file:write(LUAROCKS_CONFIG)
    file:close()
    return ("LUAROCKS_CONFIG='%s' luarocks --lua-version=%s --tree='%s/%s' %s"):format(config, lua_version, tree, where,
      command:format(...))
  end

  local function luarocks(where, command, ...)
    return luarocks_for(version, where, command, ...)
  end

  -- The commands that README.md has under "Install": LuaRocks' and make's.
  local function readme()
    local file = assert(io.open("README.md", "rb"))
    local section = file:read("*a"):match("\n## Install\n(.-)\n## ")
    file:close()
    local rocks, install = {}, nil
    for line in section:gmatch("[^\n]+") do
      local command = line:gsub("%s*#.*$", "")
      if command:find("^luarocks ") then
        rocks[#rocks + 1] = command
      elseif command:find("^make ") then
        install = command
      end
    end
    return rocks, install
  end

  -- The project as it is cloned: nothing built.
  local function clone()
    succeed("mkdir '%s/clone' && tar -c --exclude=./build --exclude=./.git . | tar -x -C '%s/clone'", tree, tree)
    return tree .. "/clone"
  end

  local FRESH = "env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u LUA -u BUILD -u CC -u CPPFLAGS -u TLS CFLAGS='"
    .. CFLAGS .. "' "

  local function prints_what_the_quickstart_prints(where)
    local private = server.start()
    local path, cpath = paths(where, version)
    local output, status = child.run("examples/quickstart.lua", private.url, 30, {
      "env", "LUA_PATH=" .. path, "LUA_CPATH=" .. cpath, lua,
    })
    private:stop()
    assert.equal("Got values:\tHello\t42\nHash:\t2\tAda\t1815\nTransaction:\t43\t44\n", output)
    assert.equal(0, status)
  end

  it("has rockspecs that luarocks finds nothing wrong with, and that differ in their version alone", function()
    succeed("luarocks lint %s && luarocks lint %s", ROCKSPEC, RELEASE)
    local differences = run("diff %s %s", ROCKSPEC, RELEASE)
    assert.equal(2, select(2, differences:gsub("\n> ", "")))
    assert.matches('> version = "0.1.0%-1"', differences)
    assert.matches('> source = .*tag = "v0.1.0"', differences)
    assert.equal("0.1.0", require "redio.base.version")
  end)

  it("is built and installed by luarocks make, packed, and installed from the pack", function()
    succeed(luarocks("tree", "make %s %s", ROCKSPEC, headers()))
    require_from(tree .. "/tree", version)
    prints_what_the_quickstart_prints(tree .. "/tree")
    succeed("cd '%s' && " .. luarocks("tree", "pack redio scm-1"), tree)
    local rock = succeed("ls '%s'/redio-scm-1.*.rock", tree):match "%S+"
    succeed(luarocks("other", "install '%s'", rock))
    require_from(tree .. "/other", version)
    prints_what_the_quickstart_prints(tree .. "/other")
  end)

  it("is built without TLS from a rockspec that names no OpenSSL", function()
    succeed("sed '/OPENSSL/d' %s >'%s/redio-scm-1.rockspec'", ROCKSPEC, tree)
    local text = succeed("TLS=no " .. luarocks("tree", "make '%s/redio-scm-1.rockspec' %s", tree, headers()))
    assert.matches("Without TLS", text)
    require_from(tree .. "/tree", version, "redio.tls")
  end)

  it("names OpenSSL as LuaRocks wants it: told where it is not, luarocks make says what it misses", function()
    local text, ok = run(luarocks("tree", "make %s OPENSSL_DIR=%s", ROCKSPEC, tree))
    assert.is_false(ok)
    assert.matches("OPENSSL", text)
    assert.matches("openssl/ssl.h", text)
  end)

  it("can be required by Lua 5.4 after what README.md says, as it says it", function()
    if not run("LUA=lua5.4 tools/lua.sh check") then
      pending "Lua 5.4 is not here"
      return
    end
    local rocks, install = readme()
    assert.is_true(#rocks > 0)
    local here = clone()
    for number, command in ipairs(rocks) do
      local config, root = tree .. "/config.lua", ("%s/root%d"):format(tree, number)
      local file = assert(io.open(config, "w"))
      file:write(("rocks_trees = { { name = 'here', root = %q } }\n"):format(root))
      -- (with --deps-mode=none LuaRocks needs neither its server nor the rocks)
      local is_alone = command:find("--deps-mode=none", 1, true)
      file:write(is_alone and LUAROCKS_CONFIG:match "^[^\n]*\n" or LUAROCKS_CONFIG)
      file:close()
      succeed("cd '%s' && %s LUAROCKS_CONFIG='%s' %s", here, FRESH, config, command)
      require_from(root, "5.4", nil, "lua5.4")
    end
    succeed("cd '%s' && %s DESTDIR='%s/stage' %s", here, FRESH, tree, install)
    require_from(tree .. "/stage/usr/local", "5.4", nil, "lua5.4")
  end)

  it("is refused in one sentence by a LuaRocks that builds for PUC Lua 5.1", function()
    if not run("test -e /usr/include/lua5.1/lua.h && command -v lua5.1") then
      pending "PUC Lua 5.1 is not here"
      return
    end
    local text, ok = run("%s %s", FRESH, luarocks_for("5.1", "tree", "make %s", ROCKSPEC))
    assert.is_false(ok)
    assert.matches("redio is for Lua 5.4, 5.3 and LuaJIT 2.1", text)
    assert.matches("LuaRocks, whose default this may be, takes %-%-lua%-version=5.4", text)
    assert.is_nil(text:find("compat.h", 1, true), text)
  end)

  it("is put where PREFIX says by make install", function()
    succeed("make install PREFIX='%s/usr'", tree)
    require_from(tree .. "/usr", version)
  end)

  it("is put under DESTDIR for a package", function()
    succeed("make install DESTDIR='%s/stage' PREFIX=/usr", tree)
    require_from(tree .. "/stage/usr", version)
  end)

  it("is built without TLS, with a notice, where OpenSSL is too old or missing", function()
    succeed("mkdir -p '%s/old/include/openssl'", tree)
    succeed("echo '#define OPENSSL_VERSION_NUMBER 0x10002000L' >'%s/old/include/openssl/ssl.h'", tree)
    local variables = ("BUILD='%s/build' OPENSSL_DIR='%s/old' DESTDIR='%s/stage' PREFIX=/usr CFLAGS='%s'"):format(tree,
      tree, tree, CFLAGS)
    local text = succeed("make install %s", variables)
    assert.matches("Without TLS: the headers of OpenSSL", text)
    local lib = ("%s/stage/usr/lib/lua/%s/redio"):format(tree, version)
    assert.equal("core.so\n", (succeed("ls '%s'", lib)))
  end)
end)
