-- SPDX-License-Identifier: MIT
-- A coroutine that waited on a receiver, a view or a monitor that nothing else referred to was collected, and with it
-- all that it waited on: the loop went on without the listener, and nothing said so.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local process = require "spec.support.process"
local fixtures = require "spec.support.fixtures"

local CHANNEL = "spec:kept"

-- Each waits for one message that ends with "heard", on a client of its own. (A monitor hears other things as well.)
local WAITS = {
  ["a receiver"] = function(redis, hear) hear(redis:pubsub(CHANNEL):await()) end,
  ["a receiver that resubscribes"] = function(redis, hear) hear(redis:pubsub(CHANNEL):resubscribe():await()) end,
  ["a receiver in a loop"] = function(redis, hear)
    for message in redis:pubsub(CHANNEL) do -- luacheck: ignore 512
      hear(message)
      break
    end
  end,
  ["messages()"] = function(redis, hear)
    for message in redis:pubsub(CHANNEL):messages() do -- luacheck: ignore 512
      hear(message)
      break
    end
  end,
  ["a pattern"] = function(redis, hear) hear(redis:pubsub():psubscribe(CHANNEL .. "*"):await()) end,
  ["a view"] = function(redis, hear) hear(redis:pubsub(CHANNEL):channel(CHANNEL):get()) end,
  ["a view with a timeout"] = function(redis, hear)
    hear(redis:pubsub(CHANNEL):channel(CHANNEL):get { timeout = 50 })
  end,
  ["wait_message() of a view"] = function(redis, hear)
    local view = redis:pubsub(CHANNEL):channel(CHANNEL)
    hear(view:wait_message() and view:get())
  end,
  ["messages() of a view"] = function(redis, hear)
    for message in redis:pubsub(CHANNEL):channel(CHANNEL):messages() do -- luacheck: ignore 512
      hear(message)
      break
    end
  end,
  ["a monitor"] = function(redis, hear)
    local monitor = redis:monitor()
    repeat until hear(monitor:await().line:match(CHANNEL .. '" "(heard)"'))
  end,
  ["a monitor in a loop"] = function(redis, hear)
    for entry in redis:monitor() do
      if hear(entry.line:match(CHANNEL .. '" "(heard)"')) then break end
    end
  end,
}

local STARTS = {
  ["redio.spawn"] = function(fn) redio.spawn(fn) end,
  ["coroutine.wrap"] = function(fn) coroutine.wrap(fn)() end,
}

describe("what waits is not collected:", function()
  local it_needs = fixtures.new()
  local publisher

  before_each(function()
    publisher = it_needs:client(server.shared().url)
  end)

  after_each(function()
    it_needs:clear()
  end)

  local function publish_until(done)
    return check.eventually(function()
      publisher():publish(CHANNEL, "heard"):await()
      redio.sleep(0.01)
      return done()
    end)
  end

  for waited_on, wait in pairs(WAITS) do
    for how, start in pairs(STARTS) do
      it(("%s, under %s"):format(waited_on, how), function()
        check.within(60, function()
          local heard
          start(function()
            local redis = redio.Redis(server.shared().url)
            wait(redis, function(message)
              heard = message
              return message
            end)
            redis:close { drain = 0 }
          end)
          for _ = 1, 20 do -- while it connects, subscribes and waits
            redio.sleep(0.002)
            process.collect()
          end
          assert.truthy(publish_until(function() return heard end))
          assert.are.equal("heard", heard)
        end)
      end)
    end
  end

  for how, start in pairs(STARTS) do
    it("a receiver that is without its connection, and others that wait on it, under " .. how, function()
      local line = it_needs:proxy()
      check.within(60, function()
        local heard = {}
        start(function()
          local redis = redio.Redis(line.url, { retry = { max = 3, base = 0.05, cap = 0.05 } })
          local receiver = redis:pubsub(CHANNEL, "spec:kept:other"):resubscribe()
          local view = receiver:channel "spec:kept:other"
          start(function()
            repeat heard[#heard + 1] = view:get() until heard[#heard] == "two"
          end)
          heard.one = receiver:await()
          heard.again = receiver:await()
          redis:close { drain = 0 }
        end)
        assert.truthy(check.eventually(function()
          return publisher():publish("spec:kept:other", "none"):await() == 1
        end))
        line:deafen()
        line:cut "rst"
        for _ = 1, 20 do
          redio.sleep(0.005)
          process.collect()
        end
        line:listen()
        assert.is_true(check.eventually(function()
          process.collect()
          publisher():publish(CHANNEL, "one"):publish("spec:kept:other", "two"):await()
          return heard.one and heard.again and heard[#heard] == "two"
        end))
      end)
    end)
  end

  it("one that waits for another that connects", function()
    local line = it_needs:proxy()
    line.down.hold = true
    check.within(60, function()
      local heard = {}
      do
        local receiver = redio.Redis(line.url):pubsub(CHANNEL)
        for i = 1, 3 do
          coroutine.wrap(function() heard[i] = receiver:await() end)()
        end
      end
      for _ = 1, 10 do
        redio.sleep(0.002)
        process.collect()
      end
      line.down.hold = nil
      line:release()
      assert.truthy(publish_until(function() return heard[1] and heard[2] and heard[3] end))
      process.collect()
    end)
  end)
end)

describe("without waits and without references it is collected:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  local DROPS = {
    receiver = function(redis) redis:pubsub(CHANNEL):connect() end,
    ["receiver that was waited on"] = function(redis)
      local receiver = redis:pubsub(CHANNEL):connect()
      pcall(redio.with_timeout, 0.01, receiver.await, receiver)
    end,
    ["view that was waited on"] = function(redis)
      local view = redis:pubsub(CHANNEL):connect():channel(CHANNEL)
      pcall(view.get, view, { timeout = 0.01 })
    end,
    ["receiver whose waiting task was cancelled"] = function(redis)
      local task = redio.spawn(function() redis:pubsub(CHANNEL):await() end)
      redio.sleep(0.02)
      task:cancel()
    end,
    monitor = function(redis) redis:monitor():connect() end,
    ["monitor that was read from"] = function(redis)
      for _ in redis:monitor() do break end -- luacheck: ignore 512
    end,
  }

  for name, drop in pairs(DROPS) do
    for _, keeps_client in ipairs { true, false } do
      it(("a %s, %s its client"):format(name, keeps_client and "without" or "with"), function()
        local observer = it_needs:client(server.shared().url)
        check.within(60, function()
          local label = "spec-dropped-" .. name:gsub(" ", "-") .. tostring(keeps_client)
          local client = keeps_client and redio.Redis(server.shared().url, { client_name = label })
          local talk = redio.spawn(function()
            while true do
              observer():ping():await()
              redio.sleep(0.005)
            end
          end)
          drop(client or redio.Redis(server.shared().url, { client_name = label }))
          talk:cancel()
          assert.is_true(check.eventually(function()
            process.collect()
            return #check.clients(observer, label) == 0
          end))
          if client then assert.are.equal(0, client:stats().receivers) end
        end)
      end)
    end
  end
end)
