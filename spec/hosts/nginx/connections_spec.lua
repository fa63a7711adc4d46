-- SPDX-License-Identifier: MIT
-- Private connections in nginx: used again by the requests of one identity and by no other, and closed after a fault.

local redio = require "redio"
local certificates = require "spec.support.certificates"
local fakes = require "spec.support.fake"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  it("a connection is used again, and only one is opened", function()
    local own = server.start()
    nginx.with({ url = own.url, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      ngx.say(redis():incr("n"):await())]], ["/stats"] = [[
      local stats = shared("here"):stats()
      ngx.say(stats.connections, " ", stats.idle, " ", stats.in_flight)]] } }, function(web)
      local before = tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)")
      for i = 1, 100 do
        local _, body = web:get "/"
        assert.same(i .. "\n", body)
      end
      local after = tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)")
      assert.same(2, after - before) -- one of them is redis-cli's
      local _, body = web:get "/stats"
      assert.same("1 1 0\n", body)
    end)
    own:stop()
  end)

  it("64 requests at once each get their own reply", function()
    nginx.with({ locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 20 })
      local id = ngx.var.arg_id
      local wrong = 0
      for round = 1, 10 do
        local db = redis()
        for i = 1, 20 do db:echo(id .. "-" .. round .. "-" .. i) end
        local list = db:replies()
        for i = 1, 20 do
          if list[i] ~= id .. "-" .. round .. "-" .. i then wrong = wrong + 1 end
        end
        if redis():echo(id):await() ~= id then wrong = wrong + 1 end
      end
      ngx.say(id, " ", wrong)]] } }, function(web)
      local tasks = {}
      for i = 1, 64 do
        tasks[i] = redio.spawn(function()
          for round = 1, 4 do
            local id = i .. "." .. round
            local _, body = web:get("/?id=" .. id)
            assert.same(id .. " 0\n", body)
          end
        end)
      end
      for i = 1, 64 do
        tasks[i]:await()
      end
    end)
  end)

  it("requests of different identities never share a connection", function()
    local certs = certificates.make()
    local port = server.free_port()
    local own = server.start { "tls-port " .. port, "tls-cert-file " .. certs.server.cert,
      "tls-key-file " .. certs.server.key, "tls-ca-cert-file " .. certs.ca.cert, "tls-auth-clients no",
      "user ada on >one ~* +@all", "user bob on >two >three ~* +@all" }
    local who = [[
      local n = tonumber(ngx.var.arg_n)
      local user = ({ "ada", "bob", "bob" })[n % 3 + 1]
      local password = ({ "one", "two", "three" })[n % 3 + 1]
      local database = math.floor(n / 3) % 4
      local tls = math.floor(n / 12) % 2 == 1
      local redis = redio.Redis(("%s://localhost:%d/%d"):format(tls and "rediss" or "redis",
        tls and ngx.var.arg_tls or ngx.var.arg_plain, database), { username = user, password = password })
      local info = redis():client_info():await()
      ngx.say(info:match " user=(%S+)", " ", user, " ", info:match " db=(%d+)", " ", database, " ",
        info:match " laddr=%S+:(%d+)", " ", tls and ngx.var.arg_tls or ngx.var.arg_plain)]]
    nginx.with({ url = own.url, http = "lua_ssl_trusted_certificate " .. certs.ca.cert .. ";",
      locations = { ["/"] = who } }, function(web)
      local function one(n)
        local _, body = web:get(("/?n=%d&plain=%d&tls=%d"):format(n, own.port, port))
        local user, wanted_user, db, wanted_db, at, wanted_at = body:match "^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)\n$"
        assert.same({ wanted_user, wanted_db, wanted_at }, { user, db, at })
      end
      local next_n = 0
      local function worker()
        while next_n < 1000 do
          next_n = next_n + 1
          one(next_n)
        end
      end
      redio.gather(worker, worker, worker, worker)
      assert.is_true(tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)") < 200)
    end)
    own:stop()
    certs:remove()
  end)

  it("a wrong password is refused although others are connected", function()
    local own = server.start { password = "right" }
    nginx.with({ url = own.url, locations = { ["/"] = [[
      local redis = redio.Redis(("redis://localhost:%d/"):format(ngx.var.arg_port), {
        password = ngx.var.arg_password, retry = { base = 0.01, cap = 0.05 },
      })
      local ok, err = pcall(function() return redis():echo("in"):await() end)
      ngx.print(ok and err or err.kind)]] } }, function(web)
      for _ = 1, 10 do
        assert.same("in", select(2, web:get("/?password=right&port=" .. own.port)))
        assert.same("AuthError", select(2, web:get("/?password=wrong&port=" .. own.port)))
      end
    end)
    own:stop()
  end)

  it("a wait for a connection ends when one comes free", function()
    nginx.with({ locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 2 })
      local tasks, most = {}, 0
      for i = 1, 10 do
        tasks[i] = redio.spawn(function() return redis():blpop("nothing", 0.05):echo(i):await() end)
      end
      local sum = 0
      for i = 1, 10 do
        local _, echoed = tasks[i]:await()
        sum = sum + tonumber(echoed)
      end
      ngx.say(sum)]] } }, function(web)
      assert.same("55\n", select(2, web:get "/"))
    end)
  end)

  it("a server that was killed between two requests: nothing is sent twice", function()
    local own = server.start()
    nginx.with({ url = own.url, may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { retry = { base = 0.01, cap = 0.05 } })
      local what = ngx.var.arg_what
      local ok, err = pcall(function()
        if what == "incr" then return redis():incr("n"):await() end
        return redis():echo("x"):await()
      end)
      ngx.print(ok and tostring(err) or err.kind .. " " .. err.sent)]] } }, function(web)
      local ok, unsure = 0, 0
      for round = 1, 8 do
        assert.same("x", select(2, web:get "/?what=echo"))
        own:kill()
        if round % 2 == 0 then assert.matches("Error", select(2, web:get "/?what=incr")) end
        own:restart()
        own:cli("set", "n", ok)
        local _, said = web:get "/?what=incr"
        if tonumber(said) then
          ok = ok + 1
        else
          unsure = unsure + 1
          assert.matches("^Connection%a*Error ", said)
        end
        local n = tonumber(own:cli("get", "n"))
        assert.is_true(n == ok or n == ok + 1, ("%d of %d"):format(n, ok))
        ok = n
      end
    end)
    own:stop()
  end)

  it("a stray reply ends the connection", function()
    local fake = fakes.start(function(conn, words)
      conn:write(words[1]:upper() == "ECHO" and "$1\r\nx\r\n+more\r\n" or "$1\r\ny\r\n")
    end)
    nginx.with({ url = fake.url, may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      ngx.print(redis():call(ngx.var.arg_c, "k"):await())]], ["/same"] = [[
      local handle = redio.Redis(os.getenv "REDIS_URL"):connection()
      local first = handle:echo("k"):await()
      local ok, err = pcall(function() return handle:get("k"):await() end)
      ngx.print(first, " ", ok and err or err.kind)]] } }, function(web)
      for _ = 1, 20 do
        assert.same("x", select(2, web:get "/?c=ECHO"))
        assert.same("y", select(2, web:get "/?c=GET"))
      end
      assert.same("x ProtocolError", select(2, web:get "/same"))
    end)
    fake:stop()
  end)

  it("a handle with a connection of its own is its request's", function()
    nginx.with({ may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      kept = kept or redis:connection()
      local ok, err = pcall(function() return kept:echo("x"):await() end)
      ngx.print(ok and err or err.kind .. ": " .. err.message)]] } }, function(web)
      assert.same("x", select(2, web:get "/"))
      assert.matches("^ConnectionError: .*belongs to another request", select(2, web:get "/"))
    end)
  end)
end)
