-- SPDX-License-Identifier: MIT
-- The rock, and `make install`: what they put where, and that it can be required from there alone.

local uv = require "luv"

local ROCKSPEC = "rockspec/redio-scm-1.rockspec"
local lua = os.getenv("LUA") or "lua5.4"

-- What a command printed, and whether it succeeded.
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

-- Requires redio, and each of its modules that there is, from `tree` alone and far from the sources.
local function require_from(tree, version)
  local program = [[
    local redio = require "redio"
    assert(type(redio.Redis) == "function")
    for path in io.popen("cd lua && find redio -name '*.lua'"):lines() do
      local name = path:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
      local file = assert(package.searchpath(name, package.path), name)
      assert(file:sub(1, #arg[1]) == arg[1], file)
    end
    for _, name in ipairs { "redio.core", "redio.tls" } do
      local file = assert(package.searchpath(name, package.cpath))
      assert(file:sub(1, #arg[1]) == arg[1], file)
      require(name)
    end
    print(redio._VERSION)
  ]]
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(program)
  file:close()
  local share, lib = tree .. "/share/lua/" .. version, tree .. "/lib/lua/" .. version
  local path = ("LUA_PATH='%s/?.lua;%s/?/init.lua;;' LUA_CPATH='%s/?.so;;'"):format(share, share, lib)
  local text, ok = run("env -u LUA_PATH_5_3 -u LUA_CPATH_5_3 -u LUA_PATH_5_4 -u LUA_CPATH_5_4 %s %s %s %s", path, lua, name, tree)
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

  it("has a rockspec that luarocks finds nothing wrong with", function()
    succeed("luarocks lint %s", ROCKSPEC)
  end)

  it("is built and installed by luarocks make", function()
    local config = tree .. "/config.lua"
    local file = assert(io.open(config, "w"))
    file:write('rocks_provided = { luv = "1.44.2-1", ["lua-cjson"] = "2.1.0-1" }\n')
    file:close()
    succeed("LUAROCKS_CONFIG='%s' luarocks --lua-version=%s --tree='%s/tree' make %s", config, version, tree, ROCKSPEC)
    require_from(tree .. "/tree", version)
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
    local variables = ("BUILD='%s/build' OPENSSL_DIR='%s/old' DESTDIR='%s/stage' PREFIX=/usr"):format(tree, tree, tree)
    local text = succeed("make install %s", variables)
    assert.matches("Without TLS: the headers of OpenSSL", text)
    local lib = ("%s/stage/usr/lib/lua/%s/redio"):format(tree, version)
    assert.equal("core.so\n", (succeed("ls '%s'", lib)))
  end)
end)
