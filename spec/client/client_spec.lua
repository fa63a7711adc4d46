-- SPDX-License-Identifier: MIT
-- The client: lazy, one shared connection, a bounded pool, an orderly end. Contract: docs, "Client"
-- and "How the waiting works".

local uv = require "luv"
local redio = require "redio"
local server = require "spec.support.server"
local fake = require "spec.support.fake"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"

local PREFIX = "spec:client:"

local function key(name)
  return PREFIX .. name
end

-- Runs `n` calls of `fn(i)` side by side and waits for all.
local function together(n, fn)
  local calls = {}
  for i = 1, n do
    calls[i] = function()
      fn(i)
    end
  end
  redio.gather((table.unpack or unpack)(calls)) -- luacheck: ignore unpack
end

describe("A client", function()
  local shared, observer, opened

  -- A client of the shared server with a name of its own, closed after the test.
  local function client(options)
    options = options or {}
    options.client_name = options.client_name or ("spec-client-" .. #opened .. "-" .. uv.hrtime())
    local new = redio.Redis(shared.url, options)
    opened[#opened + 1] = new
    return new, options.client_name
  end

  local function connections(name)
    return #check.clients(observer, name)
  end

  setup(function()
    opened = {}
    shared = server.shared()
    observer = redio.Redis(shared.url)
  end)

  after_each(function()
    for _, each in ipairs(opened) do
      each:close { drain = 0 }
    end
    opened = {}
    check.wipe(observer, PREFIX)
  end)

  teardown(function()
    observer:close()
  end)

  describe("is lazy:", function()
    it("no I/O before it is used, so that nothing need be there", function()
      local before = tonumber(check.info(observer, "stats").total_connections_received)
      local redis, name = client()
      redis():set(key "a", 1):clear()
      redis:pubsub("c"):close()
      redio.run(redio.sleep, 0.05)
      assert.are.equal(before, tonumber(check.info(observer, "stats").total_connections_received))
      assert.are.equal(0, connections(name))
      redio.Redis "redis://no-such-host.invalid:1/":close()
    end)

    it("connects with its first await, says its name and selects its database", function()
      local redis, name = client { database = 3 }
      redis():ping():await()
      local list = check.clients(observer, name)
      assert.are.equal(1, #list)
      assert.are.equal("3", list[1].db)
    end)
  end)

  describe("is reached by", function()
    it("TCP, unix socket, a path, or options without a URL", function()
      local ways = {
        { shared.url }, { shared.unix_url }, { shared.path }, { ("127.0.0.1:%d"):format(shared.port) },
        { ("localhost:%d/2"):format(shared.port) }, { nil, { host = "127.0.0.1", port = shared.port } },
        { nil, { path = shared.path } }, { "redis-socket://" .. shared.path }, { "unix://" .. shared.path .. "?db=1" },
      }
      observer():set(key "way", "found"):await()
      for i, way in ipairs(ways) do
        local redis = redio.Redis(way[1], way[2])
        local expected = (i == 5 or i == 9) and "" or "found"
        assert.are.equal(expected, (redis():get(key "way"):await()) or "")
        redis:close()
      end
    end)

    it("RESP3, and RESP2 where the server has no HELLO", function()
      for protocol = 2, 3 do
        local peer = fake.start(function()
          return "$5\r\nvalue\r\n"
        end, { protocol = protocol })
        local redis = redio.Redis(peer.url)
        assert.are.equal("value", (redis():get "k":await()))
        assert.are.same({ { "GET", "k" } }, peer.requests)
        assert.are.equal(1, peer.accepted)
        redis:close()
        peer:stop()
      end
    end)
  end)

  describe("shares one connection:", function()
    it("a thousand coroutines that each await one GET get their own value over one connection", function()
      local keys = {}
      for i = 1, 1000 do
        keys[key("k" .. i)] = "value " .. i
      end
      observer():mset(keys):await()
      local redis, name = client()
      local before, after, most
      check.within(10, function()
        redis():ping():await()
        before = check.info(observer, "stats")
        together(1000, function(i)
          assert(redis():get(key("k" .. i)):await() == "value " .. i)
        end)
        after = check.info(observer, "stats")
        most = connections(name)
      end)
      assert.are.equal(1, most)
      assert.are.equal(before.total_connections_received, after.total_connections_received)
      local request = #"*2\r\n$3\r\nGET\r\n$16\r\n\r\n" + #key "k1000"
      local bytes = tonumber(after.total_net_input_bytes) - tonumber(before.total_net_input_bytes)
      assert.is_true(bytes <= 1000 * request + 1000, bytes .. " bytes")
    end)

    it("and cost a handful of writes", function()
      local script = ([[
        local redio = require "redio"
        local redis = redio.Redis(%q)
        redio.run(function()
          local tasks = {}
          for i = 1, 1000 do
            tasks[i] = redio.spawn(function() redis():get("spec:client:none" .. i):await() end)
          end
          for _, task in ipairs(tasks) do task:await() end
        end)
        redis:close()
      ]]):format(shared.url)
      local strace = "strace -f -qq -e trace=write,writev,sendto,sendmsg %s"
      local output = check.script(script, strace)
      local writes, gets = 0, 0
      for line in output:gmatch "[^\n]+" do
        if line:find("GET", 1, true) then
          gets = gets + 1
        end
        if line:find "^[^%a]*%a+%(" and line:find("\\r\\n", 1, true) then
          writes = writes + 1
        end
      end
      if gets == 0 then
        return pending("strace")
      end
      assert.is_true(writes <= 20, writes .. " writes")
    end)

    it("chains of many coroutines are contiguous", function()
      local redis = client()
      check.within(10, together, 50, function(i)
        local db = redis()
        for part = 1, 10 do
          db:rpush(key "log", i .. ":" .. part)
        end
        db:await()
      end)
      local log = observer():lrange(key "log", 0, -1):await()
      assert.are.equal(500, #log)
      for first = 1, 500, 10 do
        local who = log[first]:match "^%d+"
        for part = 1, 10 do
          assert.are.equal(who .. ":" .. part, log[first + part - 1])
        end
      end
    end)

    it("an error of one does not disturb the others", function()
      local redis = client()
      redis():set(key "s", "text"):await()
      check.within(5, together, 100, function(i)
        if i % 2 == 0 then
          check.raises("ReplyError", function()
            redis():lpush(key "s", i):await()
          end)
        else
          assert(redis():echo(i):await() == tostring(i))
        end
      end)
    end)

    it("unless multiplex = false, which gives each await a connection of its own", function()
      local redis = client { multiplex = false }
      local ids = {}
      check.within(5, together, 3, function(i)
        ids[i] = redis():client_id():await()
      end)
      assert.is_true(ids[1] ~= ids[2] and ids[2] ~= ids[3] and ids[1] ~= ids[3])
      local first = redis():client_id():await()
      assert.are.equal(first, (redis():client_id():await()))
    end)

    it("and blocking commands have their own, so that no other waits for them", function()
      local redis, name = client()
      check.within(5, function()
        local blocked = redio.spawn(function()
          return redis():blpop(key "queue", 10):await()
        end)
        redio.sleep(0.02)
        local before = uv.hrtime()
        assert.are.equal("quick", (redis():echo "quick":await()))
        assert.is_true(uv.hrtime() - before < 1e9)
        assert.are.equal(2, connections(name))
        redis():rpush(key "queue", "item"):await()
        assert.are.same({ key "queue", "item" }, (blocked:await()))
        assert.are.equal(2, connections(name))
      end)
    end)

    it("and a command that leaves state behind does not change it for others", function()
      local redis = client()
      redis():select(5):await()
      assert.are.equal(0, (redis():exists(key "x"):await()) and 1 or 0)
      redis():set(key "x", 1):await()
      assert.are.equal("1", (observer():get(key "x"):await()))
      redis():select(5):set(key "five", 1):await()
      assert.is_nil((observer():get(key "five"):await()))
      local five = redio.Redis(shared.url, { database = 5 })
      assert.are.equal("1", (five():getdel(key "five"):await()))
      five:close()
    end)
  end)

  describe("has a pool that", function()
    it("is bounded by max_connections", function()
      local redis, name = client { max_connections = 3, pool_timeout = 10 }
      local most = 0
      check.within(10, function()
        local watch = redio.spawn(function()
          while true do
            most = math.max(most, connections(name))
            redio.sleep(0.01)
          end
        end)
        together(9, function(i)
          redis():blpop(key("none" .. i), 0.05):await()
        end)
        watch:cancel()
      end)
      assert.is_true(most >= 2 and most <= 3, most .. " connections")
    end)

    it("makes callers wait in order", function()
      local redis = client { max_connections = 1, multiplex = false, pool_timeout = 10 }
      local order, expected = {}, {}
      check.within(10, together, 50, function(i)
        expected[i] = i
        redis():incr(key "n"):await()
        order[#order + 1] = i
      end)
      assert.are.same(expected, order)
    end)

    it("makes them wait no longer than pool_timeout, and 0 is not at all", function()
      for _, seconds in ipairs { 0.1, 0 } do
        local redis = client { max_connections = 1, multiplex = false, pool_timeout = seconds }
        check.within(5, function()
          local blocked = redio.spawn(function()
            return redis():blpop(key "queue", 10):await()
          end)
          redio.sleep(0.02)
          local before = uv.hrtime()
          local err = check.raises("TimeoutError", function()
            redis():ping():await()
          end)
          local waited = (uv.hrtime() - before) / 1e9
          assert.is_true(waited < seconds + 0.1 and waited >= seconds - 0.01, waited .. " s")
          assert.are.equal("no", err.sent)
          observer():rpush(key "queue", "item"):await()
          blocked:await()
          redis():ping():await()
        end)
      end
    end)

    it("keeps connections for the next", function()
      local redis, name = client()
      for _ = 1, 5 do
        redis():blpop(key "none", 0.01):await()
      end
      assert.are.equal(1, connections(name))
    end)

    it("closes idle connections, or all, by disconnect", function()
      local redis, name = client()
      redis():ping():await()
      redis():blpop(key "none", 0.01):await()
      assert.are.equal(2, connections(name))
      redis:disconnect { idle = true }
      assert.are.equal(0, redis:stats().idle)
      redis:disconnect()
      assert.is_true(redio.run(check.eventually, function()
        return connections(name) == 0
      end))
      assert.are.equal("again", (redis():echo "again":await()))
    end)
  end)

  describe("lends a connection:", function()
    it("with_connection(fn) gives fn a pinned handle and returns what fn returns", function()
      local redis = client()
      local shared_id = redis():client_id():await()
      local a, b, last = redis:with_connection(function(db)
        return db:client_id():await(), db:client_id():await(), nil
      end)
      assert.are.equal(a, b)
      assert.are_not.equal(shared_id, a)
      assert.is_nil(last)
    end)

    it("with_connection(fn) takes it back whatever happens", function()
      local redis = client { max_connections = 2, pool_timeout = 1 }
      for _ = 1, 5 do
        local ok, err = pcall(redis.with_connection, redis, function(db)
          db:ping():await()
          error("in between")
        end)
        assert.is_false(ok)
        assert.matches("in between", tostring(err))
      end
      assert.are.equal(0, redis:stats().in_flight)
    end)

    it("with_connection(fn) takes it back clean", function()
      local redis = client { max_connections = 2, pool_timeout = 1 }
      local dirty = {
        function(db) db:select(7):await() end,
        function(db) db:watch(key "n"):await() end,
        function(db) db:multi():incr(key "n"):await() end,
        function(db) db:client_setname("other"):await() end,
        function(db) db:call("CLIENT", "REPLY", "OFF"):await() end,
      }
      for i, make_dirty in ipairs(dirty) do
        check.within(5, function()
          pcall(redis.with_connection, redis, make_dirty)
          observer():set(key "n", 1):await()
          redis:with_connection(function(db)
            db:set(key("clean" .. i), 1):await()
            assert.are.same({ { 2 } }, { db:multi():incr(key "n"):exec():await() })
            assert.matches(" db=0 ", (db:client_info():await()))
          end)
        end)
        assert.are.equal("1", (observer():get(key("clean" .. i)):await()))
      end
    end)

    it("connection() is a handle pinned to a private connection until it is closed", function()
      local redis, name = client()
      local shared_id = redis():client_id():await()
      local db = redis:connection()
      local id = db:client_id():await()
      assert.are.equal(id, (db:client_id():await()))
      assert.are_not.equal(shared_id, id)
      db:select(4):await()
      assert.matches(" db=4 ", (db:client_info():await()))
      db:close()
      assert.are_not.equal(id, shared_id)
      redis:with_connection(function(other)
        assert.matches(" db=0 ", (other:client_info():await()))
      end)
      assert.is_true(connections(name) <= 2)
    end)

    it("connection() does not reconnect", function()
      local redis = client()
      local db = redis:connection()
      local id = db:client_id():await()
      observer():client_kill("ID", id):await()
      for _ = 1, 2 do
        check.within(5, check.raises, "ConnectionClosedError", function()
          db:get(key "n"):await()
        end)
      end
      db:close()
      assert.are.equal("shared", (redis():echo "shared":await()))
    end)
  end)

  describe("says how it is:", function()
    it("stats() counts connections, idle ones, waiters, commands in flight, bytes, reconnects", function()
      local redis = client { max_connections = 1, multiplex = false, pool_timeout = 5 }
      local function stats(expected)
        local got = redis:stats()
        for field, value in pairs(expected) do
          assert.are.equal(value, got[field], field)
        end
      end
      stats { connections = 0, idle = 0, waiting = 0, in_flight = 0, queued_bytes = 0, reconnects = 0 }
      check.within(5, function()
        local one = redio.spawn(function() redis():blpop(key "queue", 10):await() end)
        redio.sleep(0.02)
        stats { connections = 1, idle = 0, waiting = 0, in_flight = 1 }
        local two = redio.spawn(function() redis():ping():await() end)
        redio.sleep(0.02)
        stats { connections = 1, idle = 0, waiting = 1 }
        observer():rpush(key "queue", "item"):await()
        one:await()
        two:await()
        stats { connections = 1, idle = 1, waiting = 0, in_flight = 0, queued_bytes = 0 }
      end)
    end)

    it("stats().waiting are the waits until the shared connection is open, without those given up", function()
      local line = proxies.start(shared)
      local redis = redio.Redis(line.url)
      check.within(5, function()
        line.down.hold = true
        local tasks = {}
        for i = 1, 5 do
          tasks[i] = redio.spawn(function()
            return redis():timeout(i == 1 and 0.05 or 5):echo(tostring(i)):await()
          end)
        end
        redio.sleep(0.02)
        assert.are.equal(5, redis:stats().waiting)
        tasks[2]:cancel()
        tasks[4]:cancel()
        assert.are.equal(3, redis:stats().waiting)
        check.raises("TimeoutError", tasks[1].await, tasks[1])
        assert.are.equal(2, redis:stats().waiting)
        line:release()
        assert.are.equal("3", (tasks[3]:await()))
        assert.are.equal("5", (tasks[5]:await()))
        assert.are.equal(0, redis:stats().waiting)
      end)
      redis:close()
      line:stop()
    end)

    it("tostring() names the address and no password", function()
      local redis = redio.Redis "redis://user:canary@example.invalid:7000/3"
      assert.matches("example.invalid", tostring(redis))
      assert.is_nil(tostring(redis):find("canary", 1, true))
      redis:close()
    end)
  end)

  describe("is closed by close(), which", function()
    it("stops new work and says so", function()
      local redis = client()
      assert.is_falsy(redis.closed)
      redis():ping():await()
      redis:close()
      assert.is_true(redis.closed)
      check.raises("PoolClosedError", function()
        redis():ping():await()
      end)
    end)

    it("can be called again, and on a client that was never used", function()
      local redis = client()
      redis:close()
      redis:close()
      assert.is_true(redis.closed)
    end)

    it("closes every connection", function()
      local redis, name = client()
      redis():ping():await()
      redis():blpop(key "none", 0.01):await()
      redis:close()
      assert.is_true(redio.run(check.eventually, function()
        return connections(name) == 0
      end))
    end)

    it("lets what is in flight finish within `drain` seconds", function()
      local redis = client()
      check.within(5, function()
        local task = redio.spawn(function()
          return redis():blpop(key "queue", 10):await()
        end)
        redio.sleep(0.02)
        local pusher = redio.spawn(function()
          redio.sleep(0.05)
          observer():rpush(key "queue", "item"):await()
        end)
        redis:close { drain = 2 }
        assert.are.same({ key "queue", "item" }, (task:await()))
        pusher:await()
      end)
    end)

    it("does so on the shared connection, too", function()
      local peer = fake.start(function(connection, words)
        redio.spawn(function()
          redio.sleep(0.05)
          connection:write(("+%s\r\n"):format(words[2]))
        end)
      end)
      local redis = redio.Redis(peer.url)
      check.within(5, function()
        local task = redio.spawn(function()
          return redis():call("CASE", "done"):await()
        end)
        redio.sleep(0.01)
        redis:close { drain = 2 }
        assert.are.equal("done", (task:await()))
      end)
      peer:stop()
    end)

    it("ends what is not done by then", function()
      local redis = client()
      check.within(5, function()
        local task = redio.spawn(function()
          redis():blpop(key "queue", 10):await()
        end)
        redio.sleep(0.02)
        local before = uv.hrtime()
        redis:close { drain = 0.1 }
        assert.is_true(uv.hrtime() - before < 1e9)
        check.raises("ConnectionForcedCloseError", task.await, task)
      end)
    end)

    it("is what Lua 5.4's to-be-closed variables call, and the collector closes too", function()
      local closing = check.lua54 [[
        return function(redio, url)
          local redis <close> = redio.Redis(url)
          redis():ping():await()
          return redis
        end
      ]]
      if closing then
        assert.is_true(closing(redio, shared.url).closed)
      end
      local name = "spec-client-collected"
      local function use_and_drop() -- in a function of its own: dead registers count as references
        redio.Redis(shared.url, { client_name = name })():ping():await()
      end
      use_and_drop()
      assert.is_true(redio.run(check.eventually, function()
        collectgarbage()
        return connections(name) == 0
      end))
    end)

    it("lets the loop and the process end", function()
      local output, status = check.script(([[
        local redio = require "redio"
        local redis = redio.Redis(%q)
        redis():ping():await()
        print(redis():echo("done"):await())
      ]]):format(shared.url))
      assert.are.same({ "done\n", 0 }, { output, status })
    end)
  end)
end)
