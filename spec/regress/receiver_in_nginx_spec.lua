-- SPDX-License-Identifier: MIT
-- Receivers and monitors in nginx on which several light threads wait: waits are kept, each message reaches one thread
-- in the order of arrival, also through losses, and they have a bound of their own.

local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

-- The beginning of each handler: `redis` and helpers.
local HEAD = [[
  local redis = shared("here", os.getenv "REDIS_URL", { retry = { max = 3, base = 0.001, cap = 0.005 } })
  local other = shared("other", os.getenv "REDIS_URL")
  local function publish(channel, message) return other():publish(channel, message):await() end
  local function collect() collectgarbage() collectgarbage() end
  local function eventually(fn)
    for _ = 1, 300 do
      if fn() then return true end
      redio.sleep(0.01)
    end
  end
  -- tasks that take one message each, in this order
  local function start(take, from, to, got)
    local tasks = {}
    for i = from, to do
      tasks[i] = redio.spawn(function()
        local message = take()
        got[i], got.count = i .. ":" .. tostring(message), (got.count or 0) + 1
        return message
      end)
    end
    redio.sleep(0.02)
    return tasks
  end
]]

local PROGRAMS = {
  { "keeps what waits", "heard heard heard", [[
    local heard = {}
    local function listen(wait)
      local n = #heard + 1
      heard[n] = false
      redio.spawn(function() heard[n] = wait() end)
    end
    listen(function() return other:pubsub("kept"):await() end)
    listen(function() return other:pubsub("kept"):channel("kept"):get() end)
    listen(function()
      local monitor = other:monitor()
      repeat local entry = monitor:await() until entry.line:find('"PUBLISH" "kept"', 1, true)
      return "heard"
    end)
    for _ = 1, 20 do collect() redio.sleep(0.005) end
    eventually(function()
      publish("kept", "heard")
      collect()
      return heard[1] and heard[2] and heard[3]
    end)
    ngx.print(table.concat({ tostring(heard[1]), tostring(heard[2]), tostring(heard[3]) }, " "))]] },

  { "hands each message to one, in order", "1:1 2:2 3:3 4:4 5:5 6:6", [[
    local receiver, got = redis:pubsub("order"):connect(), {}
    local tasks = start(function() return receiver:await() end, 1, 6, got)
    publish("order", 1)
    other():publish("order", 2):publish("order", 3):publish("order", 4):await()
    publish("order", 5)
    publish("order", 6)
    for i = 1, 6 do tasks[i]:await() end
    ngx.print(table.concat(got, " "))
    receiver:close()]] },

  { "keeps places before there is a connection", "1:1 2:2 3:3 4:4", [[
    local receiver, got = redis:pubsub("before"), {}
    local view = receiver:channel "before"
    local tasks = start(function() return (view:get()) end, 1, 4, got)
    receiver:connect()
    for i = 1, 4 do publish("before", i) end
    for i = 1, 4 do tasks[i]:await() end
    ngx.print(table.concat(got, " "))
    receiver:close()]] },

  { "keeps places through losses", "1:1 2:2 3:3 4:4 5:5 6:6 gaps 3", [[
    local gaps = 0
    local receiver, got = redis:pubsub("losses"):resubscribe(function() gaps = gaps + 1 end):connect(), {}
    local tasks = start(function() return receiver:await() end, 1, 6, got)
    for round = 1, 3 do
      other():client_kill("TYPE", "pubsub"):await()
      eventually(function() return gaps == round end)
      publish("losses", 2 * round - 1)
      publish("losses", 2 * round)
      eventually(function() return got.count == 2 * round end)
    end
    for i = 1, 6 do tasks[i]:await() end
    ngx.print(table.concat(got, " ") .. " gaps " .. gaps)
    receiver:close()]] },

  { "goes on when some are cancelled or out of time", "2:1 5:2", [[
    local receiver, got = redis:pubsub("cancels"):connect(), {}
    local function take() return receiver:await() end
    local reader = redio.spawn(function() return pcall(redio.with_timeout, 0.5, take) end)
    redio.sleep(0.01)
    local tasks = start(take, 2, 5, got)
    tasks[3]:cancel()
    tasks[4]:cancel()
    reader:await()
    publish("cancels", 1)
    publish("cancels", 2)
    tasks[2]:await()
    tasks[5]:await()
    ngx.print(got[2], " ", got[5])
    receiver:close()]] },

  { "leaves connecting to the next when the one that did it is cancelled", "heard", [[
    local receiver = redio.Redis(os.getenv "REDIS_SLOW"):pubsub("slow")
    local tasks = start(function() return receiver:await() end, 1, 3, {})
    tasks[1]:cancel()
    tasks[2]:cancel()
    eventually(function() return publish("slow", "heard") > 0 end)
    ngx.print(tasks[3]:await())
    receiver:close()]] },

  { "loses no message with a light thread that was ended between being woken and running", "1 2", [[
    local receiver = redis:pubsub("killed"):connect()
    local said
    local reader = redio.spawn(function()
      local killed = ngx.thread.spawn(function()
        redio.sleep(0.01)
        said = receiver:await()
      end)
      local first = receiver:await()
      ngx.thread.kill(killed)
      return first, receiver:await()
    end)
    redio.sleep(0.05)
    other():multi():publish("killed", 1):publish("killed", 2):exec():await()
    local first, second = reader:await()
    ngx.print(said or first, " ", second)
    receiver:close()]] },

  { "goes on when the light thread that connects is ended by the program", "heard", [[
    local receiver = redio.Redis(os.getenv "REDIS_SLOW"):pubsub("ended")
    local first = ngx.thread.spawn(function() receiver:await() end)
    local task = redio.spawn(function() return receiver:await() end)
    redio.sleep(0.05)
    ngx.thread.kill(first)
    local heard
    redio.spawn(function() heard = task:await() end)
    eventually(function() return heard or publish("ended", "heard") > 1000 end)
    ngx.print(tostring(heard))
    receiver:close()]] },

  { "tells all that wait of a loss and of the end", "ConnectionClosedError ConnectionClosedError nil nil", [[
    local receiver, said = redis:pubsub("end"):connect(), {}
    local function take() return receiver:await() end
    local tasks = start(function() local ok, err = pcall(take) return err.kind end, 1, 2, {})
    other():client_kill("TYPE", "pubsub"):await()
    for i = 1, 2 do said[i] = tasks[i]:await() end
    receiver = redis:pubsub("end"):connect()
    tasks = start(take, 1, 2, {})
    receiver:close()
    for i = 1, 2 do said[2 + i] = tostring(tasks[i]:await()) end
    ngx.print(table.concat(said, " "))]] },

  { "raises what it is refused with to all that wait", "NoPermissionError NoPermissionError", [[
    local weak = redio.Redis(os.getenv "REDIS_URL", { username = "weak", password = "pw" })
    local receiver, said = weak:pubsub("secret"):resubscribe(), {}
    local tasks = start(function() local ok, err = pcall(receiver.await, receiver) return err.kind end, 1, 2, {})
    for i = 1, 2 do said[i] = tasks[i]:await() end
    ngx.print(table.concat(said, " "))]] },

  { "hands each line of a monitor to one", "1:1 2:2 3:3", [[
    local monitor, got = redis:monitor():connect(), {}
    local tasks = start(function()
      repeat
        local entry = monitor:await()
        local n = entry.command:match '"ECHO" "(%d)"'
        if n then return n end
      until false
    end, 1, 3, got)
    other():echo(1):echo(2):echo(3):await()
    for i = 1, 3 do tasks[i]:await() end
    ngx.print(table.concat(got, " "))
    monitor:close()]] },

  { "is bounded by max_receivers alone", "true ConnectionError true 2 again", [[
    local few = redio.Redis(os.getenv "REDIS_URL", { max_connections = 1, max_receivers = 2, client_name = "few" })
    local one, two = few:pubsub("b"):connect(), few:monitor():connect()
    local three = few:pubsub("b")
    local ok, err = pcall(three.connect, three)
    ngx.print(few():echo("x"):await() == "x", " ", err.kind, " ",
      err.message:find("max_receivers", 1, true) ~= nil, " ", few:stats().receivers)
    two:close()
    three:connect()
    publish("b", "again")
    ngx.print(" ", three:await())
    one:close()
    three:close()]] },

  { "gets its confirmations though its queue is full", "true 300", [[
    local small = redio.Redis(os.getenv "REDIS_URL", { queue_limit = 5 })
    local receiver = small:pubsub("full"):connect()
    local text = ("x"):rep(5000)
    for i = 1, 300 do publish("full", text) end
    receiver:subscribe("late"):connect()
    local count = 0
    for message in receiver do
      count = count + 1
      if count == 300 then break end
    end
    ngx.print(tostring(receiver.pubsub_channels.late), " ", count)
    receiver:close()]] },
}

describe("In nginx, a receiver", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local own, line, web

  setup(function()
    own = server.start()
    own:cli("acl", "setuser", "weak", "on", ">pw", "~*", "+@all", "resetchannels")
    line = require "spec.support.proxy".start(own)
    local locations = {}
    for i, program in ipairs(PROGRAMS) do
      locations["/" .. i] = HEAD .. program[3]:gsub('os%.getenv "REDIS_SLOW"', ('"%s"'):format(line.url))
    end
    web = nginx.start { url = own.url, locations = locations }
  end)

  teardown(function()
    web:stop()
    line:stop()
    own:stop()
  end)

  for i, program in ipairs(PROGRAMS) do
    it(program[1], function()
      line.down.delay = 0.2
      check.within(30, function()
        local _, body = web:get("/" .. i)
        if body ~= program[2] then error(tostring(body) .. "\n" .. web:log():sub(-1500), 0) end
      end)
    end)
  end
end)
