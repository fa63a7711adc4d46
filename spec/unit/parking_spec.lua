-- SPDX-License-Identifier: MIT
-- Both ways of parking (task/coroutines.lua with luv, task/threads.lua in a real nginx) have the interface that
-- task/init.lua describes, and behave alike.

local uv = require "luv"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local redio = require "redio"
local scenarios = require "spec.support.parking_scenarios"
local server = require "spec.support.server"
local task = require "redio.task"

local SOURCE = io.open "lua/redio/task/init.lua":read "*a"

-- The fields of a class as task/init.lua describes it: name -> its type, as Lua's `type` has it.
local function described(class)
  local fields = {}
  local text = SOURCE:match("%-%-%-@class redio%." .. class .. "\n(.-)\n[^-]") or error("no class " .. class)
  for name, of in text:gmatch "%-%-%-@field ([%w_]+) (%S+)" do
    if of:find "^fun" then of = "function" elseif of == "integer" then of = "number" else of = "table" end
    fields[name] = of
  end
  return fields
end

-- Runs inside each host: the names of the interface that a way of parking lacks.
local LACKING = [[
  local expected, parking = ...
  local lacking = {}
  for name, of in pairs(expected) do
    local value = parking[name]
    if type(value) ~= of then lacking[#lacking + 1] = name end
  end
  table.sort(lacking)
  return table.concat(lacking, " ")]]

local function literal(fields)
  local list = {}
  for name, of in pairs(fields) do
    list[#list + 1] = ("%s = %q"):format(name, of)
  end
  return "{ " .. table.concat(list, ", ") .. " }"
end

-- Of a record the interface has the methods: its fields are set as it is used.
local function only_functions(fields)
  local methods = {}
  for name, of in pairs(fields) do
    if of == "function" then methods[name] = of end
  end
  return methods
end

local interface, record = described "Parking", only_functions(described "Record")

describe("The interface of parking", function()
  it("is all that tasks ask of it", function()
    local count = 0
    for name in SOURCE:gmatch "parking%.([%w_]+)" do
      assert(interface[name] or name == "lua", name .. " is not described")
      count = count + 1
    end
    assert.is_true(count > 5)
    for name in pairs(record) do
      assert.matches("[:.]" .. name .. "[%(%s]", SOURCE)
    end
  end)
end)

-- `ask(name)` is an answer from the host: what the interface lacks, or what a scenario said.
local function passes(ask)
  it("has all of the interface", function()
    assert.are.equal("", ask "interface")
    assert.are.equal("", ask "record")
  end)

  for i, scenario in ipairs(scenarios) do
    it(scenario[1], function()
      assert.are.equal(scenario[2], ask(i))
    end)
  end
end

describe("Parking with luv:", function()
  local lacking = (loadstring or load)(LACKING) -- luacheck: ignore 113
  local parking = require "redio.task.coroutines"

  passes(function(what)
    if what == "interface" then return lacking(interface, parking) end
    if what == "record" then return lacking(record, parking.Record) end
    return redio.with_timeout(5, function() -- (`run` would raise what nothing awaits)
      return redio.spawn(scenarios[what][3], redio, task):await()
    end)
  end)
end)

describe("Parking in nginx:", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local web

  setup(function()
    web = nginx.start { url = server.shared().url, locations = {
      ["/interface"] = ('ngx.print((function(...) %s end)(%s, require "redio.task.threads"))'):format(LACKING,
        literal(interface)),
      ["/record"] = ('ngx.print((function(...) %s end)(%s, require "redio.task.threads".Record))'):format(LACKING,
        literal(record)),
      ["/scenario"] = ([[
        local scenario = dofile "%s/spec/support/parking_scenarios.lua"[tonumber(ngx.var.arg_n)]
        ngx.print((redio.spawn(scenario[3], redio, require "redio.task"):await()))]]):format(uv.cwd()),
    } }
  end)

  teardown(function()
    local errors = web:errors()
    web:stop()
    assert.are.same({}, errors)
  end)

  passes(function(what)
    local path = type(what) == "number" and "/scenario?n=" .. what or "/" .. what
    local status, body = check.within(10, web.get, web, path)
    if status ~= 200 then error(("%s: %s\n%s"):format(tostring(status), tostring(body), web:log())) end
    return body
  end)
end)
