-- SPDX-License-Identifier: MIT
-- The programs in README.md and docs/*.md run, and the claims of their tables are compared with the code.
--
-- Lua blocks run in the order of the file, each as a program of its own, against a server that is empty when the file
-- begins. An HTML comment right before a block says more, its parts apart by semicolons:
--
--   needs NAMES   redio, redis (a client of the server) and db (a handle of it) are there
--   prints        it prints exactly the next block, which is ```text
--   is FILE       it is that file, but for the line of the licence
--   Lua 5.4       not for Luas without closing values
--   in HOST       it is run by that host's spec
--
-- A block without a comment must run. Shell blocks may name only targets that the Makefile has.

local lua_version = require "redio.base.lua_version"
local errors = require "redio.base.errors"
local settings_of = require "redio.settings"
local types = require "redio.settings.types"
local server = require "spec.support.server"
local child = require "spec.support.child"

local PRELUDE = {
  redio = 'local redio = require "redio" ',
  redis = 'local redis = require "redio".Redis(os.getenv "REDIS_URL") ',
  db = 'local db = require "redio".Redis(os.getenv "REDIS_URL")() ',
}

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

local function documents()
  local list = {}
  for path in io.popen("ls README.md docs/*.md"):lines() do
    list[#list + 1] = path
  end
  return list
end

-- The fenced blocks of a document: language, text, the line of its first line, and what the comment says.
local function blocks_of(path)
  local list, block, note, number = {}, nil, nil, 0
  for line in (read(path) .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local fence = line:match("^```(.*)$")
    if block and fence then
      block.text = table.concat(block, "\n") .. "\n"
      list[#list + 1] = block
      block = nil
    elseif block then
      block[#block + 1] = line
    elseif fence then
      block = { language = fence, line = number + 1, note = note or "" }
      note = nil
    elseif line:find("%S") then
      note = line:match("^<!%-%- (.-) %-%->$")
    end
  end
  assert(not block, path .. " ends within a block")
  return list
end

-- "needs redis db; prints" -> {needs = {"redis", "db"}, prints = true}
local function parse_note(note)
  local said = { needs = {} }
  for clause in note:gmatch("[^;]+") do
    local word, rest = clause:match("^%s*(%S+)%s*(.-)%s*$")
    if word == "needs" then
      for name in rest:gmatch("%w+") do
        said.needs[#said.needs + 1] = assert(PRELUDE[name] and name, "nothing is known of " .. name)
      end
    elseif word == "prints" then
      said.prints = true
    elseif word == "is" then
      said.is = rest
    elseif word == "Lua" then
      said.newer = true
    elseif word == "in" then
      said.elsewhere = true
    else
      error("what does this comment say: " .. note)
    end
  end
  return said
end

-- The program, with its lines where they are in the document.
local function program_of(block, said)
  local prelude = {}
  for _, name in ipairs(said.needs) do
    prelude[#prelude + 1] = PRELUDE[name]
  end
  return table.concat(prelude) .. ("\n"):rep(block.line - 1) .. block.text
end

local function check_lua(block, said, following, url)
  if said.is then
    local source = assert(read(said.is), said.is)
    assert.equal(source:gsub("^[^\n]*SPDX[^\n]*\n", ""), block.text)
  end
  local output, status = child.run_text(program_of(block, said), url)
  assert(status == 0, output)
  if said.prints then
    assert(following and following.language == "text", "a block of text should follow")
    assert.equal(following.text, output)
  else
    assert.is_nil(output:match("redio: [^\n]*"))
  end
end

local function targets()
  local set = {}
  for line in io.lines("Makefile") do
    for name in (line:match("^([%w%s-]+):[^=]") or line:match("^([%w%s-]+):$") or ""):gmatch("%S+") do
      set[name] = true
    end
  end
  return set
end

local function check_shell(block)
  local known = targets()
  for line in block.text:gmatch("[^\n]+") do
    local words = line:gsub("#.*$", "")
    for name in (words:match("^%s*make%s+(.*)$") or ""):gmatch("%S+") do
      assert(known[name] or name:find("=", 1, true), "there is no target " .. name)
    end
    local rockspec = words:match("%f[%w]luarocks .-make.-(%S+%.rockspec)")
    assert(not rockspec or read(rockspec) or read("rockspec/" .. rockspec), rockspec)
  end
end

-- The name that a link to a heading has.
local function anchor(heading)
  return (heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-"))
end

local function anchors_of(path)
  local set, in_block = {}, false
  for line in io.lines(path) do
    if line:find("^```") then
      in_block = not in_block
    end
    local heading = not in_block and line:match("^#+%s+(.-)%s*$")
    if heading then
      set[anchor(heading)] = true
    end
  end
  return set
end

local function check_links(path)
  for target in read(path):gsub("```.-\n```", ""):gmatch("%]%(([^)]+)%)") do
    if not target:find("^%a+://") then
      local file, heading = target:match("^([^#]*)#?(.*)$")
      local where = file == "" and path or (path:match("^.*/") or "") .. file
      assert(read(where) or os.execute("test -d " .. where), path .. " links to " .. target)
      assert(heading == "" or anchors_of(where)[heading], path .. " links to " .. target)
    end
  end
end

describe("The documents", function()
  local private

  setup(function()
    private = server.start()
  end)

  teardown(function()
    private:stop()
  end)

  for _, path in ipairs(documents()) do
    describe(path, function()
      setup(function()
        private:cli("flushall")
      end)

      local blocks = blocks_of(path)
      for i, block in ipairs(blocks) do
        local name = ("line %d, %s"):format(block.line, block.language)
        if block.language == "lua" then
          it(name, function()
            local said = parse_note(block.note)
            if said.elsewhere or said.newer and not lua_version.has_close then
              return
            end
            check_lua(block, said, blocks[i + 1], private.url)
          end)
        elseif block.language == "sh" then
          it(name, function()
            check_shell(block)
          end)
        elseif block.language ~= "text" and block.language ~= "nginx" then
          it(name, function()
            error("a block of an unknown language")
          end)
        end
      end

      it("links to what is there", function()
        check_links(path)
      end)
    end)
  end

  local function written(value)
    return type(value) == "string" and '"' .. value .. '"' or tostring(value)
  end

  it("docs/reference.md lists each option, with its default", function()
    local text = read("docs/reference.md")
    for _, name in ipairs(types.names) do
      local default = text:match("\n| `" .. name .. "` | ([^|]-) |")
      assert(default, "option " .. name)
      local value = settings_of.defaults[name]
      if value ~= nil then
        assert.equal(written(value), (default:match("^`([^`]*)`")), "option " .. name)
      end
    end
    for name in (text .. "\n##"):match("\n### Options\n(.-)\n##"):gmatch("\n| `([%w_]+)` |") do
      assert(types.knows(name), "option " .. name)
    end
  end)

  it("docs/reference.md names each kind of error", function()
    local text = read("docs/reference.md")
    for kind in pairs(errors) do
      if type(kind) == "string" and kind:find("Error$") then
        assert(text:find("%f[%w]" .. kind .. "%f[%W]"), kind)
      end
    end
  end)

  it("docs/design.md names files that there are", function()
    for name in read("docs/design.md"):gmatch("`?([%w_/]+%.l?[uach]+)`") do
      assert(read("lua/redio/" .. name) or read("src/" .. name) or read(name), name)
    end
  end)

  it("README.md stays readable", function()
    local _, lines = read("README.md"):gsub("\n", "")
    assert(lines < 250, lines)
  end)
end)
