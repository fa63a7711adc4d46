-- SPDX-License-Identifier: MIT
-- Clients in nginx: those of one worker with the same URL and options share what they have.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

local function info(own, section, field)
  return tonumber(own:cli("info", section):match(field .. ":(%d+)"))
end

describe("Clients in nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local own

  before_each(function()
    own = server.start()
  end)

  after_each(function()
    own:stop()
  end)

  local function with_nginx(locations, fn, more)
    local options = { url = own.url, seconds = 60, locations = locations }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    nginx.with(options, fn)
  end

  describe("that each request makes for itself", function()
    local NEW = 'local redis = redio.Redis(os.getenv "REDIS_URL", { timeout = 7, tls = false, database = 1 }) '

    it("share connections as one for all does: one after the other, and at once", function()
      with_nginx({ ["/"] = NEW .. "ngx.print(redis():echo(ngx.var.arg_id):await())" }, function(web)
        local at_first = info(own, "stats", "total_connections_received")
        for i = 1, 50 do
          assert.same(tostring(i), select(2, web:get("/?id=" .. i)))
        end
        assert.same(at_first + 2, info(own, "stats", "total_connections_received")) -- one of them is redis-cli's
        for _ = 1, 3 do
          web:get_all(60, "/?id=%")
        end
        local before = info(own, "stats", "total_connections_received")
        for _ = 1, 3 do
          for i, said in ipairs(web:get_all(60, "/?id=%")) do
            assert.same(tostring(i), said)
          end
        end
        assert.same(before + 1, info(own, "stats", "total_connections_received"))
      end)
    end)

    it("know of each other's", function()
      with_nginx({ ["/hold"] = NEW .. "redis():blpop('nothing', 0.3):await()", ["/stats"] = NEW .. [[
        local stats = redis:stats()
        ngx.print(stats.connections, " ", stats.idle, " ", stats.in_flight)]] }, function(web)
        local held = redio.spawn(web.get, web, "/hold")
        check.eventually(function() return own:cli("client", "list"):find("cmd=blpop", 1, true) end)
        assert.same("1 0 1", select(2, web:get "/stats"))
        held:await()
        assert.same("1 1 0", select(2, web:get "/stats"))
      end)
    end)

    it("have what they were made with", function()
      with_nginx({ ["/"] = [[
        local url = os.getenv "REDIS_URL"
        local null, other_null = {}, {}
        local said = {}
        local function say(redis)
          local value = redis():eval("return {false, ARGV[1]}", {}, { "1" }):await()
          said[#said + 1] = value[1] == null and "null" or value[1] == other_null and "other" or tostring(value[1])
          said[#said + 1] = type(redis():echo("1"):await()) .. (redis():client_info():await():match " db=%d")
        end
        say(redio.Redis(url))
        say(redio.Redis(url, { null = null }))
        say(redio.Redis(url, { null = other_null }))
        say(redio.Redis(url, { decode = "auto" }))
        say(redio.Redis(url, { database = 3, decode = function(bytes) return {} end }))
        say(redio.Redis(url .. "?database=2"))
        say(redio.Redis(url))
        ngx.print(table.concat(said, " "))]] }, function(web)
        assert.same("false string db=0 null string db=0 other string db=0 false number db=0 false table db=3 "
          .. "false string db=2 false string db=0", select(2, web:get "/"))
      end)
    end)

    it("are refused where they are wrong, each time, at the caller's line", function()
      with_nginx({ ["/"] = [[
        local said = {}
        local function try(...)
          local arguments = { ... }
          for _ = 1, 2 do
            local ok, err = pcall(function()
              return (redio.Redis(arguments[1], arguments[2]))
            end)
            said[#said + 1] = tostring(ok) .. (tostring(err):match ":(%d+): " or "")
          end
        end
        try("nonsense://x")
        try(nil, { exx = 1 })
        try(12)
        try(nil, 12)
        try("redis://h/", { tls = { ca = "/x" } })
        ngx.print(table.concat(said, " "))]] }, function(web)
        assert.same(("false6 "):rep(10):sub(1, -2), select(2, web:get "/"))
      end)
    end)

    it("cost little, whatever they are made of, and leave nothing", function()
      with_nginx({ ["/"] = [[
        local url = os.getenv "REDIS_URL"
        for i = 1, 2000 do
          local redis = redio.Redis(url, { username = "u" .. i, null = {}, json = { encode = print, decode = print },
            decode = function() end, on_connect = function() end })
          assert(redis.settings.username == "u" .. i)
        end
        for i = 1, 20000 do redio.Redis(url, { timeout = 3 }) redio.Redis(url) end
        for _ = 1, 3 do collectgarbage() end
        ngx.print(collectgarbage "count")]] }, function(web)
        local before = tonumber((select(2, web:get "/")))
        for _ = 1, 5 do
          web:get "/"
        end
        local after = tonumber((select(2, web:get "/")))
        assert.is_true(after < before + 500, ("%.0f -> %.0f KiB"):format(before, after)) -- (of 10,000 more)
      end)
    end)
  end)

  describe("that are closed", function()
    it("close what their handles and receivers have, and nothing of the others", function()
      with_nginx({ ["/"] = [[
        local url, said = os.getenv "REDIS_URL", {}
        local function say(what, ...) said[#said + 1] = what .. "=" .. table.concat({ ... }, ",") end
        local function kind(fn) return select(2, pcall(fn)).kind end
        local one, two = redio.Redis(url), redio.Redis(url)
        local mine, theirs = one:connection(), two:connection()
        mine:set("x", 1):await()
        theirs:set("y", 2):await()
        local receiver, other = one:pubsub("spec:one"):connect(), two:pubsub("spec:two"):connect()
        local waits = redio.spawn(function() return receiver:await() end)
        local blocks = redio.spawn(function() return two():blpop("spec:list", 5):await() end)
        redio.sleep(0.02)
        one:close()
        say("closed", tostring(one.closed), tostring(two.closed), tostring(one):match ", closed" or "not")
        say("handle", kind(function() mine:get("x"):await() end))
        say("await", kind(function() one():get("x"):await() end))
        say("pubsub", kind(function() one:pubsub("spec:x"):connect() end))
        say("receiver", kind(function() waits:await() end))
        say("two", theirs:get("y"):await(), two():get("x"):await())
        two():rpush("spec:list", "item"):publish("spec:two", "message"):await()
        say("message", other:await(), blocks:await()[2])
        one:close()
        local four = redio.Redis(url)
        local slow = redio.spawn(function() return four():blpop("spec:list", 0.1):echo("answered"):await() end)
        redio.sleep(0.02)
        four:close()
        say("drained", select(2, slow:await()))
        local five = redio.Redis(url)
        slow = redio.spawn(function() return five():blpop("spec:list", 0.5):await() end)
        redio.sleep(0.02)
        five:close { drain = 0 }
        say("cut", kind(function() slow:await() end))
        local three = redio.Redis(url)
        say("three", three():get("y"):await(), three:stats().receivers)
        other:close()
        theirs:close()
        ngx.print(table.concat(said, " "))]] }, function(web)
        assert.same("closed=true,false,, closed handle=PoolClosedError await=PoolClosedError pubsub=PoolClosedError "
          .. "receiver=ConnectionForcedCloseError two=2,1 message=message,item "
          .. "drained=answered cut=ConnectionForcedCloseError three=2,1", select(2, web:get "/"))
      end)
    end)

    it("also while the shared connection is at work for others", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL")
        local wrong = 0
        for i = 1, 20 do
          if redis():echo(ngx.var.arg_id .. i):await() ~= ngx.var.arg_id .. i then wrong = wrong + 1 end
        end
        redis:close()
        ngx.print(wrong)]] }, function(web)
        for _ = 1, 4 do
          for _, wrong in ipairs(web:get_all(40, "/?id=%")) do
            assert.same("0", wrong)
          end
        end
        local before = info(own, "stats", "total_connections_received")
        web:get_all(40, "/?id=%")
        assert.same(before + 1, info(own, "stats", "total_connections_received"))
      end)
    end)

    it("disconnect: what is idle is not used again, what others have in flight is finished", function()
      with_nginx({ ["/"] = [[
        local url = os.getenv "REDIS_URL"
        local one, two = redio.Redis(url), redio.Redis(url)
        local first = one():client_id():await()
        local blocks = redio.spawn(function() return two():blpop("spec:list", 5):await() end)
        redio.sleep(0.02)
        one:disconnect()
        local second = one():client_id():await()
        two():rpush("spec:list", "item"):await()
        ngx.print(tostring(first == second), " ", blocks:await()[2], " ", tostring(one.closed))]] }, function(web)
        assert.same("false item false", select(2, web:get "/"))
      end)
    end)
  end)

  describe("with an on_connect", function()
    it("that is the same function for all share connections", function()
      with_nginx({ ["/"] = [[
        greet = greet or function(db) db:client_setname("greeted"):await() end
        local redis = redio.Redis(os.getenv "REDIS_URL", { on_connect = greet })
        ngx.print(redis():client_getname():await())]] }, function(web)
        for _ = 1, 20 do
          assert.same("greeted", select(2, web:get "/"))
        end
        assert.is_true(info(own, "stats", "total_connections_received") <= 4)
      end)
    end)

    it("that each request makes anew leave few idle connections behind, and share them within the request", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", {
          on_connect = function(db) db:client_no_evict("ON"):await() end,
        })
        local first, second = redis():client_id():await(), redis():client_id():await()
        ngx.print(tostring(first == second))]] }, function(web)
        local same = 0
        for _ = 1, 200 do
          if select(2, web:get "/") == "true" then same = same + 1 end
        end
        assert.is_true(same >= 8, tostring(same))
        assert.is_true(info(own, "clients", "connected_clients") < 40)
        assert.is_true(check.eventually(function() return info(own, "clients", "connected_clients") <= 2 end))
      end)
    end)
  end)

  it("made of a URL that is nil say once what nginx's environment needs", function()
    with_nginx({ ["/"] = [[
      redio.Redis()
      redio.Redis(nil, { host = "127.0.0.1" })
      ngx.print(tostring(redio.Redis(os.getenv "NO_SUCH_VARIABLE")))]] }, function(web)
      for _ = 1, 3 do
        assert.matches("localhost:6379", select(2, web:get "/"))
      end
      local _, times = web:log():gsub("%[warn%][^\n]*URL that is nil[^\n]*env REDIS_URL;", "")
      assert.same(1, times)
    end)
  end)

  it("that write to a read-only replica keep their distance", function()
    own:cli("replicaof", "127.0.0.1", tostring(server.free_port()))
    with_nginx({ ["/"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL", { timeout = 5 })
      local ok, err = pcall(function() redis():set("x", 1):await() end)
      ngx.print(ok and "written" or err.kind)]], ["/alone"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL", { multiplex = false })
      local ok, err = pcall(function() redis():set("x", 1):await() end)
      ngx.print(ok and "written" or err.kind)]] }, function(web)
      for _, path in ipairs { "/alone", "/" } do
        local before = info(own, "stats", "total_connections_received")
        for _ = 1, 10 do
          for _, said in ipairs(web:get_all(30, path)) do
            assert.same("ReadOnlyError", said)
          end
        end
        local made = info(own, "stats", "total_connections_received") - before
        assert.is_true(made < 120, path .. " " .. made) -- for 300 writes
      end
    end)
    own:cli("replicaof", "no", "one")
  end)
end)
