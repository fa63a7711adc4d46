-- SPDX-License-Identifier: MIT
-- redis-lua, which is plain Lua with LuaSocket. measure.lua says how the program is called.

-- Debian has it for Lua up to 5.3. Lua 5.4 can run the same file.
package.path = package.path .. ";" .. package.path:gsub("5%.4", "5.3")

local measure = require "bench.measure"
local redis_lua = require "redis"

-- Its pipelines insert nil past the end of a list, which Lua refuses since 5.3.
local insert = table.insert
rawset(table, "insert", function(list, ...)
  if select("#", ...) == 1 then return insert(list, (...)) end
  list[(...)] = select(2, ...)
end)

local redis
local workloads = {}

local function add(name, step, run)
  workloads[#workloads + 1] = { name, function()
    measure.measure(name, step, run)
  end }
end

local function lengths(results)
  local sum = 0
  for i = 1, #results do
    sum = sum + #results[i]
  end
  return sum
end

local function repeated(ask)
  return function(n)
    local bytes = 0
    for _ = 1, n do
      bytes = bytes + ask()
    end
    return bytes
  end
end

for _, depth in ipairs { 10, 100, 1000 } do
  add("get-" .. depth, depth, function(n)
    local bytes = 0
    for _ = 1, n / depth do
      bytes = bytes + lengths(redis:pipeline(function(p)
        for _ = 1, depth do
          p:get "v:32"
        end
      end))
    end
    return bytes
  end)
  add("set-" .. depth, depth, function(n)
    local value = ("x"):rep(32)
    for _ = 1, n / depth do
      local results = redis:pipeline(function(p)
        for _ = 1, depth do
          p:set("w:32", value)
        end
      end)
      for i = 1, depth do
        assert(results[i])
      end
    end
    return n * 32
  end)
end

for name, length in pairs { ["1"] = 32, ["4k"] = 4096, ["64k"] = 65536, ["1m"] = 1048576 } do
  add("get-" .. name, 1, repeated(function()
    return #redis:get("v:" .. length)
  end))
  local value = ("x"):rep(length)
  add("set-" .. name, 1, repeated(function()
    assert(redis:set("w:" .. length, value))
    return length
  end))
end

add("list", 1, repeated(function()
  return lengths(redis:lrange("list", 0, -1))
end))

add("hash", 1, repeated(function()
  local bytes = 0
  for field, value in pairs(redis:hgetall "hash") do
    bytes = bytes + #field + #value
  end
  return bytes
end))

if arg[1] ~= "--list" then redis = redis_lua.connect(measure.host, measure.port) end
measure.main(workloads)
