-- SPDX-License-Identifier: MIT
-- Waits in nginx: a waiting coroutine is kept whatever the collector does (promise 27), and has one owner (promise 28).

local redio = require "redio"
local check = require "spec.support.check"
local fakes = require "spec.support.fake"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("What waits in nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  local own, observer

  before_each(function()
    own = server.start()
    observer = redio.Redis(own.url)
  end)

  after_each(function()
    observer:close()
    own:stop()
  end)

  describe("is not collected, although only its wait holds it:", function()
    -- A timer that collects all the time.
    local HTTP = [[
      init_by_lua_block { require 'redio' }
      lua_socket_log_errors off;
      init_worker_by_lua_block {
        ngx.timer.every(0.003, function() collectgarbage() collectgarbage() end)
      }]]

    -- Runs the program, of which nothing refers to what it waits for but the wait, and `act` in the midst of it.
    local function waits(program, expected, act, count)
      nginx.with({ url = own.url, seconds = 60, http = HTTP, locations = { ["/"] = [[
        local function new() return redio.Redis(os.getenv "REDIS_URL") end
        ngx.print((function() ]] .. program .. [[ end)())]] } }, function(web)
        local tasks = {}
        for i = 1, count or 1 do
          tasks[i] = redio.spawn(function() return select(2, web:get "/") end)
        end
        redio.sleep(0.06)
        if act then act(tasks) end
        for i = 1, count or 1 do
          assert.same(expected, tasks[i]:await())
        end
      end)
    end

    local function publish(message)
      return function()
        check.eventually(function() return observer():publish("spec:wait", message):await() == 1 end)
      end
    end

    local function push()
      check.eventually(function() return own:cli("client", "list"):find " flags=b" end)
      observer():rpush("spec:list", "item"):await()
    end

    it("a command on a connection of its own", function()
      waits([[return new()():blpop("spec:list", 10):await()[2] ]], "item", push)
    end)

    it("one in a chain, in a pinned handle, and in a coroutine of the program's", function()
      waits([[
        local result
        coroutine.wrap(function() result = { new():connection():echo("x"):blpop("spec:list", 10):await() } end)()
        return result[1] .. result[2][2] ]], "xitem", push)
    end)

    it("a reply of the shared connection", function()
      waits([[
        local redis = new()
        for i = 1, 100 do
          local said = redis():echo("x" .. i):await()
          if said ~= "x" .. i then return said end
          if i % 10 == 0 then ngx.sleep(0.005) end
        end
        return "all"]], "all", function()
        own:pause()
        redio.sleep(0.1)
        own:resume()
      end, 12)
    end)

    it("a receiver, also as an iterator", function()
      waits([[return new():pubsub("spec:wait"):await()]], "message", publish "message")
      waits([[for message in new():pubsub("spec:wait"):messages() do return message end]], "message",
        publish "message")
      waits([[for channel, message in new():pubsub():psubscribe("spec:w*"):with_channel() do
        return channel .. message end]], "spec:waitmessage", publish "message")
    end)

    it("a view of one channel, and one that only looks", function()
      waits([[return (new():pubsub("spec:wait"):channel("spec:wait"):get())]], "message", publish "message")
      waits([[return tostring(new():pubsub("spec:wait"):channel("spec:wait"):wait_message())]], "true",
        publish "message")
    end)

    it("a receiver that several wait for", function()
      waits([[
        local receiver = new():pubsub("spec:wait"):connect()
        local function take() return receiver:await() end
        local a, b, c = redio.gather(take, take, take)
        return #(a .. b .. c)]], "3", function()
        check.eventually(function() return observer():publish("spec:wait", "a"):await() == 1 end)
        observer():publish("spec:wait", "b"):publish("spec:wait", "c"):await()
      end)
    end)

    it("a receiver that connects again", function()
      waits([[return new():pubsub("spec:wait"):resubscribe():await()]], "message", function()
        own:cli("client", "kill", "type", "pubsub")
        publish "message" ()
      end)
    end)

    it("a monitor", function()
      waits([[
        for line in new():monitor() do
          if line.command:find "seen" then return "seen" end
        end]], "seen", function()
        for _ = 1, 20 do
          observer():echo("seen"):await()
          redio.sleep(0.01)
        end
      end)
    end)

    it("a time, a task, a group and a deadline", function()
      waits("redio.sleep(0.1) return 'slept'", "slept")
      waits("return redio.spawn(function() redio.sleep(0.1) return 'done' end):await()", "done")
      waits([[
        redio.gather(function() redio.sleep(0.1) end, function() redio.sleep(0.05) end)
        return (redio.gather(function() ngx.sleep(0.1) return "both" end, function() end))]], "both")
      waits([[
        local ok, err = pcall(redio.with_timeout, 0.1, function()
          redio.spawn(redio.sleep, 0.3):await()
        end)
        return err.kind]], "TimeoutError")
      waits([[
        local ok, err = pcall(redio.with_timeout, 0.1, function() new()():blpop("nothing", 10):await() end)
        return err.kind]], "TimeoutError")
    end)

    it("a lock, a transaction and an iteration", function()
      observer():set("spec:lock", "taken", { px = 150 }):await()
      waits([[return tostring(new():lock("spec:lock"):acquire())]], "true")
      waits([[
        return new():transaction("spec:n", function(db)
          db:get("spec:n"):await()
          redio.sleep(0.05)
          db:multi():incr("spec:n")
        end)[1] ]], "1")
      waits([[
        local seen = 0
        for _ in new():scan { count = 1 } do
          seen = seen + 1
          ngx.sleep(0.005)
        end
        return seen > 0 and "some"]], "some")
    end)

    it("a place in the pool", function()
      waits([[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = 1, multiplex = false })
        return redis():blpop("nothing", 0.05):echo("x"):await() or "nothing"]], "nothing", nil, 8)
    end)

    it("a connection that is being made, and what it waits with afterwards", function()
      local fake = fakes.start(function(conn, words)
        redio.spawn(function()
          redio.sleep(0.08)
          conn:write(words[1] == "HELLO" and "%1\r\n$5\r\nproto\r\n:3\r\n" or "$1\r\nv\r\n")
        end)
      end, { protocol = false })
      waits(([[return redio.Redis("redis://127.0.0.1:%d", { on_connect = function(db) db:get("x"):await() end }
        )():get("k"):await()]]):format(fake.port), "v")
      fake:stop()
    end)
  end)

  describe("has one owner:", function()
    local function says(program, expected)
      nginx.with({ url = own.url, seconds = 30, locations = { ["/"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL")
        local said = {}
        local function say(...)
          for i = 1, select("#", ...) do said[#said + 1] = tostring((select(i, ...))) end
        end
        local function refused(fn, ...)
          local ok, err = pcall(fn, ...)
          return not ok and (tostring(err):match "another coroutine [%a ]+ this handle" or err) or "allowed"
        end
        ]] .. program .. [[ ngx.print(table.concat(said, "; "))]] } }, function(web)
        assert.same(expected, select(2, web:get "/"))
      end)
    end

    local WAITS, QUEUED = "another coroutine waits for the results of this handle",
      "another coroutine has queued commands on this handle"

    it("a handle with a chain that waits for its reply", function()
      says([[
        local db = redis()
        local first = ngx.thread.spawn(function() return db:blpop("spec:list", 5):await() end)
        redio.sleep(0.02)
        local second = ngx.thread.spawn(function()
          say(refused(db.get, db, "x"))
          say(refused(db.await, db))
          say(refused(db.replies, db))
        end)
        ngx.thread.wait(second)
        redis():rpush("spec:list", "item"):await()
        local _, popped = ngx.thread.wait(first)
        say(popped[2], db:echo("mine again"):await())]],
        table.concat({ WAITS, WAITS, WAITS, "item", "mine again" }, "; "))
    end)

    it("a handle on which another has queued, of the shared connection and of its own", function()
      says([[
        for _, db in ipairs { redis(), redis:connection() } do
          db:echo("first")
          redio.spawn(function()
            say(refused(db.echo, db, "second"))
            say(refused(db.await, db))
          end):await()
          say(db:await())
          redio.spawn(function() say(db:echo("by turns"):await()) end):await()
        end]], (QUEUED .. "; " .. QUEUED .. "; first; by turns; "):rep(2):sub(1, -3))
    end)

    it("each message, of those that wait on one receiver", function()
      says([[
        local receiver = redis:pubsub("spec:one"):connect()
        local tasks = {}
        for i = 1, 5 do
          tasks[i] = redio.spawn(function() return receiver:await() end)
          redio.sleep(0.002)
        end
        local db = redis()
        for i = 1, 5 do db:publish("spec:one", i) end
        db:await()
        for i = 1, 5 do say(tasks[i]:await()) end]], "1; 2; 3; 4; 5")
    end)
  end)

  it("is its request's: in another one, which runs at the same time, it raises", function()
    nginx.with({ url = own.url, seconds = 30, may_log = true, locations = { ["/hold"] = [[
      local redis = redio.Redis(os.getenv "REDIS_URL")
      held, listened = redis:connection(), redis:pubsub("spec:held"):connect()
      held:set("x", 1):await()
      redio.sleep(0.4)
      held, listened = nil, nil]], ["/look"] = [[
      local ok, err = pcall(function() return held:get("x"):await() end)
      local ok2, err2 = pcall(function() return listened:await() end)
      local ok3, err3 = pcall(function() return redio.Redis(os.getenv "REDIS_URL")():get("x"):await() end)
      ngx.print(err.kind, " ", tostring(err.message:match "belongs to another request"), ", ", err2.kind, " ",
        tostring(err2.message:match "belongs to another request"), ", ", err3)]] }, }, function(web)
      local holding = redio.spawn(web.get, web, "/hold")
      redio.sleep(0.2)
      assert.same("ConnectionError belongs to another request, ConnectionError belongs to another request, 1",
        select(2, web:get "/look"))
      holding:await()
    end)
  end)
end)
