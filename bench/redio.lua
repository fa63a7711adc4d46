-- SPDX-License-Identifier: MIT
-- redio, by its public API. measure.lua says how the program is called.

local measure = require "bench.measure"
local redio = require "redio"

local total = measure.total
local redis = redio.Redis(("redis://%s:%d/"):format(measure.host, measure.port))
local workloads = {}

local function add(name, step, run)
  workloads[#workloads + 1] = { name, function()
    redio.run(measure.measure, name, step, run)
  end }
end

-- chains --------------------------------------------------------------------------------------------------

local function lengths(results)
  local sum = 0
  for i = 1, #results do
    sum = sum + #results[i]
  end
  return sum
end

local function gets(client, depth)
  return function(n)
    local bytes = 0
    for _ = 1, n / depth do
      local db = client()
      for _ = 1, depth do
        db:get "v:32"
      end
      bytes = bytes + lengths { db:await() }
    end
    return bytes
  end
end

local function sets(client, depth)
  local value = ("x"):rep(32)
  return function(n)
    for _ = 1, n / depth do
      local db = client()
      for _ = 1, depth do
        db:set("w:32", value)
      end
      assert(select("#", db:await()) == 0) -- all are OK
    end
    return n * #value
  end
end

for _, depth in ipairs { 1, 10, 100, 1000 } do
  add("get-" .. depth, depth, gets(redis, depth))
  add("set-" .. depth, depth, sets(redis, depth))
end

-- coroutines ----------------------------------------------------------------------------------------------

local tasks = {}

--- Runs `work` in `count` tasks. Returns when they are done.
local function together(count, work)
  for i = 1, count do
    tasks[i] = redio.spawn(work)
  end
  for i = 1, count do
    tasks[i]:await()
  end
end

for _, count in ipairs { 1000, 10000 } do
  -- each task asks again as soon as it has its answer, with a new handle
  add("coroutines-" .. count, count, function(n)
    local bytes = 0
    together(count, function()
      for _ = 1, n / count do
        local value = redis():get("v:32"):await()
        bytes = bytes + #value
      end
    end)
    return bytes
  end)
  -- a new coroutine, too, for each GET
  add("spawn-" .. count, count, function(n)
    local bytes = 0
    local function work()
      local value = redis():get("v:32"):await()
      bytes = bytes + #value
    end
    for _ = 1, n / count do
      together(count, work)
    end
    return bytes
  end)
end

-- large values --------------------------------------------------------------------------------------------

for _, size in ipairs { { "4k", 4096 }, { "64k", 65536 }, { "1m", 1048576 }, { "64m", 67108864 } } do
  local name, length = size[1], size[2]
  add("get-" .. name, 1, function(n)
    local bytes = 0
    for _ = 1, n do
      bytes = bytes + #redis():get("v:" .. length):await()
    end
    return bytes
  end)
  local value
  add("set-" .. name, 1, function(n)
    value = value or ("x"):rep(length)
    for _ = 1, n do
      assert(select("#", redis():set("w:" .. length, value):await()) == 0)
    end
    return n * length
  end)
end

-- aggregates ----------------------------------------------------------------------------------------------

local function repeated(ask)
  return function(n)
    local bytes = 0
    for _ = 1, n do
      bytes = bytes + ask()
    end
    return bytes
  end
end

add("list", 1, repeated(function()
  return lengths(redis():lrange("list", 0, -1):await())
end))

add("hash", 1, repeated(function()
  local bytes = 0
  for field, value in pairs(redis():hgetall("hash"):await()) do
    bytes = bytes + #field + #value
  end
  return bytes
end))

add("xrange", 1, repeated(function()
  return total(redis():xrange("stream", "-", "+"):await())
end))

add("docs", 1, repeated(function()
  return total(redis():command_docs():await())
end))

-- the rest ------------------------------------------------------------------------------------------------

local MESSAGES = 10000 -- published by one script. The next script is sent when the first message has arrived.
local PUBLISH = "for i = 1, " .. MESSAGES .. " do redis.call('PUBLISH', 'channel', ARGV[1]) end"

add("messages", MESSAGES, function(n)
  local receiver = redis:pubsub("channel"):connect()
  local message = ("m"):rep(100)
  local function publish()
    redis():eval(PUBLISH, 0, message):await()
  end
  local bytes, left = 0, n
  redio.spawn(publish)
  repeat
    bytes = bytes + #receiver:await()
    left = left - 1
    if left % MESSAGES == MESSAGES - 1 and left > MESSAGES then redio.spawn(publish) end
  until left == 0
  receiver:close()
  return bytes
end)

add("multi", 1, repeated(function()
  local results = redis():multi():set("m:1", "value"):get("m:1"):get("v:32"):exec():await()
  return #results[1] + #results[2]
end))

add("watch", 1, repeated(function()
  local db = redis()
  db:watch "v:32"
  local value = db:get("v:32"):await()
  db:multi():set("m:2", value)
  assert(db:exec():await())
  return #value
end))

workloads[#workloads + 1] = { "latency", function()
  redio.run(function()
    local now, list = measure.now, {}
    gets(redis, 1)(2000)
    for i = 1, 10000 do
      local start = now()
      assert(#redis():get("v:32"):await() == 32)
      list[i] = now() - start
    end
    measure.percentiles("latency", list)
  end)
end }

if measure.tls_port then
  local secure = redio.Redis(("rediss://localhost:%d/"):format(measure.tls_port), { tls = { ca = measure.ca } })
  for _, depth in ipairs { 1, 100, 1000 } do
    add("tls-get-" .. depth, depth, gets(secure, depth))
  end
  add("tls-get-1m", 1, repeated(function()
    return #secure():get("v:1048576"):await()
  end))
end

-- memory --------------------------------------------------------------------------------------------------

-- The resident memory of the process in bytes, after a full collection.
local function resident()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open "/proc/self/statm")
  local pages = file:read "*a":match "^%d+ (%d+)"
  file:close()
  return pages * 4096
end

-- The bytes that one thing takes. `make()` makes `each` (1) of them. It is called `count` times, and its results are
-- kept.
local function memory(name, count, make, before, each)
  workloads[#workloads + 1] = { name, function()
    redio.run(function()
      if before then before() end
      local kept = {}
      for i = 1, count do
        kept[i] = false
      end
      local start = resident()
      for i = 1, count do
        kept[i] = make()
      end
      measure.say(name, count * (each or 1), resident() - start)
      assert(#kept == count)
      os.exit(0) -- without waiting for replies
    end)
  end }
end

local function client()
  return redio.Redis(("redis://%s:%d/"):format(measure.host, measure.port))
end

memory("memory-client", 1000, client)

memory("memory-connection", 500, function()
  local one = client()
  one():ping():await()
  return one
end)

local function start(fn)
  local co = coroutine.create(fn)
  assert(coroutine.resume(co))
  return co
end

-- The cost of a coroutine that waits for something else, to be subtracted.
memory("memory-coroutine", 10000, function()
  return start(function()
    coroutine.yield()
  end)
end)

local function warm()
  assert(redis():get("v:32"):await())
end

memory("memory-in-flight", 10000, function()
  return start(function()
    redis():get("v:32"):await()
  end)
end, warm)

memory("memory-command", 100, function()
  local db = redis()
  for _ = 1, 10000 do
    db:get "v:32"
  end
  return db
end, warm, 10000)

measure.main(workloads)
