-- SPDX-License-Identifier: MIT
-- Promise 27, waits are kept: a coroutine that waits is not collected, nor are the handle, the client and the task that
-- it waits on, also where nothing else refers to them. (Receivers, views and monitors:
-- regress/receiver_waiting_collected_spec.lua. nginx: hosts/nginx/waits_spec.lua.)

local check = require "spec.support.check"
local process = require "spec.support.process"
local redio = require "redio"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local PATIENT = { connect_timeout = false } -- a collection may take a second

-- Holds the line, unless it was released before: a busy machine may come to the wait only then.
local function hold(line)
  line.down.hold = not line.was_released
end

local function release(line)
  return function()
    line.was_released = true
    line:release()
  end
end

-- A wait for a reply that a proxy holds back until the collections are over.
local function held(wait)
  return function(it, hear)
    local line = it:proxy()
    return release(line), function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold(line)
      wait(redis, hear, line)
    end
  end
end

-- The same where the connection is still being made. `wait` itself holds the line, or it is held from the start.
local function held_line(wait, from_the_start)
  return function(it, hear)
    local line = it:proxy()
    line.down.hold = from_the_start
    return release(line), function() wait(line, hear) end
  end
end

-- A wait that ends by itself.
local function alone(wait)
  return function(_, hear)
    return function() end, function() wait(hear) end
  end
end

-- Each waits for something that comes after the collections, and calls hear("heard") then. Each is a function that
-- returns what makes it come, and the function that waits, to which alone everything else belongs.
local WAITS = {
  ["a reply on the shared connection"] = held(function(redis, hear)
    hear(redis():echo("heard"):await())
  end),
  ["a chain"] = held(function(redis, hear)
    hear(redis():ping():ping():echo("heard"):replies()[1])
  end),
  ["a connection that is being made"] = held_line(function(line, hear)
    hear(redio.Redis(line.url, PATIENT)():echo("heard"):await())
  end, true),
  ["on_connect"] = held_line(function(line, hear)
    hear(redio.Redis(line.url, { connect_timeout = false, on_connect = function(db)
      hold(line)
      db:ping():await()
    end })():echo("heard"):await())
  end),
  ["a second try after a loss"] = held(function(redis, hear, line)
    redio.spawn(function()
      redio.sleep(0.01)
      line:cut()
    end)
    hear(redis():echo("heard"):await())
  end),
  ["a transaction"] = held_line(function(line, hear)
    hear(redio.Redis(line.url):transaction("spec:p27", function(db)
      hold(line)
      db:echo("heard")
    end)[1])
  end),
  ["a script"] = held(function(redis, hear)
    hear(redis:script("return ARGV[1]")({}, { "heard" }))
  end),
  ["an iterator"] = held(function(redis, hear)
    for member in redis:sscan("spec:p27:set") do
      hear(member)
    end
  end),
  ["the close of a client"] = held(function(redis, hear)
    redio.spawn(function()
      redis():ping():await()
    end)
    redio.sleep(0)
    redis:close { drain = 50 }
    hear "heard"
  end),
  ["a deadline that does not strike"] = held_line(function(line, hear)
    hear(redio.with_timeout(50, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold(line)
      return (redis():timeout(50):echo("heard"):await())
    end))
  end),
  ["a deadline that strikes"] = alone(function(hear)
    local ok, err = pcall(function()
      redio.Redis(server.shared().url)():timeout(0.1):blpop("spec:p27:none", 0):await()
    end)
    hear(not ok and redio.errors.is(err, "TimeoutError") and "heard")
  end),
  ["sleep"] = alone(function(hear)
    redio.sleep(0.1)
    hear "heard"
  end),
  ["another task"] = alone(function(hear)
    hear(redio.spawn(function()
      redio.sleep(0.1)
      return "heard"
    end):await())
  end),
  ["a group"] = alone(function(hear)
    hear((redio.gather(function()
      redio.sleep(0.1)
      return "heard"
    end, function() end)))
  end),
  ["a blocking command"] = function(it, hear)
    local other = it:client(server.shared().url)
    return function() other():rpush("spec:p27", "heard"):await() end, function()
      hear(redio.Redis(server.shared().url)():blpop("spec:p27", 0):await()[2])
    end
  end,
  ["the pool's queue"] = function(it, hear)
    local other = it:client(server.shared().url)
    return function() other():rpush("spec:p27", "first"):await() end, function()
      local redis = redio.Redis(server.shared().url, { max_connections = 1 })
      redio.spawn(function()
        redis():blpop("spec:p27", 0):await()
      end)
      redio.sleep(0.01)
      hear(redis():watch("spec:p27"):echo("heard"):await())
    end
  end,
  ["room to write"] = function(it, hear)
    local line = it:proxy()
    return function() line.up.window = nil line:release() end, function()
      local redis = redio.Redis(line.url, { max_queued_bytes = 1000 })
      redis():ping():await()
      line.up.hold, line.up.window = true, 1
      for _ = 1, 3 do
        redio.spawn(function()
          redis():set("spec:p27", ("x"):rep(10000000)):await()
        end)
      end
      redio.sleep(0)
      hear(redis():echo("heard"):await())
    end
  end,
  ["a lock"] = function(it, hear)
    local other = it:client(server.shared().url)
    other():set("spec:p27:lock", "another's"):await()
    return function() other():del("spec:p27:lock"):await() end, function()
      local lock = redio.Redis(server.shared().url):lock("spec:p27:lock", { sleep = 0.005 })
      hear(lock:acquire() and "heard")
      lock:release()
    end
  end,
}

local STARTS = {
  spawn = function(fn) redio.spawn(fn) end,
  ["coroutine.wrap"] = function(fn) coroutine.wrap(fn)() end,
}

describe("Promise 27, what waits is kept:", function()
  local it_needs = fixtures.new()

  before_each(function()
    server.shared():cli("del", "spec:p27")
    server.shared():cli("sadd", "spec:p27:set", "heard")
  end)

  after_each(function()
    it_needs:clear()
  end)

  for what, prepare in pairs(WAITS) do
    for how, start in pairs(STARTS) do
      it(what .. ", under " .. how, function()
        check.within(60, function()
          local heard
          local let_go, wait = prepare(it_needs, function(value)
            heard = value
          end)
          start(wait)
          wait = nil -- luacheck: ignore
          for _ = 1, 3 do
            collectgarbage()
            redio.sleep(0.02)
          end
          process.collect()
          let_go()
          assert.are.equal("heard", check.eventually(function()
            return heard
          end))
        end)
      end)
    end
  end
end)
