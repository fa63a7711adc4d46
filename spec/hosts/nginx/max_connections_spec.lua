-- SPDX-License-Identifier: MIT
-- max_connections and max_receivers in nginx: the order in which waiting requests get a place, and when a place is free
-- again.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

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

  local function blocked()
    return select(2, own:cli("client", "list"):gsub(" flags=b ", ""))
  end

  describe("are held to max_connections:", function()
    -- The most clients that were blocked at once while `count` requests of `path` were at it.
    local function most_blocked(web, count, path)
      local over, most = false, 0
      local observer = redio.Redis(own.url)
      local watching = redio.spawn(function()
        while not over do
          local _, count_now = observer():client_list():await():gsub(" flags=b ", "")
          most = math.max(most, count_now)
          redio.sleep(0.01)
        end
      end)
      for _, said in ipairs(web:get_all(count, path)) do
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
        local other = redio.spawn(web.get_all, web, 5, "/2")
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
      for _ = 1, 2 do -- (connections that the first request has left open are closed with it)
        assert.same("ConnectionError max_receivers 2 x 2", select(2, web:get "/"))
      end
    end, { may_log = true })
  end)

  describe("that wait for a place", function()
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

    it("and are aborted stand in no other's way", function()
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
      end, { http = nginx.ABORTS })
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
        local closed, cancelled, late, served = ask(other, 5), ask(redis, 5), ask(redis, 0.3), ask(redis, 5)
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

  describe("with handles that were dropped with state", function()
    it("have their places back, although nothing else makes the collector run", function()
      with_nginx({ ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = 4, pool_timeout = 10 })
        local held = redis:connection()
        held:set("k", "held"):await()
        local done, failed = 0, nil
        local function forgetful()
          for _ = 1, 5 do
            local ok, err = pcall(function() redis():watch("k"):get("x"):await() end)
            if ok then done = done + 1 else failed = failed or err.message end
          end
        end
        forgetful()
        local tasks = {}
        for i = 1, 20 do tasks[i] = redio.spawn(forgetful) end
        for i = 1, 20 do tasks[i]:await() end
        ngx.print(done, " ", tostring(failed), " ", held:get("k"):await())]] }, function(web)
        assert.same("105 nil held", select(2, web:get "/"))
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
      end, { http = nginx.ABORTS })
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
      end, { http = nginx.ABORTS })
    end)
  end)
end)
