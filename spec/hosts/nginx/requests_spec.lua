-- SPDX-License-Identifier: MIT
-- Work of every kind in a request: the quickstart, long chains, and thousands of requests without growth of memory.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

-- A server that knows GET, of keys of 400 bytes, and writes its answers before it reads on.
local function stubborn_peer()
  local listener, open = uv.new_tcp(), {}
  local peer = { stop = function()
    listener:close()
    for handle in pairs(open) do
      if not handle:is_closing() then handle:close() end
    end
  end }
  listener:bind("127.0.0.1", 0)
  peer.port = listener:getsockname().port
  local answer = ("$500\r\n%s\r\n"):format(("v"):rep(500))
  local request = #("*2\r\n$3\r\nGET\r\n$400\r\n" .. ("k"):rep(400) .. "\r\n")
  listener:listen(16, function()
    local handle, due = uv.new_tcp(), 0
    listener:accept(handle)
    open[handle] = true
    local function read()
      handle:read_start(function(err, bytes)
        if err or not bytes then return handle:close() end
        due = due + #bytes
        local whole = math.floor(due / request)
        if whole == 0 then return end
        due = due - whole * request
        handle:read_stop()
        handle:write(answer:rep(whole), function(failure)
          if not failure then read() end
        end)
      end)
    end
    read()
  end)
  return peer
end

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  it("the quickstart runs as it is, as a content handler", function()
    nginx.with({ locations = { ["/"] = { file = "examples/quickstart.lua" } } }, function(web)
      assert.same(200, (web:get "/"))
      local log = web:log()
      assert.matches("Got values:Hello42", log, 1, true) -- print goes to the log, without tabs
      assert.matches("Hash:2Ada1815", log, 1, true)
      assert.matches("Transaction:4344", log, 1, true)
    end)
  end)

  it("every kind of work runs in a request", function()
    local own = server.start()
    nginx.with({ url = own.url, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      local said = {}
      local function say(...) said[#said + 1] = table.concat({ ... }, " ") end

      local list = redis():multi():incr("n"):incr("n"):exec():await()
      say("multi", list[1], list[2])

      local db = redis()
      repeat
        db:watch("n")
        local n = db:get("n"):await()
        db:multi():set("n", n * 10)
      until db:exec():await()
      say("watch", redis():get("n"):await())

      redis:transaction("n", function(handle)
        local n = handle:get("n"):await()
        handle:multi():set("n", n + 1)
      end)
      say("transaction", redis():get("n"):await())

      local script = redis:script "return {KEYS[1], ARGV[1]}"
      say("script", unpack(script({ "key" }, { "arg" })))

      local pushed = redio.spawn(function()
        redio.sleep(0.02)
        redis():rpush("list", "item"):await()
      end)
      local popped = redis():blpop("list", 2):await()
      pushed:await()
      say("blpop", popped[1], popped[2])

      for i = 1, 100 do redis():set("scan:" .. i, i):await() end
      local seen = 0
      for _ in redis:scan { match = "scan:*" } do seen = seen + 1 end
      say("scan", seen)

      local lock = redis:lock("lock", { timeout = 5 })
      say("lock", tostring(lock:acquire()), tostring(lock:owned()), tostring(lock:release()))
      local one = redis:lock("lock", { timeout = 5 })
      one:acquire()
      local two = redis:lock("lock", { blocking_timeout = 0.1, sleep = 0.02 })
      say("locked", tostring(two:acquire()))

      local got = {}
      local receiver = redis:pubsub("news"):connect()
      local publisher = redio.spawn(function()
        for i = 1, 3 do redis():publish("news", "n" .. i):await() end
      end)
      for message in receiver do
        got[#got + 1] = message
        if #got == 3 then break end
      end
      publisher:await()
      receiver:close()
      say("pubsub", unpack(got))

      redis:with_connection(function(handle)
        handle:client_setname("mine"):await()
        say("connection", handle:client_getname():await())
      end)

      local a, b = redio.gather(function() return redis():echo("a"):await() end, function()
        redio.sleep(0.01)
        return redis():echo("b"):await()
      end)
      say("gather", a, b)
      ngx.say(table.concat(said, "\n"))]], ["/after"] = nginx.AFTER } }, function(web)
      local _, body = web:get "/"
      assert.same(table.concat({ "multi 1 2", "watch 20", "transaction 21", "script key arg", "blpop list item",
        "scan 100", "lock true true true", "locked false", "pubsub n1 n2 n3", "connection mine", "gather a b", ""
      }, "\n"), body)
      assert.same(nginx.CLEAN, select(2, web:get "/after"))
    end)
    own:stop()
  end)

  it("long chains go both ways", function()
    local own = server.start()
    nginx.with({ url = own.url, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      redis():set("k", ("v"):rep(640)):await()
      local db = redis()
      for i = 1, 100000 do db:get("k") end
      local list = db:replies()
      local right = 0
      for i = 1, #list do
        if #list[i] == 640 then right = right + 1 end
      end
      db = redis()
      local big = ("b"):rep(1024 * 1024)
      for i = 1, 32 do db:echo(big .. i) end
      list = db:replies()
      local echoed = 0
      for i = 1, #list do
        if list[i] == big .. i then echoed = echoed + 1 end
      end
      ngx.say(right, " ", echoed)]] } }, function(web)
      local _, body = web:get "/"
      assert.same("100000 32\n", body)
    end)
    own:stop()
  end)

  it("a peer that does not read on before its answers are taken does not stop a long chain", function()
    local peer = stubborn_peer()
    nginx.with({ url = ("redis://127.0.0.1:%d/?protocol=2"):format(peer.port), locations = { ["/"] = [[
      local db = shared("here", os.getenv "REDIS_URL", { timeout = 5 })()
      local key = ("k"):rep(400)
      for _ = 1, 50000 do db:get(key) end
      ngx.say(#db:replies())]] } }, function(web)
      assert.same("50000\n", select(2, web:get "/"))
    end)
    peer:stop()
  end)

  it("memory does not grow", function()
    local count = tonumber(os.getenv "REDIO_NGINX_REQUESTS" or 6000)
    nginx.with({ locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      local n = tonumber(ngx.var.arg_n)
      redis():set("n", n):get("n"):await()
      if n % 10 == 0 then
        redio.gather(function() redis():get("n"):await() end, function() redio.sleep(0) end)
        redio.with_timeout(1, function() redis():get("n"):await() end)
      end
      if n % 50 == 0 then redis():watch("n"):get("n"):await() end
      if n % 100 == 0 then redis:pubsub("news"):connect() end]], ["/memory"] = [[
      collectgarbage() collectgarbage()
      local status = io.open "/proc/self/status"
      ngx.print(collectgarbage "count", " ", status:read("*a"):match "VmRSS:%s*(%d+)")
      status:close()]] } }, function(web)
      local sent = 0
      local function some(most)
        local function worker()
          while sent < most do
            sent = sent + 1
            web:get("/?n=" .. sent)
          end
        end
        redio.gather(worker, worker, worker, worker, worker, worker, worker, worker)
      end
      local function memory()
        local lua, resident = select(2, web:get "/memory"):match "^(%S+) (%S+)$"
        return tonumber(lua), tonumber(resident)
      end
      some(count / 2)
      local lua, resident = memory()
      some(count)
      local lua_after, resident_after = memory()
      print(("%d requests: Lua %.0f -> %.0f KiB, resident %d -> %d KiB"):format(count, lua, lua_after, resident,
        resident_after))
      assert.is_true(lua_after < lua + 400) -- coroutines that serve again keep a little of what they did last
      assert.is_true(resident_after < resident * 1.1 + 1024)
    end)
  end)
end)
