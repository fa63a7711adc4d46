-- SPDX-License-Identifier: MIT
-- lua/redio/meta, the annotations for editors: commands.lua is the output of tools/annotations.lua, and contract.lua
-- names exactly the names that there are.

local child = require "spec.support.child"
local commands = require "redio.command.table"
local compile = require "spec.support.compile"
local redio = require "redio"
local types = require "redio.settings.types"
local server = require "spec.support.server"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local COMMANDS, CONTRACT = read "lua/redio/meta/commands.lua", read "lua/redio/meta/contract.lua"

-- The annotated fields of a class, by name.
local function fields_of(text, class)
  local fields = {}
  local body = (text .. "\n\n"):match("\n%-%-%-@class " .. class:gsub("%p", "%%%0") .. "\n(.-)\n\n")
  for name in (body or error("no class " .. class)):gmatch "%-%-%-@field ([%w_]+)" do
    assert(not fields[name], class .. " has two of " .. name)
    fields[name] = true
  end
  return fields
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

describe("lua/redio/meta/commands.lua", function()
  local private

  setup(function()
    private = server.start()
  end)

  teardown(function()
    private:stop()
  end)

  local function methods()
    local set = { delete = true }
    for name in pairs(commands) do
      set[name:lower():gsub("[ -]", "_")] = true
    end
    return sorted(set)
  end

  it("has every command as a method, and no other", function()
    assert.same(methods(), sorted(fields_of(COMMANDS, "redio.Handle")))
  end)

  it("is what tools/annotations.lua makes of the installed server's docs", function()
    local text, status = child.run("tools/annotations.lua", private.url)
    assert.equal(0, status, text)
    assert.same(methods(), sorted(fields_of(text, "redio.Handle")))
    local made_from = COMMANDS:match "from Redis ([%d.]+)%."
    if made_from == text:match "from Redis ([%d.]+)%." then
      assert.equal(text, COMMANDS)
    end
  end)

  it("tells what a command takes, since when there is one, and what it costs", function()
    local text = COMMANDS:match "\n(%-%-%- Set the string value of a key.-\n)%-%-%-@field set "
    assert.truthy(text:find("`SET key value [NX|XX]", 1, true))
    assert.truthy(text:find("Since 1.0.0. O(1).", 1, true))
    assert.matches("%-%-%-@field set fun%(self: redio.Handle, key: redio.Value, value: redio.Value, %.%.%.: ", COMMANDS)
  end)
end)

describe("lua/redio/meta", function()
  local LINE = { "^%-%-%-@meta _$", "^%-%-%-@alias [%w.]+ %S", "^%-%-%-@class [%w.]+$", "^%-%-%-@field [%w_]+%?? %S",
    "^%-%-%-@overload fun%(", "^%-%-%-[^@]", "^%-%- ", "^$" }

  for path, text in pairs { ["commands.lua"] = COMMANDS, ["contract.lua"] = CONTRACT } do
    it(path .. " is Lua, and nothing but annotations", function()
      assert(loadfile("lua/redio/meta/" .. path))
      if compile.shell "command -v luac5.4" then
        assert.is_true((compile.shell("luac5.4 -p lua/redio/meta/" .. path)))
      end
      for line in text:gmatch "([^\n]*)\n" do
        local known = false
        for _, pattern in ipairs(LINE) do
          known = known or line:find(pattern) ~= nil
        end
        assert(known, line)
        for open, close in pairs { ["("] = ")", ["{"] = "}" } do
          if line:find "^%-%-%-@" then
            assert.equal(select(2, line:gsub("%" .. open, "")), select(2, line:gsub("%" .. close, "")), line)
          end
        end
      end
    end)
  end
end)

-- Fields of handles for the files of chain/ and for the ancestor's programs; methods of tasks for parking.
local INTERNAL = {}
for name in ([[conn session is_private greets unpooled allowance selects in_pubsub _decode _timeout
  fail interrupt is_pending is_unsent result run stage withdraw withdraw_all]]):gmatch "%S+" do
  INTERNAL[name] = true
end

local function public(class)
  local fields = {}
  for name, value in pairs(class) do
    if not INTERNAL[name] then fields[name] = value end
  end
  return fields
end

describe("lua/redio/meta/contract.lua", function()
  local function keys(object, extra)
    local set = {}
    for name in pairs(object) do
      if type(name) == "string" and not name:find "^_" then
        set[name] = true
      end
    end
    for _, name in ipairs(extra or {}) do
      set[name] = true
    end
    return sorted(set)
  end

  local function class_of(object)
    return getmetatable(object).__index
  end

  local function documented(class)
    local fields = fields_of(CONTRACT, class)
    fields._VERSION = nil
    return sorted(fields)
  end

  it("has the whole module", function()
    assert.same(keys(redio), documented "redio")
  end)

  it("has every option", function()
    assert.same(types.names, documented "redio.Options")
  end)

  it("has every method of what there is", function()
    local redis = redio.Redis()
    local handle = redis()
    local receiver = redis:pubsub()
    local task = redio.spawn(function() end)
    task:cancel()
    local made = fields_of(COMMANDS, "redio.Handle") -- when they were first used
    local own = {}
    for name in pairs(class_of(handle)) do
      if type(name) == "string" and not made[name] and not INTERNAL[name] then own[name] = true end
    end
    assert.same(keys(own), documented "redio.Handle")
    assert.same(keys(class_of(redis), { "closed" }), documented "redio.Client")
    assert.same(keys(class_of(receiver), { "closed", "in_pubsub", "pubsub_channels", "pubsub_patterns" }),
      documented "redio.Receiver")
    assert.same(keys(class_of(redis:lock "name"), { "name", "timeout", "token" }), documented "redio.Lock")
    assert.same(keys(class_of(redis:monitor()), { "closed" }), documented "redio.Monitor")
    assert.same(keys(public(class_of(task))), documented "redio.Task")
    local channel = receiver:channel "name"
    for _, name in ipairs(documented "redio.Channel") do
      assert(channel[name] ~= nil, name)
    end
    receiver:close()
    redis:close()
  end)
end)
