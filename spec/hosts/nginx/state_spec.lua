-- SPDX-License-Identifier: MIT
-- The state that a request leaves on a connection in nginx never reaches another request. And more than 8,000 values,
-- LuaJIT's limit, of each kind at once.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local AFTER = nginx.after 'redio.Redis(os.getenv "REDIS_URL", { max_connections = 2 })'

  -- Each request of `/` runs a program by its number; after each, others get what is theirs, one by one and at once.
  local function check_clean(own, programs, options)
    local cases = {}
    for i, program in ipairs(programs) do
      cases[i] = ("[%d] = function() %s end,"):format(i, program)
    end
    nginx.with({ url = own.url, may_log = true, seconds = 60, locations = { ["/after"] = AFTER, ["/"] = ([[
      local redis = redio.Redis(os.getenv "REDIS_URL", %s)
      local cases = { %s }
      local ok, err = pcall(cases[tonumber(ngx.var.arg_n)])
      ngx.print(ok and "no error" or type(err) == "table" and err.kind .. ": " .. err.message or err)]]):format(
      options or "{ max_connections = 2 }", table.concat(cases, "\n")) } }, function(web)
      for round = 1, 2 do -- by connections of the pool, then with the shared one at work
        for n = 1, #programs do
          local beside = {}
          for i = 1, (round - 1) * 12 do
            beside[i] = redio.spawn(web.get, web, "/after")
          end
          assert.same(200, (web:get("/?n=" .. n)))
          for i = 1, #beside do
            assert.same(nginx.CLEAN, select(2, beside[i]:await()), programs[n])
          end
          assert.same(nginx.CLEAN, select(2, web:get "/after"), programs[n])
        end
      end
    end)
  end

  describe("nothing is left to the next request", function()
    it("by a MULTI that the server does not end: it has no EXEC, or no DISCARD", function()
      local own = server.start { 'rename-command EXEC ""', 'rename-command DISCARD ""' }
      check_clean(own, {
        "redis():multi():set('k', 1):get('k'):exec():await()",
        "redis():multi():set('k', 1):await()",
        "local db = redis() db:multi():set('k', 1):await() db:exec():await()",
        "local db = redis() db:multi():set('k', 1):await() db:discard():await()",
        "redis:transaction('k', function(db) db:multi():set('k', 1) end)",
        "redis:with_connection(function(db) db:multi():get('k'):await() pcall(db.exec, db) pcall(db.await, db) end)",
      })
      own:stop()
    end)

    it("by any spelling of what leaves something behind", function()
      local own = server.start { "user bob on >pw ~* +@all" }
      check_clean(own, {
        'redis():call("SELECT 3"):await()', 'redis():call("select", 3):get("x"):await()',
        'redis():call(" SELECT  3 "):get("x"):await()', 'redis():select(3):await()',
        'redis():call("SUBSCRIBE news"):await()', 'redis():call("subscribe", "news"):await()',
        'redis():call("CLIENT REPLY SKIP"):await()', 'redis():call("CLIENT REPLY OFF"):await()',
        'redis():call("client", "reply", "skip"):echo("x"):await()', 'redis():call("CLIENT", "REPLY", "OFF"):await()',
        'redis():client_reply("OFF"):echo("x"):await()', 'redis():call("MULTI"):set("x", 1):await()',
        'redis():call("MULTI"):await()', 'redis():call("WATCH x"):await()', 'redis():watch("x"):get("x"):await()',
        'redis():call("AUTH bob pw"):await()', 'redis():auth("bob", "pw"):await()', 'redis():call("HELLO 2"):await()',
        'redis():call("HELLO", 2):await()', 'redis():call("RESET"):await()', 'redis():call("MONITOR"):await()',
        'redis():call("CLIENT TRACKING ON"):get("x"):await()', 'redis():client_tracking("ON"):get("x"):await()',
        'redis():call("CLIENT NO-EVICT ON"):await()', 'redis():client_setname("named"):await()',
        'redis():call("QUIT"):await()', 'redis():call("READONLY"):await()', 'redis():call("ASKING"):await()',
        'redis():multi():call("SELECT 3"):exec():await()', 'redis():multi():select(3):get("x"):exec():await()',
        'local db = redis:connection() db:select(3):multi():set("x", 1):await() error "on purpose"',
      })
      own:stop()
    end)

    it("by an on_connect that leaves something which its chains would suffer from: the attempt fails", function()
      local own = server.start()
      for _, left in ipairs { "db:multi():await()", "db:watch('x'):await()", "db:client_reply('OFF'):await()",
        "db:client_reply('SKIP'):await()", "db:call('CLIENT REPLY OFF'):await()", "db:multi():get('x'):await()" } do
        check_clean(own, { "redis():get('x'):await()" },
          ("{ retry = false, on_connect = function(db) %s end }"):format(left))
        nginx.with({ url = own.url, seconds = 20, locations = { ["/"] = ([[
          local redis = redio.Redis(os.getenv "REDIS_URL", { on_connect = function(db) %s end })
          local ok, err = pcall(function() redis():get("x"):await() end)
          ngx.print(ok and "connected" or err.kind .. " " .. err.message)]]):format(left) } }, function(web)
          assert.matches("^ConnectionError on_connect has left", (select(2, web:get "/")), left)
        end)
      end
      own:stop()
    end)
  end)

  it("an error in user code gives no dirty connection away", function()
    local own = server.start()
    nginx.with({ url = own.url, may_log = true, locations = { ["/"] = [[
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
      error "on purpose"]], ["/after"] = nginx.AFTER } }, function(web)
      for n = 1, 30 do
        assert.same(500, (web:get("/?n=" .. n)))
        assert.same(nginx.CLEAN, select(2, web:get "/after"))
      end
    end)
    own:stop()
  end)

  it("an error within the core ends the connection and is told, and nothing else", function()
    -- (No memory: it is raised in the place of what the core does.)
    local own = server.start()
    nginx.with({ url = own.url, seconds = 20, http = [[init_by_lua_block {
      local methods = getmetatable(require("redio.core").connection()).__index
      for _, name in ipairs { "next", "output" } do
        local method = methods[name]
        methods[name] = function(...)
          if failing == name then
            failing = nil
            error("not enough memory", 0)
          end
          return method(...)
        end
      end
      require "redio"
    }]], locations = { ["/"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL", { retry = false })
      redis():echo("x"):await()
      failing = ngx.var.arg_fail
      local ok, err = pcall(function() redis():incr("n"):await() end)
      ngx.print(tostring(ok), " ", err.kind, " ", err.message, "; ", redis():echo("y"):await(), " ",
        redis:stats().connections)]] } }, function(web)
      assert.same("false ProtocolError not enough memory; y 1", select(2, web:get "/?fail=next"))
      assert.same("false ConnectionError not enough memory; y 1", select(2, web:get "/?fail=output"))
    end)
    own:stop()
  end)

  describe("of more than 8,000", function()
    local function says(program, expected)
      local own = server.start()
      nginx.with({ url = own.url, seconds = 60, locations = { ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL")
        local n, said = 20000, {}
        local function say(...)
          for i = 1, select("#", ...) do said[#said + 1] = tostring((select(i, ...))) end
        end
        local function many(fn)
          local list = {}
          for i = 1, n do list[i] = fn(i) end
          return list
        end
        ]] .. program .. [[ ngx.print(table.concat(said, " "))]] } }, function(web)
        for _ = 1, 2 do
          assert.same(expected, select(2, web:get "/"))
        end
      end)
      own:stop()
    end

    it("arguments come from tables", function()
      says([[
        redis():flushall():await()
        local pairs = {}
        for i = 1, n do pairs["k" .. i] = i end
        redis():mset(pairs):await()
        say(redis():dbsize():await())
        say(redis():sadd("set", many(tostring)):await())
        say(redis():rpush("list", many(tostring)):await())
        say(redis():delete(many(function(i) return "k" .. i end)):await())
        say(redis():hset("hash", pairs):await())]], "20000 20000 20000 20000 20000")
    end)

    it("elements are in a reply, a push, a transaction and a script", function()
      says([[
        redis():delete("list"):rpush("list", many(tostring)):await()
        say(#redis():lrange("list", 0, -1):await())
        local fields = {}
        for i = 1, n do fields["f" .. i] = i end
        redis():delete("hash"):hset("hash", fields):await()
        local all, count = redis():hgetall("hash"):await(), 0
        for _ in pairs(all) do count = count + 1 end
        say(count, #redis():hkeys("hash"):await())
        local db = redis():multi()
        for i = 1, n do db:get("x" .. i) end
        say(#db:exec():await())
        local script = redis:script "return #ARGV"
        say(script({}, many(tostring)))
        local seen = 0
        for _ in redis:hscan("hash") do seen = seen + 1 end
        say(seen)]], "20000 20000 20000 20000 20000 20000")
    end)

    it("results come as a list, and an await says so; in both ways also where all are errors", function()
      says([[
        local function chain(method, ...)
          local db = redis()
          for i = 1, n do db[method](db, ...) end
          return db
        end
        say(#chain("echo", "x"):replies())
        local ok, err = pcall(function() chain("echo", "x"):await() end)
        say(ok, tostring(err):match "use replies%(%)")
        redis():set("text", "x"):await()
        local list = chain("incr", "text"):replies()
        say(#list, list[1].kind, list[n].kind)
        ok, err = pcall(function() chain("lpush", "text", 1):await() end)
        say(ok, tostring(err):match "use replies%(%)")
        redis():config_set("maxmemory", 1):await()
        ok, err = pcall(function() chain("set", "x", 1):await() end)
        say(ok, err.kind, #err.replies)
        redis():config_set("maxmemory", 0):await()]],
        "20000 false use replies() 20000 ReplyError ReplyError false use replies() false OutOfMemoryError 20000")
    end)

    it("errors of one request's chain on the shared connection concern no other", function()
      local own = server.start()
      local SHARED = 'local redis = redio.Redis(os.getenv "REDIS_URL", { timeout = 20 }) '
      nginx.with({ url = own.url, seconds = 60, locations = { ["/ask"] = SHARED .. [[
        for i = 1, 100 do
          local said = redis():echo("x" .. i):await()
          if said ~= "x" .. i then return ngx.print(said) end
        end
        ngx.print "right"]], ["/"] = SHARED .. [[
        local db = redis()
        for i = 1, 10000 do db:set("k", 1) end
        local ok, err = pcall(db.await, db)
        ngx.print(ok and "no error" or type(err) == "table" and err.kind or err)]] } }, function(web)
        local function many(path, expected)
          local tasks = {}
          for i = 1, 20 do
            tasks[i] = redio.spawn(function() assert.same(expected, select(2, web:get(path))) end)
          end
          return tasks
        end
        for _, one in ipairs(many("/ask", "right")) do one:await() end
        own:cli("config", "set", "maxmemory", "1")
        local asking = many("/ask", "right")
        assert.same("OutOfMemoryError", select(2, web:get "/"))
        assert.same("OutOfMemoryError", select(2, web:get "/"))
        for _, one in ipairs(asking) do one:await() end
      end)
      own:stop()
    end)

    it("channels are subscribed to, messages wait, and tasks run side by side", function()
      says([[
        local receiver = redis:pubsub()
        for i = 1, 9000 do receiver:subscribe("c" .. i) end
        receiver:connect()
        local db = redis()
        for i = 1, 9000 do db:publish("c" .. i, i) end
        db:replies()
        local sum = 0
        for _ = 1, 9000 do sum = sum + receiver:await() end
        receiver:close()
        say(sum)
        local tasks = {}
        for i = 1, 10000 do tasks[i] = redio.spawn(function() return redis():echo(i):await() end) end
        local right = 0
        for i = 1, 10000 do right = right + (tonumber(tasks[i]:await()) == i and 1 or 0) end
        say(right)]], "40504500 10000")
    end)
  end)
end)
