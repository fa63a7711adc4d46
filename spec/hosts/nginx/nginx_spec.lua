-- SPDX-License-Identifier: MIT
-- redio in a real nginx, with its Lua module.

local redio = require "redio"
local certificates = require "spec.support.certificates"
local check = require "spec.support.check"
local fakes = require "spec.support.fake"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

local is_there, reason = nginx.available()
local with_nginx = nginx.with

local ABORTS = "lua_check_client_abort on; init_by_lua_block { require 'redio' }"

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
  if not is_there then
    return pending("there is no nginx: " .. tostring(reason))
  end

  it("the quickstart runs as it is, as a content handler", function()
    with_nginx({ locations = { ["/"] = { file = "examples/quickstart.lua" } } }, function(web)
      assert.same(200, (web:get "/"))
      local log = web:log()
      assert.matches("Got values:Hello42", log, 1, true) -- print goes to the log, without tabs
      assert.matches("Hash:2Ada1815", log, 1, true)
      assert.matches("Transaction:4344", log, 1, true)
    end)
  end)

  it("what may wait can, in every phase that may", function()
    local function program(name)
      return ([[
        local redis = shared("here", os.getenv "REDIS_URL")
        ngx.ctx.%s = redis():echo("%s"):await()]]):format(name, name)
    end
    with_nginx({
      locations = {
        ["/"] = {
          rewrite = program "rewrite", access = program "access",
          content = program "content" .. [[

            local got
            local seen = redio.spawn(function() return redis():echo("thread"):await() end)
            ngx.timer.at(0, function() shared("timer", os.getenv "REDIS_URL")():set("from a timer", "yes"):await() end)
            redio.sleep(0.05)
            ngx.say(ngx.ctx.rewrite, " ", ngx.ctx.access, " ", ngx.ctx.content, " ", seen:await(), " ",
              (redis():get("from a timer"):del("from a timer"):await()))]],
        },
      },
    }, function(web)
      local _, body = web:get "/"
      assert.same("rewrite access content thread yes\n", body)
    end)
  end)

  it("also while a certificate is chosen, and within a subrequest", function()
    local certs, port = certificates.make(), server.free_port()
    local ask = [[ local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      local a, b = redio.gather(function() return redis():echo("a"):await() end, function()
        return redio.with_timeout(1, function() return redis():echo("b"):await() end)
      end)
      local said = a .. b .. redis():timeout(1):echo("c"):await() ]]
    with_nginx({ http = ([[
      server {
        listen 127.0.0.1:%d ssl;
        ssl_certificate %s;
        ssl_certificate_key %s;
        ssl_certificate_by_lua_block { %s ngx.log(ngx.NOTICE, "in TLS: ", said) }
        location / { return 200 "hello"; }
      }]]):format(port, certs.server.cert, certs.server.key, ask), locations = { ["/"] = [[
      ngx.print(ngx.location.capture("/inner").body)]], ["/inner"] = ask .. "ngx.print(said)" } }, function(web)
      assert.same("abc", select(2, web:get "/"))
      certs:openssl(("s_client -connect 127.0.0.1:%d </dev/null"):format(port))
      assert.matches("in TLS: abc", web:log())
    end)
    certs:remove()
  end)

  describe("a phase that may not wait says so:", function()
    local ask = [[
      local ok, err = pcall(function() return redio.Redis(os.getenv "REDIS_URL")():get("a"):await() end)
      local ok2, err2 = pcall(redio.sleep, 0.01)
      ngx.log(ngx.NOTICE, "asked: ", tostring(ok or ok2), " ", tostring(err), " / ", tostring(err2))]]
    for _, phase in ipairs { "set", "header_filter", "body_filter", "log" } do
      it(phase, function()
        local programs = { content = "ngx.say 'x'", [phase] = ask }
        if phase == "set" then
          programs = { directives = "set_by_lua_block $x { local redio = require 'redio' " .. ask .. " return 1 }",
            content = "ngx.say 'x'" }
        end
        with_nginx({ locations = { ["/"] = programs } }, function(web)
          assert.same(200, (web:get "/"))
          redio.sleep(0.05)
          local said = web:log():match "asked: ([^\n]*)"
          assert.matches("^false ", said)
          assert.matches(phase .. "_by_lua*", said, 1, true)
          local _, times = said:gsub("nginx does not allow it in", "")
          assert.same(2, times)
          assert.matches("ngx.timer.at", said, 1, true)
        end)
      end)
    end

    for _, phase in ipairs { "init", "init_worker" } do
      it(phase, function()
        with_nginx({
          http = phase .. "_by_lua_block { local redio = require 'redio' " .. ask .. " }",
          locations = { ["/"] = "ngx.say 'x'" },
        }, function(web)
          assert.same(200, (web:get "/"))
          local said = web:log():match "asked: ([^\n]*)"
          assert.matches("^false ", said)
          assert.matches(phase .. "_by_lua*", said, 1, true)
        end)
      end)
    end
  end)

  it("a connection is used again, and only one is opened", function()
    local own = server.start()
    with_nginx({ url = own.url, locations = { ["/"] = [[
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
      assert.same(2, after - before) -- one of them is who asks
      local _, body = web:get "/stats"
      assert.same("1 1 0\n", body)
    end)
    own:stop()
  end)

  it("64 requests at once each get their own reply", function()
    with_nginx({ locations = { ["/"] = [[
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
    with_nginx({ url = own.url, http = "lua_ssl_trusted_certificate " .. certs.ca.cert .. ";",
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
    with_nginx({ url = own.url, locations = { ["/"] = [[
      local redis = redio.Redis(("redis://localhost:%d/"):format(ngx.var.arg_port), { password = ngx.var.arg_password })
      local ok, err = pcall(function() return redis():echo("in"):await() end)
      ngx.print(ok and err or err.kind)]] } }, function(web)
      for _ = 1, 10 do
        assert.same("in", select(2, web:get("/?password=right&port=" .. own.port)))
        assert.same("AuthError", select(2, web:get("/?password=wrong&port=" .. own.port)))
      end
    end)
    own:stop()
  end)

  -- What a client is asked for after each of the tests below: everyone still gets his own.
  local AFTER = [[
    local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
    local wrong = 0
    for i = 1, 50 do
      if redis():echo("token " .. i):await() ~= "token " .. i then wrong = wrong + 1 end
    end
    local info = redis():client_info():await()
    ngx.say(wrong, " ", info:match " db=%d+", info:match " sub=%d+",
      info:match " flags=(%S+)":find "x" and " in MULTI" or "")]] -- (of `multi` Valkey 8.1 leaves a 0)
  local CLEAN = "0  db=0 sub=0\n"

  describe("a request that ends in the midst of a wait leaves nothing behind:", function()
    local function check_abort(program, times)
      local own = server.start()
      with_nginx({ url = own.url, http = ABORTS, locations = {
        ["/"] = 'local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 }) ' .. program,
        ["/after"] = AFTER,
      } }, function(web)
        for i = 1, times do
          web:abort("/", 0.002 * (i % 10) + 0.01)
        end
        redio.sleep(0.1)
        assert.same(CLEAN, select(2, web:get "/after"))
        assert.is_true(check.eventually(function()
          return own:cli("client", "list"):find("cmd=blpop", 1, true) == nil
        end))
      end)
      own:stop()
    end

    it("a blocking command", function()
      check_abort('redis():blpop("nothing", 100):await()', 10)
    end)

    it("a chain", function()
      check_abort([[
        local over = ngx.now() + 2 -- (one that hangs up before its request is read goes unnoticed)
        while ngx.now() < over do
          local db = redis()
          for i = 1, 2000 do db:echo("mine " .. i) end
          db:replies()
        end]], 40)
    end)

    it("a transaction", function()
      check_abort([[
        redis:transaction("k", function(db)
          db:select(3):get("k"):await()
          ngx.sleep(1)
        end)]], 10)
    end)

    it("a receiver", function()
      check_abort('for message in redis:pubsub("news") do ngx.say(message) end', 10)
    end)

    it("a chain that is longer than what is written at once", function()
      check_abort([[
        local over = ngx.now() + 2 -- (one that hangs up before its request is read goes unnoticed)
        while ngx.now() < over do
          local db = redis()
          for i = 1, 10000 do db:echo(("x"):rep(100) .. i) end
          db:replies()
        end]], 40)
    end)
  end)

  it("a request that is aborted leaves no deadline to the next one", function()
    with_nginx({ http = ABORTS, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 50 })
      redio.with_timeout(0.5, function()
        redio.gather(function() redis():blpop("nothing", 100):await() end, function() redio.sleep(100) end)
      end)]], ["/after"] = AFTER } }, function(web)
      local aborts = {}
      for i = 1, 30 do
        aborts[i] = redio.spawn(web.abort, web, "/", 0.2)
      end
      for i = 1, 30 do
        aborts[i]:await()
      end
      redio.sleep(0.5)
      local afters = {}
      for i = 1, 60 do
        afters[i] = redio.spawn(web.get, web, "/after")
      end
      for i = 1, 60 do
        assert.same(CLEAN, select(2, afters[i]:await()))
      end
    end)
  end)

  it("ngx.on_abort may end a request in the midst of a wait", function()
    with_nginx({ http = ABORTS, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
      ngx.on_abort(function() ngx.exit(499) end)
      redis():blpop("nothing", 10):await()]], ["/after"] = AFTER } }, function(web)
      for _ = 1, 10 do
        web:abort("/", 0.01)
      end
      assert.same(CLEAN, select(2, web:get "/after"))
    end)
  end)

  it("an error in user code gives no dirty connection away", function()
    local own = server.start()
    with_nginx({ url = own.url, may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
      local n = tonumber(ngx.var.arg_n) % 5
      if n == 0 then
        redis():watch("k"):get("k"):await()
      elseif n == 1 then
        redis():select(3):await()
      elseif n == 2 then
        redis():multi():set("k", 1):await()
      elseif n == 3 then
        local receiver = redis:pubsub("news"):connect()
        error "with a subscription"
      else
        redis():client_tracking("ON"):get("k"):await()
      end
      error "on purpose"]], ["/after"] = AFTER } }, function(web)
      for n = 1, 30 do
        assert.same(500, (web:get("/?n=" .. n)))
        assert.same(CLEAN, select(2, web:get "/after"))
      end
    end)
    own:stop()
  end)

  it("long chains go both ways", function()
    local own = server.start()
    with_nginx({ url = own.url, locations = { ["/"] = [[
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
    with_nginx({ url = ("redis://127.0.0.1:%d/?protocol=2"):format(peer.port), locations = { ["/"] = [[
      local db = shared("here", os.getenv "REDIS_URL", { timeout = 5 })()
      local key = ("k"):rep(400)
      for _ = 1, 50000 do db:get(key) end
      ngx.say(#db:replies())]] } }, function(web)
      assert.same("50000\n", select(2, web:get "/"))
    end)
    peer:stop()
  end)

  it("every kind of work runs in a request", function()
    local own = server.start()
    with_nginx({ url = own.url, locations = { ["/"] = [[
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
      ngx.say(table.concat(said, "\n"))]], ["/after"] = AFTER } }, function(web)
      local _, body = web:get "/"
      assert.same(table.concat({ "multi 1 2", "watch 20", "transaction 21", "script key arg", "blpop list item",
        "scan 100", "lock true true true", "locked false", "pubsub n1 n2 n3", "connection mine", "gather a b", ""
      }, "\n"), body)
      assert.same(CLEAN, select(2, web:get "/after"))
    end)
    own:stop()
  end)

  describe("time runs out", function()
    -- What each program raises, and the server's list of clients afterwards.
    local function raises(program, options)
      local own = server.start()
      local said
      with_nginx({ url = own.url, may_log = true, locations = { ["/"] = [[
        local redis = shared("here", os.getenv "REDIS_URL", ]] .. (options or "{}") .. [[)
        ngx.update_time()
        local start = ngx.now()
        local ok, err = pcall(function() ]] .. program .. [[ end)
        ngx.update_time()
        local took = ngx.now() - start
        ngx.print(ok and "nothing was raised" or (type(err) == "table" and ("%s %s %s"):format(err.kind, err.sent,
          err.message) or tostring(err)), ("|%.3f"):format(took))]], ["/after"] = AFTER } }, function(web)
        local _, body = web:get "/"
        said = { body:match "^(.*)|(.*)$" }
        assert.same(CLEAN, select(2, web:get "/after"))
        assert.is_nil(own:cli("client", "list"):find("cmd=blpop", 1, true))
      end)
      own:stop()
      return said[1], tonumber(said[2])
    end

    it("for one await", function()
      local said, took = raises 'redis():timeout(0.1):blpop("nothing", 5):await()'
      assert.same("TimeoutError maybe no reply within 0.1 s (timeout)", said)
      assert.is_true(took > 0.09 and took < 0.2, tostring(took))
    end)

    it("for several, and the error can be caught", function()
      local said, took = raises([[
        local ok, err = pcall(redio.with_timeout, 0.1, function()
          redis():echo("x"):await()
          local inner, why = pcall(function() redis():blpop("nothing", 5):await() end)
          assert(not inner and why.kind == "TimeoutError")
          redis():echo("after it was caught"):await()
          error(why, 0)
        end)
        error(err, 0)]])
      assert.matches("^TimeoutError .* not done within 0.1 s", said)
      assert.is_true(took > 0.09 and took < 0.2, tostring(took))
    end)

    it("where the caller sleeps, waits for a task, or for a message", function()
      for _, wait in ipairs { "redio.sleep(5)", "redio.spawn(redio.sleep, 0.3):await()",
        "redio.gather(function() redio.sleep(5) end, function() redio.sleep(6) end)",
        "redis:pubsub('news'):await()", "redis:pubsub('news'):channel('news'):get()",
        "redio.gather(function() redis():blpop('nothing', 4):await() end)" } do
        local said, took = raises("redio.with_timeout(0.1, function() " .. wait .. " end)")
        assert.matches("^TimeoutError .* not done within 0.1 s", said, wait)
        assert.is_true(took > 0.09 and took < 0.2, wait .. tostring(took))
      end
    end)

    it("for a reply, by the option", function()
      local said, took = raises("redis():debug('sleep', 0.2):await()", "{ timeout = 0.15 }")
      assert.matches("^TimeoutError maybe nothing within 0.15 s %(timeout%), waiting for a reply", said)
      assert.is_true(took > 0.14 and took < 0.2, tostring(took))
    end)

    it("while every connection is in use", function()
      local said, took = raises([[
        local held = redis:connection()
        held:echo("x"):await()
        local ok, err = pcall(function() redis():echo("y"):await() end)
        held:close()
        error(err, 0)]], "{ max_connections = 1, pool_timeout = 0.1 }")
      assert.matches("^TimeoutError no every connection is in use %(max_connections = 1%)", said)
      assert.is_true(took > 0.09 and took < 0.2, tostring(took))
    end)

    it("while connecting, and says at what", function()
      local silent = uv.new_tcp()
      silent:bind("127.0.0.1", 0)
      silent:listen(16, function() end)
      local port = silent:getsockname().port
      local said, took = raises(([[redio.Redis("redis://127.0.0.1:%d", { connect_timeout = 0.1, retry = false }
        )():get("k"):await()]]):format(port))
      assert.same("TimeoutError no no connection within 0.1 s (connect_timeout): still logging in", said)
      assert.is_true(took > 0.09 and took < 0.2, tostring(took))
      said = raises(([[redio.Redis("redis://127.0.0.1:%d")():timeout(0.1):get("k"):await()]]):format(port))
      assert.same("TimeoutError no no connection within 0.1 s (timeout): still logging in", said)
      silent:close()
    end)
  end)

  it("those who wait for a connection get one when it comes free", function()
    with_nginx({ locations = { ["/"] = [[
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

  describe("a task", function()
    local function says(program, expected)
      with_nginx({ locations = { ["/"] = [[
        local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
        local said = {}
        local function say(...)
          for i = 1, select("#", ...) do said[#said + 1] = tostring((select(i, ...))) end
        end
        ]] .. program .. [[ ngx.say(table.concat(said, " "))]], ["/after"] = AFTER } }, function(web)
        assert.same(expected .. "\n", select(2, web:get "/"))
        assert.same(CLEAN, select(2, web:get "/after"))
      end)
    end

    it("that waits for another is cancelled there", function()
      says([[
        local inner = redio.spawn(redio.sleep, 0.05)
        local task = redio.spawn(function()
          local ok, err = pcall(inner.await, inner)
          say(ok, err.kind)
          error(err, 0)
        end)
        redio.sleep(0.01)
        say(task:status(), task:cancel())
        local ok, err = pcall(task.await, task)
        say(ok, err.kind, task:status(), task:cancel())]], "waiting true false CancelledError false CancelledError "
          .. "cancelled false")
    end)

    it("that sleeps is cancelled there", function()
      says([[
        local task = redio.spawn(function() redio.sleep(5) end)
        redio.sleep(0.01)
        task:cancel()
        say(select(2, pcall(task.await, task)).kind)]], "CancelledError")
    end)

    it("that waits for the server ends there, and its connection is closed", function()
      says([[
        local task = redio.spawn(function() redis():blpop("nothing", 30):await() say "more" end)
        redio.sleep(0.02)
        say(task:cancel(), task:status())
        say(select(2, pcall(task.await, task)).kind)
        redio.sleep(0.02)
        say(redis():client_list():await():find("cmd=blpop", 1, true))]], "true cancelled CancelledError nil")
    end)

    it("that has not begun never does", function()
      says([[
        local task = redio.spawn(function() say "begun" end)
        task:cancel()
        redio.sleep(0.02)
        say(task:status())]], "cancelled")
    end)

    it("that fails raises where it is awaited, with its traceback", function()
      says([[
        local task = redio.spawn(function() error "oops" end)
        local ok, err = pcall(task.await, task)
        say(ok, err:find("oops", 1, true) ~= nil, err:find("traceback", 1, true) ~= nil)
        task = redio.spawn(function() redis():call("NOSUCH"):await() end)
        ok, err = pcall(task.await, task)
        say(ok, err.kind, err.traceback ~= nil)]], "false true true false ReplyError true")
    end)

    it("of a group that fails ends the others", function()
      says([[
        local ok, err = pcall(redio.gather, function() redis():blpop("nothing", 30):await() end, function()
          redio.sleep(0.02)
          error "no"
        end, function() redio.sleep(30) end)
        say(ok, err:find("no", 1, true) ~= nil)]], "false true")
    end)

    it("in the midst of a long chain is cancelled, too", function()
      says([[
        local task = redio.spawn(function()
          while true do
            local db = redis()
            for i = 1, 20000 do db:echo(("x"):rep(100)) end
            db:replies()
          end
        end)
        redio.sleep(0.05)
        task:cancel()
        say(select(2, pcall(task.await, task)).kind)]], "CancelledError")
    end)
  end)

  describe("TLS", function()
    local certs, port, own

    setup(function()
      certs, port = certificates.make(), server.free_port()
      own = server.start { "tls-port " .. port, "tls-cert-file " .. certs.server.cert,
        "tls-key-file " .. certs.server.key, "tls-ca-cert-file " .. certs.ca.cert, "tls-auth-clients optional" }
    end)

    teardown(function()
      own:stop()
      certs:remove()
    end)

    local function answer(trusted, host, options, plain_port)
      local said
      with_nginx({ may_log = true, http = trusted and "lua_ssl_trusted_certificate " .. trusted .. ";",
        locations = { ["/"] = ([[
        for name in pairs(package.loaded) do assert(name ~= "redio.tls") end
        local ok, err = pcall(function()
          return redio.Redis("rediss://%s:%d", %s)():echo("secret"):await()
        end)
        ngx.print(ok and err or type(err) == "table" and err.kind .. ": " .. err.message or err)
        assert(not package.loaded["redio.tls"])]]):format(host, plain_port or port, options or "nil") } },
        function(web)
          said = select(2, web:get "/")
        end)
      return said
    end

    it("is nginx's own, and verified", function()
      assert.same("secret", answer(certs.ca.cert, "localhost"))
    end)

    it("refuses the wrong authority, the wrong name, and what is no TLS", function()
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.other_ca.cert, "localhost"))
      assert.matches("lua_ssl_trusted_certificate", answer(certs.other_ca.cert, "localhost"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(nil, "localhost"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.ca.cert, "127.0.0.1"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.ca.cert, "localhost",
        "{ tls = { server_name = 'elsewhere.test' } }"))
      assert.matches("^TimeoutError: .*still in the TLS handshake", answer(certs.ca.cert, "localhost",
        "{ retry = false, connect_timeout = 0.2 }", own.port))
    end)

    it("takes another name, no verification and a certificate of the client's when told so", function()
      assert.same("secret", answer(certs.ca.cert, "127.0.0.1", "{ tls = { server_name = 'redis.test' } }"))
      assert.same("secret", answer(nil, "localhost", "{ tls = { verify = false } }"))
      assert.same("secret", answer(certs.ca.cert, "localhost",
        ("{ tls = { cert = %q, key = %q } }"):format(certs.client.cert, certs.client.key)))
    end)

    it("of the options, those that are nginx's are refused", function()
      assert.matches("lua_ssl_trusted_certificate", answer(nil, "localhost", "{ tls = { ca = '/ca.crt' } }"))
      assert.matches("lua_ssl_protocols", answer(nil, "localhost", "{ tls = { min_version = '1.3' } }"))
    end)
  end)

  it("a server that was killed between two requests: nothing is sent twice", function()
    local own = server.start()
    with_nginx({ url = own.url, may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
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

  it("a reply that no command asked for ends the connection", function()
    local fake = fakes.start(function(conn, words)
      conn:write(words[1]:upper() == "ECHO" and "$1\r\nx\r\n+more\r\n" or "$1\r\ny\r\n")
    end)
    with_nginx({ url = fake.url, may_log = true, locations = { ["/"] = [[
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
    with_nginx({ may_log = true, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL")
      kept = kept or redis:connection()
      local ok, err = pcall(function() return kept:echo("x"):await() end)
      ngx.print(ok and err or err.kind .. ": " .. err.message)]] } }, function(web)
      assert.same("x", select(2, web:get "/"))
      assert.matches("^ConnectionError: .*belongs to another request", select(2, web:get "/"))
    end)
  end)

  it("many light threads share a receiver", function()
    with_nginx({ locations = { ["/"] = [[
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
    with_nginx({ url = own.url, may_log = true, locations = { ["/"] = [[
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
    with_nginx({ locations = { ["/"] = [[
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

  it("memory does not grow", function()
    local count = tonumber(os.getenv "REDIO_NGINX_REQUESTS" or 6000)
    with_nginx({ locations = { ["/"] = [[
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

  describe("requests that work at once share a connection:", function()
    local SHARED = 'local redis = shared("all", os.getenv "REDIS_URL", { timeout = 0.3 }) '

    -- Runs `fn(web, own, all)` beside a server of its own; `all(count, path)` sends so many requests at once, and
    -- returns their answers. At the end everyone must still get what is his.
    local function beside(locations, fn)
      local own = server.start()
      locations["/after"] = AFTER
      locations["/connections"] = SHARED .. "ngx.print((redis():client_list():await():gsub('[^\\n]*\\n', 'c')))"
      with_nginx({ url = own.url, may_log = true, http = ABORTS, locations = locations }, function(web)
        local function all(count, path)
          local tasks, answers = {}, {}
          for i = 1, count do
            tasks[i] = redio.spawn(function()
              return select(2, web:get(path:gsub("%%", i)))
            end)
          end
          for i = 1, count do
            answers[i] = tasks[i]:await()
          end
          return answers
        end
        web:get "/connections" -- whose client is for other requests, too
        fn(web, own, all)
        assert.same(CLEAN, select(2, web:get "/after"))
      end)
      own:stop()
    end

    local ECHO = SHARED .. [[
      local id = ngx.var.arg_id
      local wrong = 0
      for round = 1, 20 do
        local a, b = redis():echo(id .. "a"):echo(id .. "b"):await()
        if a ~= id .. "a" or b ~= id .. "b" then wrong = wrong + 1 end
      end
      ngx.print(wrong)]]

    it("few are opened for many requests", function()
      beside({ ["/"] = ECHO }, function(_, own, all)
        for _ = 1, 5 do
          for _, wrong in ipairs(all(50, "/?id=%")) do
            assert.same("0", wrong)
          end
        end
        local _, count = own:cli("client", "list"):gsub("\n", "\n")
        assert.is_true(count < 60, tostring(count))
        local before = own:cli("info", "stats"):match "total_connections_received:(%d+)"
        all(50, "/?id=%")
        assert.same(tonumber(before) + 1, tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)"))
      end)
    end)

    it("those that are aborted get no reply of another's, and give none away", function()
      beside({ ["/"] = ECHO, ["/slow"] = SHARED .. [[
        local over = ngx.now() + 2
        while ngx.now() < over do
          redis():eval("for i = 1, 20000 do end return ARGV[1]", {}, { "slow" }):await()
        end]] }, function(web, _, all)
        for _ = 1, 5 do
          local aborts = {}
          for i = 1, 30 do
            aborts[i] = redio.spawn(web.abort, web, "/slow", 0.01 + i * 0.002)
          end
          for _, wrong in ipairs(all(30, "/?id=%")) do
            assert.same("0", wrong)
          end
          for i = 1, 30 do
            aborts[i]:await()
          end
        end
      end)
    end)

    it("who runs out of time leaves his place, and the connection goes on", function()
      beside({ ["/"] = ECHO, ["/hurry"] = SHARED .. [[
        local ok, err = pcall(function() return redis():timeout(0.05):echo("hurry"):await() end)
        ngx.print(ok and "in time" or err.kind .. " " .. err.sent)]] }, function(_, own, all)
        all(40, "/?id=%")
        local before = own:cli("info", "stats"):match "total_connections_received:(%d+)"
        own:pause()
        for _, said in ipairs(all(30, "/hurry")) do
          assert.same("TimeoutError maybe", said)
        end
        own:resume()
        for _, wrong in ipairs(all(40, "/?id=%")) do
          assert.same("0", wrong)
        end
        assert.same(tonumber(before) + 1, tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)"))
      end)
    end)

    it("an overdue reply ends it, and tells everyone", function()
      beside({ ["/"] = ECHO, ["/one"] = SHARED .. [[
        ngx.update_time()
        local start = ngx.now()
        local ok, err = pcall(function() return redis():incr("n"):await() end)
        ngx.update_time()
        ngx.print(ok and "in time" or err.kind .. " " .. err.sent .. " " .. tostring(ngx.now() - start < 0.45))]] },
        function(_, own, all)
        all(40, "/?id=%")
        own:pause()
        local answers = all(30, "/one")
        own:resume()
        for _, said in ipairs(answers) do
          assert.matches("^TimeoutError %a+ true$", said) -- on a busy machine some were not written yet: "no"
        end
      end)
    end)

    it("a server that is killed: nothing is sent twice", function()
      beside({ ["/"] = ECHO, ["/one"] = SHARED .. [[
        local ok, unsure = 0, 0
        for _ = 1, 50 do
          local done, err = pcall(function() return redis():incr("n"):await() end)
          if done then ok = ok + 1 elseif err.sent ~= "no" then unsure = unsure + 1 end
          ngx.sleep(0.001)
        end
        ngx.print(ok, " ", unsure)]] }, function(_, own, all)
        all(40, "/?id=%")
        local killer = redio.spawn(function()
          for _ = 1, 5 do
            redio.sleep(0.02)
            own:cli("client", "kill", "type", "normal")
          end
        end)
        local ok, unsure = 0, 0
        for _, said in ipairs(all(30, "/one")) do
          local done, open = said:match "^(%d+) (%d+)$"
          ok, unsure = ok + done, unsure + open
        end
        killer:await()
        local n = tonumber(own:cli("get", "n"))
        assert.is_true(n >= ok and n <= ok + unsure, ("%d <= %d <= %d"):format(ok, n, ok + unsure))
      end)
    end)

    it("error replies, lists and decoders are as ever; a task is cancelled where it waits", function()
      beside({ ["/"] = ECHO, ["/one"] = SHARED .. [[
        local list = redis():echo("a"):call("NOSUCH"):echo("b"):replies()
        local ok, err = pcall(function() redis():echo("a"):call("NOSUCH"):await() end)
        redis():set("json", '{"a":1}'):await()
        local value = redis():autodecode():get("json"):await()
        local said = {}
        local task = redio.spawn(function()
          local fine, why = pcall(function()
            for _ = 1, 100000 do redis():echo("x"):await() end
          end)
          said[1] = tostring(fine) .. why.kind
          error(why, 0)
        end)
        redio.sleep(0.02)
        task:cancel()
        local _, why = pcall(task.await, task)
        ngx.print(list[1], list[2].kind, list[3], tostring(ok), err.kind, value.a, said[1], why.kind)]] },
        function(_, _, all)
        all(40, "/?id=%")
        for _, said in ipairs(all(20, "/one")) do
          assert.same("aReplyErrorbfalseReplyError1falseCancelledErrorCancelledError", said)
        end
      end)
    end)

    it("it does not keep a worker that is to end", function()
      local own = server.start()
      local web = nginx.start { url = own.url, locations = { ["/"] = ECHO } }
      redio.run(function()
        local tasks = {}
        for i = 1, 40 do
          tasks[i] = redio.spawn(web.get, web, "/?id=" .. i)
        end
        for i = 1, 40 do
          tasks[i]:await()
        end
      end)
      uv.kill(web.pid, "sigquit")
      assert.is_true(server.wait_until(function()
        return uv.fs_stat(web.dir .. "/exited") ~= nil
      end, 4))
      web:stop()
      own:stop()
    end)
  end)
end)
