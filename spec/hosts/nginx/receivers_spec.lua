-- SPDX-License-Identifier: MIT
-- Receivers and monitors in nginx: shared by light threads, and after a lost connection.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  it("many light threads share a receiver", function()
    nginx.with({ locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      local receiver = redis:pubsub("a", "b"):with_channel():connect()
      local a, b = receiver:channel "a", receiver:channel "b"
      local function collect(view)
        return function()
          local got = {}
          for i = 1, 20 do got[i] = view:get() end
          return table.concat(got, ",")
        end
      end
      local function publish()
        for i = 1, 20 do
          redis():publish("a", "a" .. i):publish("b", "b" .. i):await()
        end
      end
      local one, two = redio.gather(collect(a), collect(b), publish)
      receiver:subscribe "c"
      local waiting = redio.spawn(function() return receiver:await() end)
      redio.sleep(0.01)
      redis():publish("c", "last"):await()
      ngx.say(#one, " ", #two, " ", select(2, waiting:await()))
      waiting = redio.spawn(function() return receiver:await() end)
      redio.sleep(0.01)
      receiver:close()
      ngx.say(tostring(waiting:await()))]] } }, function(web)
      local _, body = web:get "/"
      assert.same("70 70 last\nnil\n", body)
    end)
  end)

  it("a receiver survives a lost connection, and notices a dead one", function()
    local own = server.start()
    nginx.with({ url = own.url, may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      local gaps = 0
      local receiver = redis:pubsub("news"):resubscribe(function() gaps = gaps + 1 end):connect()
      local reader = redio.spawn(function() return receiver:await() end)
      redio.sleep(0.02)
      redis():client_kill("TYPE", "pubsub"):await()
      local tries = 0
      while redis():publish("news", "again"):await() == 0 and tries < 500 do
        tries = tries + 1
        redio.sleep(0.01)
      end
      ngx.print(reader:await(), " ", gaps)
      receiver:close()]], ["/dead"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL", { health_check_interval = 0.1 })
      local receiver = redis:pubsub("news"):connect()
      local ok, err = pcall(redio.with_timeout, 5, function() receiver:await() end)
      ngx.print(err.kind, " ", err.message)]] } }, function(web)
      assert.same("again 1", select(2, web:get "/"))
      local dead = redio.spawn(web.get, web, "/dead")
      redio.sleep(0.35) -- answered pings so far
      assert.same("waiting", dead:status())
      own:pause()
      local _, said = dead:await()
      own:resume()
      assert.matches("^TimeoutError PING was not answered", said)
    end)
    own:stop()
  end)

  it("a monitor works", function()
    nginx.with({ locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      local monitor = redis:monitor():connect()
      redis():echo("seen"):await()
      for line in monitor do
        if line.line:find("seen", 1, true) then ngx.print "seen" break end
      end
      monitor:close()]] } }, function(web)
      assert.same("seen", select(2, web:get "/"))
    end)
  end)
end)
