-- SPDX-License-Identifier: MIT
-- Long chains and long lists stay right, and take a time that is linear in their length.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

local PREFIX = "spec:scale:"

local function key(name)
  return PREFIX .. name
end

-- The mean time that the processor spends on `fn`, in seconds, over some rounds, each of which begins with nothing to
-- collect.
local function time(rounds, fn)
  local spent = 0
  for _ = 1, rounds do
    collectgarbage()
    collectgarbage()
    local before = os.clock()
    fn()
    spent = spent + os.clock() - before
  end
  return spent / rounds
end

describe("At scale", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  it("a chain of 10,000 commands returns its results by await", function()
    local n = math.type and 10000 or 5000 -- LuaJIT returns at most some 8,000 values
    local db = redis()
    for i = 1, n do
      db:echo(i)
    end
    local results = { db:await() }
    assert.are.equal(n, #results)
    for i = 1, n do
      assert(results[i] == tostring(i))
    end
  end)

  it("a chain of 1,000,000 commands returns its results by replies()", function()
    local n = 1000000
    local db = redis():del(key "n")
    for _ = 1, n do
      db:incr(key "n")
    end
    assert.are.equal(n + 1, db:queued())
    local replies = db:replies()
    assert.are.equal(n + 1, #replies)
    for i = 1, n do
      assert(replies[i + 1] == i)
    end
  end)

  it("a chain of ten times the commands takes at most about ten times the time", function()
    local function chain(n)
      local db = redis()
      for _ = 1, n do
        db:incr(key "n")
      end
      assert(#db:replies() == n)
    end
    chain(10000)
    local short = time(3, function() chain(30000) end)
    local long = time(1, function() chain(300000) end)
    -- (More commands leave the processor's caches. A quadratic time would be a hundred times as long.)
    assert.is_true(long <= 40 * short, ("%.3f s and %.3f s"):format(short, long))
  end)

  it("a list of 1,000,000 elements takes about ten times the time of 100,000", function()
    for _, n in ipairs { 100000, 1000000 } do
      redis():eval([[
        for first = 1, ARGV[1], 1000 do
          local part = {}
          for i = first, first + 999 do part[#part + 1] = i end
          redis.call('RPUSH', KEYS[1], unpack(part))
        end
      ]], 1, key("list" .. n), n):await()
    end
    local function read(n)
      local list = redis():lrange(key("list" .. n), 0, -1):await()
      assert(#list == n and list[1] == "1" and list[n] == ("%d"):format(n))
    end
    read(100000)
    local short = time(10, function() read(100000) end)
    local long = time(3, function() read(1000000) end)
    -- Ten times the strings leave the processor's caches, and plain Lua takes 12 to 18 times as long to
    -- make them, 40 times on a busy machine; what is quadratic takes a hundred times.
    assert.is_true(long <= 60 * short, ("%.3f s and %.3f s"):format(short, long))
  end)

  it("a value of 64 MiB goes and comes back", function()
    local big = ("0123456789abcdef"):rep(4 * 1024 * 1024)
    local back = redis():set(key "big", big):get(key "big"):await()
    assert.is_true(back == big)
  end)
end)
