-- SPDX-License-Identifier: MIT
-- Promise 27, what waits is kept: nothing that somebody waits for is collected, neither the coroutine nor the handle,
-- the client or the task that it waits on, whoever else refers to them. (Receivers, views and monitors:
-- regress/receiver_waiting_collected_spec.lua; nginx: nginx_waits_spec.lua.)

local check = require "spec.support.check"
local process = require "spec.support.process"
local redio = require "redio"
local server = require "spec.support.server"
local stage = require "spec.support.stage"

local PATIENT = { connect_timeout = false } -- behind other specs a collection may take a second

-- Releases the line; and holds it, unless it was released before: a busy machine may come to the wait only then.
local function holding(line)
  local released = false
  return function()
    released = true
    line:release()
  end, function()
    line.down.hold = not released
  end
end

-- Each waits for something that comes after the collections, and is heard then. What makes it come is what it returns;
-- all else it has made is its own.
local WAITS = {
  ["a reply on the shared connection"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      hear(redis():echo("heard"):await())
    end
  end,
  ["a chain"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      hear(redis():ping():ping():echo("heard"):replies()[1])
    end
  end,
  ["a connection that is being made"] = function(it, hear)
    local line = it:proxy()
    line.down.hold = true
    return function() line:release() end, function()
      hear(redio.Redis(line.url, PATIENT)():echo("heard"):await())
    end
  end,
  ["on_connect"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      hear(redio.Redis(line.url, { connect_timeout = false, on_connect = function(db)
        hold()
        db:ping():await()
      end })():echo("heard"):await())
    end
  end,
  ["a second try after a loss"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      redio.spawn(function()
        redio.sleep(0.01)
        line:cut()
      end)
      hear(redis():echo("heard"):await())
    end
  end,
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
  ["a transaction"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      hear(redio.Redis(line.url):transaction("spec:p27", function(db)
        hold()
        db:echo("heard")
      end)[1])
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
  ["a script"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      hear(redis:script("return ARGV[1]")({}, { "heard" }))
    end
  end,
  ["an iterator"] = function(it, hear)
    local line = it:proxy()
    it:client(server.shared().url)():del("spec:p27:set"):sadd("spec:p27:set", "heard"):await()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      for member in redis:sscan("spec:p27:set") do
        hear(member)
      end
    end
  end,
  ["sleep"] = function(_, hear)
    return function() end, function()
      redio.sleep(0.1)
      hear "heard"
    end
  end,
  ["another task"] = function(_, hear)
    return function() end, function()
      hear(redio.spawn(function()
        redio.sleep(0.1)
        return "heard"
      end):await())
    end
  end,
  ["a group"] = function(_, hear)
    return function() end, function()
      hear((redio.gather(function()
        redio.sleep(0.1)
        return "heard"
      end, function() end)))
    end
  end,
  ["a deadline that does not strike"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      hear(redio.with_timeout(50, function()
        local redis = redio.Redis(line.url)
        redis():ping():await()
        hold()
        return (redis():timeout(50):echo("heard"):await())
      end))
    end
  end,
  ["a deadline that strikes"] = function(_, hear)
    return function() end, function()
      local ok, err = pcall(function()
        redio.Redis(server.shared().url)():timeout(0.1):blpop("spec:p27:none", 0):await()
      end)
      hear(not ok and redio.errors.is(err, "TimeoutError") and "heard")
    end
  end,
  ["the close of a client"] = function(it, hear)
    local line = it:proxy()
    local release, hold = holding(line)
    return release, function()
      local redis = redio.Redis(line.url)
      redis():ping():await()
      hold()
      redio.spawn(function()
        redis():ping():await()
      end)
      redio.sleep(0)
      redis:close { drain = 50 }
      hear "heard"
    end
  end,
}

local STARTS = {
  spawn = function(fn) redio.spawn(fn) end,
  ["coroutine.wrap"] = function(fn) coroutine.wrap(fn)() end,
}

describe("Promise 27, what waits is kept:", function()
  local it_needs = stage.new()

  before_each(function()
    server.shared():cli("del", "spec:p27")
  end)

  after_each(function()
    it_needs:clear()
  end)

  for what, prepare in pairs(WAITS) do
    for how, start in pairs(STARTS) do
      it(what .. ", under " .. how, function()
        check.within(60, function()
          local heard
          local release, wait = prepare(it_needs, function(value)
            heard = value
          end)
          start(wait)
          wait = nil -- luacheck: ignore
          for _ = 1, 3 do
            collectgarbage()
            redio.sleep(0.02)
          end
          process.collect()
          release()
          assert.are.equal("heard", check.eventually(function()
            return heard
          end))
        end)
      end)
    end
  end
end)
