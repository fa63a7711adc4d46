-- SPDX-License-Identifier: MIT
-- Clients in nginx: those of one worker with the same URL and options share what they have, and are held to one bound.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

local is_there, reason = nginx.available()

local ABORTS = "lua_check_client_abort on; init_by_lua_block { require 'redio' }"

local function info(own, section, field)
  return tonumber(own:cli("info", section):match(field .. ":(%d+)"))
end

-- Sends so many requests at once; their answers.
local function get_all(web, count, path)
  local tasks, answers = {}, {}
  for i = 1, count do
    tasks[i] = redio.spawn(function()
      return select(2, web:get((path:gsub("%%", i))))
    end)
  end
  for i = 1, count do
    answers[i] = tasks[i]:await()
  end
  return answers
end

describe("Clients in nginx", function()
  if not is_there then
    return pending("there is no nginx: " .. tostring(reason))
  end

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
        assert.same(at_first + 2, info(own, "stats", "total_connections_received")) -- one of them is who asks
        for _ = 1, 3 do
          get_all(web, 60, "/?id=%")
        end
        local before = info(own, "stats", "total_connections_received")
        for _ = 1, 3 do
          for i, said in ipairs(get_all(web, 60, "/?id=%")) do
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
        slow = redio.spawn(function() return five():blpop("spec:list", 5):await() end)
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
          for _, wrong in ipairs(get_all(web, 40, "/?id=%")) do
            assert.same("0", wrong)
          end
        end
        local before = info(own, "stats", "total_connections_received")
        get_all(web, 40, "/?id=%")
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

  describe("are held to max_connections:", function()
    -- The most clients that were blocked at once while `count` requests of `path` were at it.
    local function most_blocked(web, count, path)
      local over, most = false, 0
      local observer = redio.Redis(own.url)
      local watching = redio.spawn(function()
        while not over do
          local _, blocked = observer():client_list():await():gsub(" flags=b ", "")
          most = math.max(most, blocked)
          redio.sleep(0.01)
        end
      end)
      for _, said in ipairs(get_all(web, count, path)) do
        assert.same("done", said)
      end
      over = true
      watching:await()
      observer:close()
      return most
    end

    local function block(options)
      return ('local redis = redio.Redis(os.getenv "REDIS_URL", %s) redis():blpop("nothing", 0.15):await() '):format(
        options) .. "ngx.print 'done'"
    end

    it("each to its own, also the second of one server", function()
      with_nginx({ ["/two"] = block "{ max_connections = 2 }", ["/five"] = block "{ max_connections = 5 }" },
        function(web)
        assert.same(5, most_blocked(web, 12, "/five"))
        assert.same(2, most_blocked(web, 6, "/two"))
      end)
    end)

    it("those of one server and one bound together, however they are spelled", function()
      with_nginx({ ["/1"] = block "{ max_connections = 3 }", ["/2"] = block "{ max_connections = 3, database = 0 }" },
        function(web)
        local other = redio.spawn(get_all, web, 5, "/2")
        assert.same(3, most_blocked(web, 5, "/1"))
        other:await()
      end)
    end)
  end)

  it("have so many receivers as max_receivers says, and one too many raises", function()
    with_nginx({ ["/"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL", { max_receivers = 2, max_connections = 2 })
      local one, two = redis:pubsub("a"):connect(), redis:monitor():connect()
      local ok, err = pcall(function() redis:pubsub("c"):connect() end)
      local said = err.kind .. " " .. tostring(err.message:match "max_receivers") .. " " .. redis:stats().receivers
      one:close()
      redis:pubsub("d"):connect()
      ngx.print(said, " ", redis():echo("x"):await(), " ", redis:stats().receivers)]] }, function(web)
      for _ = 1, 2 do -- (what the first request has left open is closed with it)
        assert.same("ConnectionError max_receivers 2 x 2", select(2, web:get "/"))
      end
    end, { may_log = true })
  end)

  describe("that wait for a place", function()
    local function blocked()
      return select(2, own:cli("client", "list"):gsub(" flags=b ", ""))
    end

    local function new(most)
      return ('local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = %d, multiplex = false }) '):format(
        most)
    end

    it("get it in the order in which they came", function()
      with_nginx({ ["/block"] = new(1) .. 'redis():blpop("nothing", 0.4):await()', ["/"] = new(1) .. [[
        redis():rpush("order", ngx.var.arg_id):await()]] }, function(web)
        local tasks = { redio.spawn(web.get, web, "/block") }
        assert.is_true(check.eventually(function() return blocked() == 1 end))
        for i = 1, 8 do
          tasks[#tasks + 1] = redio.spawn(web.get, web, "/?id=" .. i)
          redio.sleep(0.01)
        end
        for _, one in ipairs(tasks) do one:await() end
        assert.same("1 2 3 4 5 6 7 8", (own:cli("lrange", "order", "0", "-1"):gsub("%s+", " "):gsub(" $", "")))
      end)
    end)

    it("get all that come free at once, with a request that had them", function()
      with_nginx({ ["/hold"] = new(3) .. [[
        local handles = {}
        for i = 1, 3 do
          handles[i] = redis:connection()
          handles[i]:get("x"):await()
        end
        redio.sleep(0.4)]], ["/"] = new(3) .. 'redis():blpop("nothing", 2):await()' }, function(web)
        local tasks = { redio.spawn(web.get, web, "/hold") }
        redio.sleep(0.2)
        for i = 2, 4 do
          tasks[i] = redio.spawn(web.get, web, "/")
        end
        tasks[1]:await()
        local most = 0
        check.eventually(function()
          most = math.max(most, blocked())
          return most == 3
        end)
        assert.same(3, most)
        for i = 2, 4 do
          tasks[i]:await()
        end
      end)
    end)

    it("and are aborted stand in nobody's way", function()
      with_nginx({ ["/block"] = new(1) .. 'redis():blpop("nothing", 0.5):await()', ["/"] = new(1) .. [[
        ngx.print(redis():echo("served"):await())]] }, function(web)
        local block = redio.spawn(web.get, web, "/block")
        assert.is_true(check.eventually(function() return blocked() == 1 end))
        local aborts = {}
        for i = 1, 5 do
          aborts[i] = redio.spawn(web.abort, web, "/", 0.1)
        end
        redio.sleep(0.05)
        local served = redio.spawn(web.get, web, "/")
        assert.same("served", select(2, redio.with_timeout(5, served.await, served)))
        block:await()
        for i = 1, 5 do
          aborts[i]:await()
        end
      end, { http = ABORTS })
    end)

    it("are told when their client is closed, cancelled, or out of time", function()
      with_nginx({ ["/"] = new(1) .. [[
        local said = {}
        local held = redis:connection()
        held:get("x"):await()
        local other = redio.Redis(os.getenv "REDIS_URL", { max_connections = 1, multiplex = false })
        local function ask(client, seconds)
          return redio.spawn(function()
            local ok, err = pcall(function() return client():timeout(seconds):echo("x"):await() end)
            said[#said + 1] = ok and err or err.kind
            if not ok and err.message:find "waiting for one of the pool" then said[#said + 1] = "in the pool" end
          end)
        end
        local closed, cancelled, late, served = ask(other, 5), ask(redis, 5), ask(redis, 0.05), ask(redis, 5)
        redio.sleep(0.02)
        ngx.say(redis:stats().waiting)
        other:close()
        redio.sleep(0.01)
        cancelled:cancel()
        late:await()
        held:close()
        served:await()
        ngx.print(table.concat(said, " "))]] }, function(web)
        assert.same("4\nPoolClosedError CancelledError TimeoutError in the pool x", select(2, web:get "/"))
      end)
    end)
  end)

  describe("whose handles were dropped with state", function()
    it("have their places back, although nothing else makes the collector run", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = 4, pool_timeout = 5 })
        local held = redis:connection()
        held:set("k", "held"):await()
        local done, failed = 0, nil
        local function forgetful()
          for _ = 1, 10 do
            local ok, err = pcall(function() redis():watch("k"):get("x"):await() end)
            if ok then done = done + 1 else failed = failed or err.message end
          end
        end
        forgetful()
        local tasks = {}
        for i = 1, 20 do tasks[i] = redio.spawn(forgetful) end
        for i = 1, 20 do tasks[i]:await() end
        ngx.print(done, " ", tostring(failed), " ", held:get("k"):await())]] }, function(web)
        assert.same("210 nil held", select(2, web:get "/"))
      end)
    end)

    it("so do receivers", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_receivers = 3 })
        local held = redis:pubsub("spec:held"):connect()
        for _ = 1, 20 do redis:pubsub("spec:dropped"):connect() end
        redis():publish("spec:held", "message"):await()
        ngx.print(held:await())]] }, function(web)
        assert.same("message", select(2, web:get "/"))
      end)
    end)
  end)

  describe("of requests that were aborted", function()
    local NEW = 'local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = 3, pool_timeout = 1 }) '
    local LOCATIONS = { ["/block"] = NEW .. "redis():blpop('nothing', 100):await()", ["/stats"] = NEW .. [[
      collectgarbage "stop"
      local stats = redis:stats()
      ngx.print(stats.connections, " ", stats.in_flight)]], ["/ask"] = NEW .. [[
      local ok, err = pcall(function() return redis():echo("in"):await() end)
      ngx.print(ok and err or err.kind .. ": " .. err.message)]] }

    local function blocked()
      return select(2, own:cli("client", "list"):gsub(" flags=b ", ""))
    end

    it("the connections are not counted any more, although nothing was collected", function()
      with_nginx(LOCATIONS, function(web)
        web:get "/stats" -- (no collections from here on)
        local aborts = {}
        for i = 1, 3 do
          aborts[i] = redio.spawn(web.abort, web, "/block", 0.3)
        end
        assert.is_true(check.eventually(function() return blocked() == 3 end))
        assert.same("3 3", select(2, web:get "/stats"))
        for i = 1, 3 do
          aborts[i]:await()
        end
        assert.is_true(check.eventually(function() return blocked() == 0 end))
        assert.same("0 0", select(2, web:get "/stats"))
        assert.same("in", select(2, web:get "/ask"))
        assert.same("1 0", select(2, web:get "/stats"))
      end, { http = ABORTS })
    end)

    it("attempts to connect are counted no longer than they may last", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", {
          max_connections = 1, pool_timeout = 0.3, multiplex = false,
        })
        collectgarbage "stop"
        if ngx.var.arg_block then redis():blpop("nothing", 0.6):await() end
        if ngx.var.arg_wait then redis():get("x"):await() end
        ngx.print(redis:stats().connections)]] }, function(web)
        local held = redio.spawn(web.get, web, "/?block=1")
        assert.is_true(check.eventually(function() return blocked() == 1 end))
        web:abort("/?wait=1", 0.1) -- in nginx's queue for a place
        held:await()
        local last
        check.eventually(function() last = select(2, web:get "/") return last == "1" end)
        assert.same("1", last)
      end, { http = ABORTS })
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
          for _, said in ipairs(get_all(web, 30, path)) do
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
