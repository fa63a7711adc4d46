-- SPDX-License-Identifier: MIT
-- Each law, broken once in a copy of the tree: lint says which, and where.
-- Slow: tools/test.sh starts it first.

local uv = require "luv"

local lua = os.getenv("LUA") or "lua5.4"
local build = os.getenv("BUILD") or "build"
local tree

local function run(command, ...)
  local pipe = io.popen(("cd '%s' && { %s\n} </dev/null 2>&1; echo $?"):format(tree, command:format(...)))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return text, tonumber(status)
end

local function read(path)
  local file = io.open(tree .. "/" .. path, "rb")
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

local function write(path, text)
  local file = assert(io.open(tree .. "/" .. path, "wb"))
  file:write(text)
  file:close()
end

-- The breaches found; the exit status.
local function laws()
  return run("BUILD=build %s tools/laws.lua", lua)
end

local function rebuild(variables)
  local text, status = run("make build CI= LUA=%s BUILD=build %s", lua, variables or "")
  assert(status == 0, text)
end

local function line_count(text)
  return select(2, text:gsub("\n", "\n"))
end

local C_FUNCTION = "\nint redio_broken(void);\n%sint redio_broken(void) { return %s; }\n"

-- {law, file, lines that break it, ...}; `at` is the last of those lines unless said otherwise.
local cases = {
  { "pure C knows no Lua", "src/buf.c", "#include <lua.h>\n" },
  { "pure C knows no Lua", "src/decoder.h", '#  include "compat.h"\n' },
  { "C does no I/O", "src/decoder.c", "#include <sys/socket.h>\n" },
  { "C does no I/O", "src/connection.c", "#include <time.h>\n" },
  { "C does no I/O", "src/pipeline.h", "#include <pthread.h>\n" },
  { "C does no I/O", "src/lcore.c", "#include <uv.h>\n" },
  { "one file knows openssl", "src/connection.c", "#include <openssl/ssl.h>\n" },
  { "one file knows openssl", "src/lcore.c", "#include <openssl/ssl.h>\n" },
  { "only transports name hosts", "lua/redio/settings/url.lua", 'local u = require "luv"\n' },
  { "only transports name hosts", "lua/redio/settings/url.lua", "--[[ a comment\n]] uv.run()\n" },
  { "only transports name hosts", "lua/redio/base/errors.lua", "local task = ngx.thread.spawn\n" },
  { "only transports name hosts", "lua/redio/transport/luv.lua", "local task = ngx.thread.spawn\n" },
  { "one function picks the transport", "lua/redio/transport/init.lua", 'local default = "luv"\n' },
  {
    "one function picks the transport",
    "lua/redio/transport/init.lua",
    'local function first()\n  return "luv"\nend\n\nlocal function second()\n  return "ngx"\nend\n',
    back = 1,
  },
  {
    "a file requires its own layer or a lower one",
    "lua/redio/base/queue.lua",
    'local client = require "redio.client"\n',
    says = "client lies above base",
  },
  {
    "no circle",
    "lua/redio/base/version.lua",
    'local list = require "redio.base.linked_list"\n',
    also = { "lua/redio/base/linked_list.lua", 'local version = require("redio.base.version")\n' },
  },
  { "no circle", "src/token.h", '#include "decoder.h"\n', says = "decoder comes back to token" },
  { "no circle", "src/lbind.c", '#include "lstock.h"\n', place = "src/lpipeline.h:6", says = "lbind comes back" },
  {
    "a header declares what its file defines",
    "src/token.h",
    "int redio_broken(void);\n",
    says = "redio_broken is not defined in token.c",
  },
  {
    "a header declares what its file defines",
    "src/lbind.h",
    "extern const char redio_broken;\n",
    says = "redio_broken is not defined in lbind.c",
  },
  {
    "a header declares what its file defines",
    "src/token.h",
    "int redio_broken(void);\n",
    says = "no other file uses redio_broken",
    also = { "src/token.c", "int redio_broken(void) { return 1; }\n" },
  },
  { "a file has one job", "lua/redio/base/queue.lua", ("local a = 1\n"):rep(401), place = "lua/redio/base/queue.lua" },
  { "a file has one job", "src/buf.c", ("int a;\n"):rep(601), place = "src/buf.c" },
  {
    "a function fits a screen",
    "lua/redio/base/queue.lua",
    "local function long()\n" .. ("  work()\n"):rep(60) .. "end\n",
    back = 61,
  },
  { "a private field stays in its file", "lua/redio/base/queue.lua", "function M.of(owner) return owner._items end\n" },
  { "a private field stays in its file", "lua/redio/base/queue.lua", "function M:to(owner) owner:_take(self) end\n" },
  { "one dialect of Lua", "lua/redio/base/queue.lua", "if M then\n  M.new()\nend\n", back = 2 },
  { "one dialect of Lua", "lua/redio/base/queue.lua", "---The number of items.\n" },
  { "one dialect of Lua", "lua/redio/base/queue.lua", 'M.sub = ("").rep("x")\n' },
  { "one dialect of Lua", "lua/redio/base/queue.lua", "-- Items -----\n" },
  { "the binding calls no Lua", "src/lcore.c", "static void f(lua_State *L) { lua_call(L, 0, 0); }\n" },
  { "the binding calls no Lua", "src/lvalue.c", "static int f(lua_State *L) { return lua_yield(L, 0); }\n" },
  { "the binding calls no Lua", "src/compat.h", "#define CALL(L) lua_pcall(L, 0, 0, 0)\n" },
  {
    "the binding calls no Lua",
    "src/lcore.c",
    "static void f(void) {\n  lua_resume();\n}\n\nstatic void g(void) {\n  lua_resume();\n}\n",
    back = 1,
  },
  { "one place knows the version", "src/buf.c", "#if LUA_VERSION_NUM > 503\n#endif\n", back = 1 },
  { "one place knows the version", "lua/redio/settings/url.lua", "local lua = _VERSION\n" },
  { "one file assigns the state", "src/lcore.c", "static void f(redio_connection *c) { c->state = 0; }\n" },
  { "each file names its licence", "src/buf.c", false, line = 1 },
  { "each file names its licence", "lua/redio/settings/url.lua", false, line = 1 },
  { "nothing is left to do", "src/buf.c", "/* TODO: everything */\n" },
  { "nothing is left to do", "lua/redio/settings/url.lua", "-- FIXME\n" },
  {
    "a library exports one function",
    "src/buf.c",
    C_FUNCTION:format('__attribute__((visibility("default"))) ', "1"),
    place = "build/redio/core.so",
    says = "redio_broken",
    compiles = true,
  },
  {
    "no state at file scope",
    "src/buf.c",
    C_FUNCTION:format("static int counter;\n", "++counter"),
    place = "src/buf.c",
    says = "counter",
    compiles = true,
  },
  {
    "no state at file scope",
    "src/buf.c",
    C_FUNCTION:format("", "1") .. "int *redio_next(void);\nint *redio_next(void) { static int n = 3; return &n; }\n",
    place = "src/buf.c",
    says = "n",
    compiles = true,
  },
}

-- What is no breach although it looks like one.
local innocent = {
  { "lua/redio/settings/url.lua", "-- luv, uv and ngx, and _VERSION, in a comment\n" },
  { "lua/redio/settings/url.lua", "--[==[ luv\nngx ]==]\n" },
  { "lua/redio/settings/url.lua", "local uvula, luvly = 1, 2\n" },
  { "lua/redio/base/queue.lua", "function M:_grow() self._size, self.most = 0, 1 return self._size, M.__index end\n" },
  { "src/buf.c", "/* lua_call, LUA_VERSION_NUM,\n#include <lua.h>\n*/\n// #include <time.h>\n" },
  { "src/lcore.c", "static int f(redio_connection *c) { return c->state == 0; }\n" },
}

-- {file, lines, words that are found in the last of them}.
local bad_prose = {
  { "lua/redio/base/queue.lua", "-- The item, whoever\n-- has put it here, and nobody else's.\n", "nobody else's" },
  { "lua/redio/base/queue.lua", "local n = 1 -- whether it is empty\n", "whether it is" },
  { "lua/redio/base/queue.lua", "--- Takes an item out. What is left stays.\n", "What is left" },
  { "lua/redio/base/queue.lua", "---@param item any the waiter, or him who wakes it\n", "who wakes it" },
  { "lua/redio/base/queue.lua", 'M.text = "the error of somebody"\n', 'somebody"' },
  { "bench/still.c", "/* Two things:\n * the stranger */\n", "stranger" },
  { "bench/still.c", "// Those are still.\n", "Those are still" },
  { "tools/lint.sh", "# That is all.\n", "That is all" },
  { "tools/lint.sh", "# One check.\n# (Two checks.) That's all.\n", "That's all" },
  { "SECURITY.md", "\nThe reply is nobody's.\n", "nobody's" },
  { "SECURITY.md", "\nThe `caller` is [someone](README.md) else.\n", "someone else" },
  { "SECURITY.md", "\n| option | |\n| --- | --- |\n| `tls` | for everybody |\n", "everybody" },
}

local good_prose = {
  { "lua/redio/base/queue.lua", "local who, stranger = 1, 2\n" },
  { "lua/redio/base/queue.lua", "-- The word `who`; what follows, and all that is left.\n" },
  { "bench/still.c", "static const char *who = \"nobody\";\n" },
  { "SECURITY.md", "\n```sh\nwho # What the machine says of him\n```\n" },
  { "SECURITY.md", "\n<!-- whose -->\nThe rest, `whose` among them.\n" },
}

-- Calls `act` while `text` is added to the end of a file, or (false) the file's first line is blank.
local function with_broken(path, text, act)
  local before = assert(read(path), path)
  write(path, text and before .. text or before:gsub("^[^\n]*", "", 1))
  local ok, message = pcall(act, before)
  write(path, before)
  assert(ok, message)
end

describe("lint", function()
  setup(function()
    tree = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
    local copy = ("tar --exclude=./.git --exclude=./build -cf - . | tar -xf - -C '%s' && cp -Rp %s '%s/build'")
      :format(tree, build, tree)
    assert(os.execute(copy))
  end)

  teardown(function()
    os.execute(("rm -rf '%s'"):format(tree))
  end)

  local as_it_is

  it("finds no law broken as things are", function()
    rebuild()
    local status
    as_it_is, status = laws()
    assert(status == 0, as_it_is)
  end)

  for _, case in ipairs(cases) do
    local law, path, broken = case[1], case[2], case[3]
    local first = broken and broken:match("[^\n]+") or "no SPDX line"
    it(("says %q of %s: %s"):format(law, path, first), function()
      with_broken(path, broken, function(before)
        local place = case.place
        if not place then
          local line = case.line or line_count(before) + line_count(broken) - (case.back or 0)
          place = path .. ":" .. line
        end
        if case.compiles then
          rebuild()
        end
        local text, status
        with_broken(case.also and case.also[1] or path, case.also and case.also[2] or "", function()
          text, status = laws()
        end)
        assert.equal(1, status)
        local expected = place .. ": " .. law .. ": " .. (case.says or "")
        assert(text:find(expected, 1, true), "no " .. expected .. " in:\n" .. text)
      end)
      if case.compiles then
        rebuild()
      end
    end)
  end

  for _, case in ipairs(innocent) do
    it(("has nothing against %s: %s"):format(case[1], case[2]:match("[^\n]+")), function()
      with_broken(case[1], case[2], function()
        assert.equal(as_it_is, (laws()))
      end)
    end)
  end

  it("counts a file of src/ to the binding because the Makefile lists it", function()
    write("src/lru.c", "/* SPDX-License-Identifier: MIT */\n#include <lua.h>\n")
    local text = laws()
    os.remove(tree .. "/src/lru.c")
    assert(text:find("src/lru.c:2: pure C knows no Lua", 1, true), text)
  end)

  local function prose()
    return run("%s tools/prose.lua", lua)
  end

  it("finds nothing wrong with the prose as it is", function()
    local text, status = prose()
    assert(status == 0, text)
  end)

  for _, case in ipairs(bad_prose) do
    it(("reads %s: %s"):format(case[1], case[2]:match "[^\n]+"), function()
      with_broken(case[1], case[2], function(before)
        local text, status = prose()
        assert.equal(1, status)
        local place = case[1] .. ":" .. line_count(before) + line_count(case[2])
        assert(text:find(place .. ": " .. case[3], 1, true), text)
      end)
    end)
  end

  for _, case in ipairs(good_prose) do
    it(("lets %s be: %s"):format(case[1], case[2]:match "[^\n]+"), function()
      with_broken(case[1], case[2], function()
        assert.equal("", (prose()))
      end)
    end)
  end

  it("counts words and findings of each area", function()
    local text, status = run("%s tools/prose.lua --count", lua)
    assert.equal(0, status)
    for _, area in ipairs { "lua", "src", "tools", "bench", "examples", "docs" } do
      assert(text:find("\n" .. area .. " +%d+ +%d+ +%d+%.%d\n"), text)
    end
  end)

  it('says "core links nothing" of a core with another library', function()
    local library = lua:find("luajit") and "luajit-5.1" or lua:match("[^/]+$")
    run("rm build/redio/core.so")
    rebuild("LDFLAGS='-Wl,--no-as-needed -l" .. library .. "'")
    local text, status = laws()
    run("rm build/redio/core.so")
    rebuild()
    assert.equal(1, status)
    assert.truthy(text:find("build/redio/core.so: core links nothing: it is linked to liblua", 1, true), text)
  end)

  it("runs every tool, and fails when one of them finds something", function()
    local array = "int redio_broken(void);\nint redio_broken(void) {\n  int a[2] = {0};\n  return a[2];\n}\n"
    with_broken("lua/redio/task/init.lua", "", function(before)
      write("lua/redio/task/init.lua", before:gsub("\n", "\nleaked = utf8.char(1)\n", 1))
      with_broken("src/buf.c", array .. "int   redio_layout ;\n", function()
        local text, status = run("BUILD=build LUA=%s tools/lint.sh", lua)
        assert.equal(1, status)
        assert(text:find("non-standard global variable 'leaked'", 1, true), text)
        assert(text:find("undefined variable 'utf8'", 1, true), text)
        assert(text:find("buf.c:%d+:%d+: error: code should be clang%-formatted"), text)
        assert(text:find("buf.c:%d+:%d+: error: Array 'a%[2%]' accessed at index 2"), text)
      end)
    end)
  end)
end)
