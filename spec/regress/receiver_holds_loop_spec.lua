-- SPDX-License-Identifier: MIT
-- The loop ran out while a coroutine still waited on a receiver, since another's wait had ended ("this would wait for
-- ever"), or it never ended, since a wait that was out of time had not let go.

local child = require "spec.support.child"
local server = require "spec.support.server"

local HEAD = [[
  local redio = require "redio"
  local uv = require "luv"
  local redis, publisher = redio.Redis(os.getenv "REDIS_URL"), redio.Redis(os.getenv "REDIS_URL")
  local function start(fn, ...) local co = coroutine.create(fn) assert(coroutine.resume(co, ...)) return co end
  -- when the other connection has long been idle again
  local function publish_later(channel)
    local timer = uv.new_timer()
    timer:start(150, 0, function()
      timer:close()
      coroutine.wrap(function() publisher():publish(channel, "m"):await() end)()
    end)
    timer:unref()
  end
]]

-- The loop runs on until each of these has its message and prints "heard".
local WAITS = {
  ["a receiver, after a view's wait"] = [[
    local receiver = redis:pubsub("a", "b"):connect()
    local view = receiver:channel "b"
    start(function() print("heard " .. receiver:await()) end)
    start(function() view:get() publish_later "a" end)
    start(function() publisher():publish("b", "m"):await() end)
    uv.run()]],
  ["a view, after another view's timeout"] = [[
    local receiver = redis:pubsub("a", "b"):connect()
    start(function() print("heard " .. receiver:channel("a"):get()) end)
    start(function() print(pcall(receiver.channel(receiver, "b").get, receiver:channel "b", { timeout = 0.01 })) end)
    publish_later "a"
    uv.run()]],
  ["a receiver, after a cancel of another"] = [[
    local receiver = redis:pubsub("a"):connect()
    local task = redio.run(function()
      local task = redio.spawn(function() receiver:await() end)
      redio.sleep(0)
      start(function() print("heard " .. receiver:await()) end)
      task:cancel()
    end)
    publish_later "a"
    uv.run()]],
  ["a receiver on the main coroutine, after a view's wait"] = [[
    local receiver = redis:pubsub("a", "b"):connect()
    start(function() receiver:channel("b"):get() publish_later "a" end)
    start(function() publisher():publish("b", "m"):await() end)
    print("heard " .. receiver:await())]],
  ["a monitor, after another's wait"] = [[
    local monitor = redis:monitor():connect()
    start(function() monitor:await() end)
    start(function()
      repeat local line = monitor:await().line until line:find "PUBLISH"
      print "heard"
    end)
    publish_later "a"
    uv.run()]],
}

-- Nothing waits any more: the loop ends, and prints "end".
local ENDS = {
  ["a view's wait that is out of time"] = [[
    local view = redis:pubsub("a"):connect():channel "a"
    start(function() pcall(view.get, view, { timeout = 0.02 }) end)]],
  ["a receiver's wait that is out of time"] = [[
    local receiver = redis:pubsub("a"):connect()
    start(function() pcall(redio.with_timeout, 0.02, receiver.await, receiver) end)]],
  ["wait_message() that is out of time"] = [[
    local view = redis:pubsub("a"):connect():channel "a"
    start(function() pcall(redio.with_timeout, 0.02, view.wait_message, view) end)]],
  ["waits that were cancelled"] = [[
    local receiver = redis:pubsub("a"):connect()
    redio.run(function()
      local tasks = {}
      for i, fn in ipairs { receiver.await, receiver.await, function() receiver:channel("a"):get() end } do
        tasks[i] = redio.spawn(fn, receiver)
      end
      redio.sleep(0.01)
      for i = 1, 3 do tasks[i]:cancel() end
    end)]],
  ["a monitor's wait that was cancelled, or is out of time"] = [[
    local monitor = redis:monitor():connect()
    start(function()
      pcall(redio.with_timeout, 0.02, function() while true do monitor:await() end end)
    end)]],
  ["a wait that foreign code ended"] = [[
    local receiver = redis:pubsub("a"):connect()
    local co = start(function() pcall(receiver.await, receiver) end)
    coroutine.resume(co)]],
  ["a connect() that is out of time"] = [[
    local receiver = redis:pubsub("a"):connect()
    receiver:subscribe "b"
    start(function() pcall(redio.with_timeout, 0.000001, receiver.connect, receiver) end)]],
  ["coroutines that were closed (Lua 5.4)"] = [[
    local receiver = redis:pubsub("a"):connect()
    local monitor = redis:monitor():connect()
    if coroutine.close then
      for _, fn in ipairs {
        function() receiver:await() end, function() receiver:channel("a"):get() end,
        function() receiver:channel("a"):get { timeout = 60 } end, function() monitor:await() end,
        function() for _ in receiver do end end, function() for _ in receiver:channel("a"):messages() do end end,
      } do
        local co = start(fn)
        coroutine.close(co)
      end
      uv.walk(function(handle)
        if handle.get_due_in and handle:get_due_in() > 50000 then handle:unref() end -- the deadline's timer
      end)
    end]],
}

describe("the loop", function()
  for name, code in pairs(WAITS) do
    it("is held by " .. name, function()
      local output, status = child.run_text(HEAD .. code, server.shared().url, 5)
      assert.are.equal(0, status, output)
      assert.matches("heard", output)
    end)
  end

  for name, code in pairs(ENDS) do
    it("is let go by " .. name, function()
      local output, status = child.run_text(HEAD .. code .. "\nuv.run() print 'end'", server.shared().url, 5)
      assert.are.equal(0, status, output)
      assert.matches("end\n$", output)
    end)
  end
end)
