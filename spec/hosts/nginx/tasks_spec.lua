-- SPDX-License-Identifier: MIT
-- Tasks in nginx: what becomes of their errors, and of those whose request is aborted.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

local is_there, reason = nginx.available()

local ABORTS = "lua_check_client_abort on; init_by_lua_block { require 'redio' }"

-- (What has a finalizer, as nginx's semaphores have, goes with the second collection, and what it held with the next.)
local MEMORY = [[
  for _ = 1, 4 do collectgarbage() end
  ngx.print(collectgarbage "count")]]

describe("Tasks in nginx", function()
  if not is_there then
    return pending("there is no nginx: " .. tostring(reason))
  end

  -- Sends `count` requests, so many at once, each of which is aborted while it waits.
  local function abort_many(web, path, count)
    local sent = 0
    local function worker()
      while sent < count do
        sent = sent + 1
        web:abort(path, 0.004)
      end
    end
    local workers = {}
    for i = 1, 25 do
      workers[i] = worker
    end
    redio.gather((unpack or table.unpack)(workers))
  end

  describe("of requests that are aborted leave nothing behind:", function()
    for name, program in pairs {
      ["the request waits for a task"] = "redio.spawn(redio.sleep, 1):await()",
      ["a task waits for another"] = [[
        redio.spawn(function() redio.spawn(redio.sleep, 1):await() end):await()]],
      ["a group"] = "redio.gather(function() redio.sleep(1) end, function() redio.sleep(1) end)",
      ["a task that knows its starter"] = [[
        local me, ctx, list = coroutine.running(), ngx.ctx, {}
        list[1] = redio.spawn(function() list.me, list.ctx = me, ctx redio.sleep(1) end)
        ctx.list = list
        list[1]:await()]],
      ["within a deadline"] = [[
        redio.with_timeout(3, function()
          local task = redio.spawn(function() redio.with_timeout(2, redio.sleep, 1) end)
          task:await()
        end)]],
      ["some have ended and some have failed"] = [[
        redio.spawn(function() end)
        local failed = redio.spawn(function() error "no" end)
        pcall(failed.await, failed)
        redio.spawn(redio.sleep, 1):await()]],
      ["one is to be cancelled"] = [[
        local task = redio.spawn(function() ngx.sleep(1) end)
        redio.sleep(0.001)
        task:cancel()
        task:await()]],
    } do
      it(name, function()
        nginx.with({ http = ABORTS, locations = { ["/"] = program, ["/memory"] = MEMORY } }, function(web)
          local function memory()
            redio.sleep(1.2) -- nginx does not notice each client that hangs up: these requests end by themselves
            return tonumber((select(2, web:get "/memory")))
          end
          abort_many(web, "/", 500)
          local before = memory()
          abort_many(web, "/", 2500)
          local after = memory()
          -- (of each request 1 to 4 KiB stayed)
          assert.is_true(after < before + 1200, ("%.0f -> %.0f KiB"):format(before, after))
        end)
      end)
    end
  end)

  describe("and light threads of the program's own that are ended by it:", function()
    local function says(program, expected)
      nginx.with({ may_log = true, seconds = 30, locations = { ["/"] = [[
        local redis = shared("here", os.getenv "REDIS_URL")
        local said = {}
        local function say(...)
          for i = 1, select("#", ...) do said[#said + 1] = tostring((select(i, ...))) end
        end
        local function kinds(ok, err) return ok and err or type(err) == "table" and err.kind or err end
        ]] .. program .. [[ ngx.print(table.concat(said, " "))]] } }, function(web)
        assert.same(expected, select(2, web:get "/"))
      end)
    end

    local START = [[
      local receiver = redis:pubsub("spec:killed"):connect()
      local threads = {}
      local function listen(name)
        threads[name] = ngx.thread.spawn(function() say(name, kinds(pcall(receiver.await, receiver))) end)
      end
      listen "reader" listen "one" listen "two"
      redio.sleep(0.02) ]]

    it("the one that read for all: the others are told", function()
      says(START .. [[
        ngx.thread.kill(threads.reader)
        ngx.thread.wait(threads.one)
        ngx.thread.wait(threads.two)]], "one ConnectionClosedError two ConnectionClosedError")
    end)

    it("the one that read for all: a receiver that survives connects again", function()
      says([[
        local gaps = 0
        local receiver = redis:pubsub("spec:killed"):resubscribe(function() gaps = gaps + 1 end):connect()
        local function listen() return receiver:await() end
        local reader = ngx.thread.spawn(listen)
        local other = ngx.thread.spawn(listen)
        redio.sleep(0.02)
        ngx.thread.kill(reader)
        for _ = 1, 500 do
          if redis():publish("spec:killed", "again"):await() == 1 then break end
          redio.sleep(0.01)
        end
        say(select(2, ngx.thread.wait(other)), gaps)]], "again 1")
    end)

    it("one that did not read: the others get what comes", function()
      says(START .. [[
        ngx.thread.kill(threads.one)
        redis():publish("spec:killed", "a"):publish("spec:killed", "b"):await()
        ngx.thread.wait(threads.reader)
        ngx.thread.wait(threads.two)]], "reader a two b")
    end)
  end)

  describe("that fail and are not awaited are reported", function()
    -- The reports in nginx's log, each with what stands in the lines behind it.
    local function reports(web)
      local list = {}
      for text in (web:log() .. "\n20"):gmatch "(redio: uncaught error: .-)\n%f[%d]20" do
        list[#list + 1] = text
      end
      return list
    end

    local function wait_for_reports(web, count)
      check.eventually(function() return #reports(web) >= count end)
      redio.sleep(0.6) -- each once
      local list = reports(web)
      assert.same(count, #list)
      return list
    end

    local function with_reports(locations, fn, more)
      local options = { may_log = true, seconds = 30, http = ABORTS, locations = locations }
      for name, value in pairs(more or {}) do
        options[name] = value
      end
      nginx.with(options, fn)
    end

    it("once, within a second, with their tracebacks, in nginx's log", function()
      with_reports({ ["/"] = [[
        local function fails() error "on purpose" end
        redio.spawn(function() fails() end)
        redio.spawn(function() redis = redio.Redis(os.getenv "REDIS_URL") redis():call("NOSUCH"):await() end)
        ngx.print "answered"]] }, function(web)
        assert.same("answered", select(2, web:get "/"))
        local start = uv.hrtime()
        local list = wait_for_reports(web, 2)
        assert.is_true((uv.hrtime() - start) / 1e9 < 2.5)
        table.sort(list)
        assert.matches("%.lua:1: on purpose\n.*stack traceback:\n.*in function 'fails'", list[1])
        assert.matches("ReplyError: ERR unknown command 'NOSUCH'.*\nstack traceback:\n", list[2])
      end)
    end)

    it("also when the request is aborted before", function()
      with_reports({ ["/"] = [[
        redio.spawn(function() error "on purpose" end)
        redio.sleep(100)]] }, function(web)
        web:abort("/", 0.05)
        assert.matches("on purpose", wait_for_reports(web, 1)[1])
      end)
    end)

    it("not when they are awaited in time, or were cancelled", function()
      with_reports({ ["/"] = [[
        local task = redio.spawn(function() error "on purpose" end)
        redio.sleep(0.3)
        pcall(task.await, task)
        task = redio.spawn(redio.sleep, 10)
        redio.sleep(0.001)
        task:cancel()
        task = redio.spawn(redio.sleep, 10)
        redio.sleep(0.001)
        task:cancel "for this reason"
        pcall(redio.gather, function() error "on purpose" end, function() redio.sleep(10) end)
        redio.sleep(0.01)
        ngx.print(task:status())]] }, function(web)
        assert.same("cancelled", select(2, web:get "/"))
        redio.sleep(1.2)
        assert.same({}, reports(web))
      end)
    end)

    it("also when the one that awaits them is cancelled at the same time", function()
      with_reports({ ["/"] = [[
        local task, waiter = require "redio.task", {}
        local fails = redio.spawn(function()
          task.wait(waiter)
          error "on purpose"
        end)
        local joiner = redio.spawn(fails.await, fails)
        redio.sleep(0.001)
        task.wake(waiter)
        joiner:cancel()
        redio.sleep(0.01)
        ngx.print(joiner:status(), " ", fails:status())]] }, function(web)
        assert.same("cancelled failed", select(2, web:get "/"))
        assert.matches("on purpose", wait_for_reports(web, 1)[1])
      end)
    end)

    it("once, also when they are awaited later", function()
      with_reports({ ["/"] = [[
        local task = redio.spawn(function() error "on purpose" end)
        redio.sleep(1.2)
        ngx.print(tostring(select(2, pcall(task.await, task))))]] }, function(web)
        assert.matches("on purpose\nstack traceback:", select(2, web:get "/"))
        wait_for_reports(web, 1)
      end)
    end)

    it("to redio.on_uncaught, which may wait; what fails there is logged", function()
      with_reports({ ["/"] = [[
        redio.spawn(function() error "on purpose" end)
        redio.spawn(function() error "fail there" end) ]], ["/told"] = [[
        ngx.print(shared("here", os.getenv "REDIS_URL")():get("spec:told"):del("spec:told"):await())]] }, function(web)
        web:get "/"
        local list = wait_for_reports(web, 2)
        assert.matches("fail there", list[1])
        assert.matches("as well", list[2])
        assert.matches("on purpose|stack traceback:.*|function", (select(2, web:get "/told")))
      end, { http = [[init_by_lua_block {
        local redio = require "redio"
        local former
        former = redio.on_uncaught(function(err, traceback)
          if err:find "fail there" then error "as well" end
          local redis = redio.Redis(os.getenv "REDIS_URL")
          redis():set("spec:told", err .. "|" .. traceback .. "|" .. type(former)):await()
        end)
      }]] })
    end)

    it("where the shared connection has the only timer", function()
      with_reports({ ["/"] = 'shared("here", os.getenv "REDIS_URL")():get("x"):await()', ["/fails"] = [[
        redio.spawn(function() error "on purpose" end)]] }, function(web)
        for _ = 1, 3 do
          local tasks = {}
          for i = 1, 20 do
            tasks[i] = redio.spawn(web.get, web, "/")
          end
          for i = 1, 20 do
            tasks[i]:await()
          end
        end
        web:get "/fails"
        assert.matches("on purpose", wait_for_reports(web, 1)[1])
        assert.matches("lua_max_running_timers are not enough", web:log())
      end, { http = "lua_max_running_timers 1; init_by_lua_block { require 'redio' }" })
    end)

    it("before the worker ends", function()
      local web = nginx.start { locations = { ["/"] = 'redio.spawn(function() error "on purpose" end)' } }
      check.within(30, function() web:get "/" end)
      uv.kill(web.pid, "sigquit")
      assert.is_true(server.wait_until(function()
        return uv.fs_stat(web.dir .. "/exited") ~= nil
      end, 4))
      assert.matches("redio: uncaught error: .*on purpose", web:log())
      web:stop()
    end)
  end)

  describe("and deadlines:", function()
    it("a cancel is raised although a deadline passes meanwhile, where the task waits for something else", function()
      nginx.with({ locations = { ["/"] = [[
        local said = {}
        local task = redio.spawn(function()
          local ok, err = pcall(redio.with_timeout, 0.02, function()
            ngx.sleep(0.05)
            redio.sleep(1)
          end)
          said[1] = err.kind
          said[2] = select(2, pcall(redio.sleep, 0)) and "again" or "once"
        end)
        redio.sleep(0.01)
        said[3] = tostring(task:cancel())
        redio.sleep(0.1)
        local other = redio.spawn(function()
          local ok, err = pcall(redio.with_timeout, 0.02, function() ngx.sleep(0.05) end)
          said[4] = ok and "in time" or err.kind
          said[5] = select(2, pcall(redio.sleep, 1)).kind
        end)
        redio.sleep(0.01)
        other:cancel()
        pcall(task.await, task)
        pcall(other.await, other)
        ngx.print(table.concat(said, " "))]] } }, function(web)
        assert.same("CancelledError once true in time CancelledError", select(2, web:get "/"))
      end)
    end)
  end)

  describe("take time that grows with their number, not faster:", function()
    -- How long a program takes with 2,000 and with 20,000.
    local function check_linear(program)
      nginx.with({ locations = { ["/"] = [[
        local n = tonumber(ngx.var.arg_n)
        ngx.update_time()
        local start = ngx.now()
        ]] .. program .. [[
        ngx.update_time()
        ngx.print(ngx.now() - start)]] } }, function(web)
        local function seconds(n)
          local least = math.huge
          for _ = 1, 3 do
            least = math.min(least, tonumber((select(2, web:get("/?n=" .. n)))))
          end
          return least
        end
        seconds(2000)
        local few, many = seconds(2000), seconds(20000)
        -- (ten, if there were no other program; it was more than a hundred)
        assert.is_true(many < 50 * math.max(few, 0.01), ("%.3f and %.3f s"):format(few, many))
      end)
    end

    it("starting and awaiting", function()
      check_linear [[
        local tasks = {}
        for i = 1, n do tasks[i] = redio.spawn(function() return i end) end
        for i = 1, n do assert(tasks[i]:await() == i) end]]
    end)

    it("waiting for room on the shared connection, also where some give up or are aborted", function()
      local SHARED = [[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_queued_bytes = 4000, max_connections = 8 })
        local value, n, right, late = ("x"):rep(1000), tonumber(ngx.var.arg_n), 0, 0
        local start = ngx.now()
        local tasks = {}
        for i = 1, n do
          tasks[i] = redio.spawn(function()
            local db = redis()
            if i % 10 == 0 then db:timeout(0.001) end
            return db:echo(value .. i):await()
          end)
        end
        for i = 1, n do
          local ok, said = pcall(tasks[i].await, tasks[i])
          if ok and said == value .. i then right = right + 1 end
          if not ok and said.kind == "TimeoutError" and i % 10 == 0 then late = late + 1 end
        end
        ngx.update_time()
        ngx.print(tostring(right + late == n and right >= n * 0.9), " ", ngx.now() - start)]]
      local http = "lua_socket_log_errors off; " .. ABORTS
      nginx.with({ http = http, seconds = 100, locations = { ["/"] = SHARED } }, function(web)
        for _ = 1, 2 do
          redio.gather(function() web:get "/?n=50" end, function() web:get "/?n=50" end)
        end
        local function seconds(n)
          local all_right, took = select(2, web:get("/?n=" .. n)):match "^(%S+) (%S+)$"
          assert.same("true", all_right)
          return tonumber(took)
        end
        local few = seconds(500)
        web:abort("/?n=500", 0.01)
        local many = seconds(5000)
        assert.is_true(many < 40 * math.max(few, 0.02), ("%.3f and %.3f s"):format(few, many))
      end)
    end)

    it("waiting for a place in a pool", function()
      check_linear [[
        local redis = redio.Redis(os.getenv "REDIS_URL", { max_connections = 4, multiplex = false, pool_timeout = 100 })
        local tasks = {}
        for i = 1, n do tasks[i] = redio.spawn(function() return redis():echo(i):await() end) end
        for i = 1, n do assert(tasks[i]:await() == tostring(i)) end]]
    end)

    it("joining one, and being cancelled there", function()
      check_linear [[
        local one = redio.spawn(redio.sleep, 100)
        local tasks = {}
        for i = 1, n do tasks[i] = redio.spawn(function() one:await() end) end
        redio.sleep(0.01)
        for i = n, 1, -1 do tasks[i]:cancel() end
        for i = 1, n do pcall(tasks[i].await, tasks[i]) end
        one:cancel()]]
    end)
  end)
end)
