-- SPDX-License-Identifier: MIT
-- docs/nginx.md in a real nginx: redio is installed as the page says, its files and its nginx.conf are taken as they
-- are (but for their directories), and each program of its other blocks is a content handler there.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

local file = assert(io.open "docs/nginx.md")
local text = file:read "*a"
file:close()

-- Its blocks: what the comment says, the text, and what it prints, if it does.
local blocks = {}
for note, block, rest in text:gmatch "<!%-%- in nginx([^\n]*) %-%->\n```%l+\n(.-\n)```()" do
  local printed = note:find "prints" and assert(text:match("^\n\n```text\n(.-\n)```", rest))
  blocks[#blocks + 1] = { note = note:match "^:? ?([^;]*)", text = block, prints = printed }
end

local function find(name)
  for _, block in ipairs(blocks) do
    if block.note:find(name, 1, true) == 1 then return block end
  end
  error("docs/nginx.md has no " .. name)
end

local function write(path, content)
  local out = assert(io.open(path, "wb"))
  out:write(content)
  out:close()
end

describe("docs/nginx.md:", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local dir, conf

  setup(function()
    dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
    assert(uv.fs_mkdir(dir .. "/app", 493))
    for _, block in ipairs(blocks) do
      local path = block.note:match "^/srv/app/(.*)$"
      if path then write(dir .. "/" .. path, block.text) end
    end
    conf = find("nginx.conf").text:gsub("/srv/app", dir)
    -- the LuaJIT that this nginx has, instead of OpenResty's
    local packages = uv.cwd() .. "/build/nginx"
    local headers = io.popen("dirname $(find " .. packages .. "/root/usr/include -name lua.h | head -n 1)"):read "*l"
    write(dir .. "/install.sh", (find("a shell").text:gsub("LUA=%S+", "LUA=" .. packages .. "/luajit")
      :gsub("LUA_INCDIR=%S+", "LUA_INCDIR=" .. headers):gsub("PREFIX=%S+", "PREFIX=" .. dir)))
    local pipe = io.popen(("env -u LUA_PATH -u LUA_CPATH -u MAKEFLAGS -u CFLAGS -u CPPFLAGS -u LDFLAGS -u LD_PRELOAD "
      .. "BUILD=%s/build sh %s/install.sh 2>&1; echo $?"):format(dir, dir))
    local output = pipe:read "*a"
    pipe:close()
    assert(output:match "(%d+)\n$" == "0", output)
  end)

  teardown(function()
    os.execute("rm -rf " .. dir)
  end)

  -- Asks an nginx with the document's configuration, and perhaps one more program, at /.
  local function ask(path, program)
    local own = server.start()
    local text_of_conf = conf
    if program then
      write(dir .. "/program.lua", program)
      local location = ("\n    location = / { content_by_lua_file %s/program.lua; }"):format(dir)
      text_of_conf = conf:gsub("\n    location ", location .. "%0")
    end
    local status, body
    nginx.with({ url = own.url, conf = text_of_conf, prefix = dir, seconds = 20 }, function(web)
      status, body = web:get(path)
      redio.sleep(0.05) -- a timer
    end)
    own:stop()
    return status, body
  end

  it("redio is installed, and nginx.conf serves its program", function()
    assert.truthy(uv.fs_stat(dir .. "/share/lua/5.1/redio/init.lua"))
    assert.truthy(uv.fs_stat(dir .. "/lib/lua/5.1/redio/core.so"))
    local status, body = ask "/visits"
    assert.same(200, status)
    assert.same(find("nginx.conf").prints, body)
  end)

  for _, block in ipairs(blocks) do
    if block.note == "" then
      it("the block that ends with " .. block.text:match "([^\n]*)\n$", function()
        local status, body = ask("/", block.text)
        assert.same(200, status)
        if block.prints then assert.same(block.prints, body) end
      end)
    end
  end
end)
