-- SPDX-License-Identifier: MIT
-- Times longer than the loop can count, and the shortest: on Lua 5.4 1e16 s were "number has no integer
-- representation", lost the chain that waited, and as a health_check_interval ended the process.

local check = require "spec.support.check"
local child = require "spec.support.child"
local luv = require "redio.transport.luv"
local redio = require "redio"
local types = require "redio.settings.types"
local server = require "spec.support.server"

local MAXINTEGER = math.maxinteger or 2 ^ 63 -- luacheck: ignore
local LONG = { math.huge, 1e300, 1e16, 2 ^ 53, 0x7fffffff / 1000 + 1, MAXINTEGER }
local SHORT = { 0, 1e-300, 1e-9, 0.0005 }
local WRONG = { 0 / 0, -1, -1e-9, -math.huge, "1", {} }

-- True if a task still runs after a few turns of the loop. Cancels it.
local function still_waits(fn, ...)
  local task = redio.spawn(fn, ...)
  redio.sleep(0.005)
  local status = task:status()
  task:cancel()
  return status == "waiting"
end

describe("a time in seconds", function()
  local redis

  setup(function()
    redis = redio.Redis(server.shared().url)
  end)

  teardown(function()
    redis:close()
  end)

  it("may be longer than a timer's", function()
    redio.run(function()
      for _, seconds in ipairs(LONG) do
        local name = tostring(seconds)
        assert.is_true(still_waits(redio.sleep, seconds), name)
        assert.equal("done", redio.with_timeout(seconds, function()
          redio.sleep(0)
          return "done"
        end), name)
        assert.equal("hello", redis():echo("hello"):timeout(seconds):await(), name)
        local fired = false
        local timer = luv.start_timer(seconds, function()
          fired = true
        end)
        redio.sleep(0.002)
        assert.is_false(fired, name)
        luv.stop_timer(timer)
      end
    end)
  end)

  it("may be none, or next to none", function()
    redio.run(function()
      for _, seconds in ipairs(SHORT) do
        redio.sleep(seconds)
        check.raises("TimeoutError", redio.with_timeout, seconds, redio.sleep, 10)
        check.raises("TimeoutError", function()
          redis():blpop("nothing", 0):timeout(seconds):await()
        end)
      end
    end)
  end)

  it("of an option may be any that it takes", function()
    for _, name in ipairs { "connect_timeout", "timeout", "pool_timeout", "health_check_interval" } do
      for _, seconds in ipairs { 1e300, 1e16, 0x7fffffff / 1000 + 1, MAXINTEGER } do
        local output, status = child.run_text(([[
          local redio = require "redio"
          redio.run(function()
            local redis = redio.Redis(os.getenv "REDIS_URL", { %s = tonumber "%.17g", max_connections = 1 })
            local held = redio.spawn(function() redis():blpop("nothing", 0.05):await() end)
            redio.sleep(0.01)
            redis():blpop("nothing", 0.01):await() -- waits for a place in the pool
            held:await()
            print(redis():echo("hello"):await())
            redis:close()
          end)
        ]]):format(name, seconds), server.shared().url, 10)
        assert.equal("hello\n0", output .. status, name .. " = " .. seconds)
      end
    end
    redio.run(function()
      for _, seconds in ipairs { 1e300, math.huge } do
        local lock = redis:lock("longest", { timeout = seconds, blocking_timeout = seconds })
        assert.is_true(lock:acquire())
        assert.is_true(lock:extend(seconds))
        assert.is_true(redis():pttl("longest"):await() > 1e15)
        assert.is_true(still_waits(function()
          redis:lock("longest", { blocking_timeout = seconds }):acquire()
        end))
        lock:release()
      end
      redio.Redis(server.shared().url):close { drain = math.huge }
      local channel = redis:pubsub("c"):connect():channel "c"
      assert.is_true(still_waits(channel.get, channel, { timeout = 1e300 }))
    end)
  end)

  it("is refused at the caller's line when it is none", function()
    redio.run(function()
      local lock = redis:lock "refused"
      local channel = redis:pubsub("c"):connect():channel "c"
      for _, wrong in ipairs(WRONG) do
        local calls = {
          sleep = function() redio.sleep(wrong) end,
          with_timeout = function() redio.with_timeout(wrong, redio.sleep, 1) end,
          timeout = function() redis():timeout(wrong) end,
          lock = function() redis:lock("x", { timeout = wrong }) end,
          patience = function() redis:lock("x", { blocking_timeout = wrong }) end,
          pause = function() redis:lock("x", { sleep = wrong }) end,
          extend = function() lock:extend(wrong) end,
          close = function() redis:close { drain = wrong } end,
          get = function() channel:get { timeout = wrong } end,
          get_json = function() channel:get_json { timeout = wrong } end,
          messages = function() channel:messages { timeout = wrong } end,
        }
        for name, call in pairs(calls) do
          local said = check.misuse(call)
          assert.matches("seconds", said, name .. " of " .. tostring(wrong))
        end
      end
      check.misuse(function() redis:lock("x", { timeout = 0 }) end)
      check.misuse(function() redis:lock("x", { time = 1 }) end)
      assert.is_false(redis.closed)
    end)
  end)

  it("is refused in every option that takes seconds", function()
    local places = { "connect_timeout", "timeout", "pool_timeout", "health_check_interval" }
    for _, name in ipairs(types.names) do
      local ok, said = pcall(redio.Redis, nil, { [name] = {} })
      if not ok and said:find "seconds" then
        assert.truthy((" " .. table.concat(places, " ") .. " "):find(" " .. name .. " ", 1, true), name)
      end
    end
    for _, wrong in ipairs { 0 / 0, -1, -1e-9, -math.huge, math.huge, "1" } do
      for _, name in ipairs(places) do
        local said = check.misuse(function()
          redio.Redis(nil, { [name] = wrong })
        end)
        assert.matches("option '" .. name .. "' must be a .*number of seconds", said)
      end
      for _, field in ipairs { "base", "cap" } do
        assert.matches("option 'retry." .. field .. "' must be", check.misuse(function()
          redio.Redis(nil, { retry = { [field] = wrong } })
        end))
      end
    end
  end)
end)
