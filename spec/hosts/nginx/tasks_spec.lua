-- SPDX-License-Identifier: MIT
-- Tasks in nginx are cancelled wherever they wait. The end of their request, or of a light thread, leaves nothing of
-- them.

local redio = require "redio"
local nginx = require "spec.support.nginx"

-- (The second collection frees an object with a finalizer, such as nginx's semaphores, and the next one its
-- references.)
local MEMORY = [[
  for _ = 1, 4 do collectgarbage() end
  ngx.print(collectgarbage "count")]]

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  describe("a task", function()
    local function says(program, expected)
      nginx.with({ locations = { ["/"] = [[
        local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
        local said = {}
        local function say(...)
          for i = 1, select("#", ...) do said[#said + 1] = tostring((select(i, ...))) end
        end
        ]] .. program .. [[ ngx.say(table.concat(said, " "))]], ["/after"] = nginx.AFTER } }, function(web)
        assert.same(expected .. "\n", select(2, web:get "/"))
        assert.same(nginx.CLEAN, select(2, web:get "/after"))
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

  it("a cancel is raised although a deadline passes while the task waits for something else", function()
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

  describe("tasks of requests that are aborted leave nothing behind:", function()
    for name, program in pairs {
      ["the request waits for a task"] = "redio.spawn(redio.sleep, 0.3):await()",
      ["a task waits for another"] = [[
        redio.spawn(function() redio.spawn(redio.sleep, 0.3):await() end):await()]],
      ["a group"] = "redio.gather(function() redio.sleep(0.3) end, function() redio.sleep(0.3) end)",
      ["a task that knows its starter"] = [[
        local me, ctx, list = coroutine.running(), ngx.ctx, {}
        list[1] = redio.spawn(function() list.me, list.ctx = me, ctx redio.sleep(0.3) end)
        ctx.list = list
        list[1]:await()]],
      ["within a deadline"] = [[
        redio.with_timeout(3, function()
          local task = redio.spawn(function() redio.with_timeout(2, redio.sleep, 0.3) end)
          task:await()
        end)]],
      ["some have ended and some have failed"] = [[
        redio.spawn(function() end)
        local failed = redio.spawn(function() error "no" end)
        pcall(failed.await, failed)
        redio.spawn(redio.sleep, 0.3):await()]],
      ["one is to be cancelled"] = [[
        local task = redio.spawn(function() ngx.sleep(0.3) end)
        redio.sleep(0.001)
        task:cancel()
        task:await()]],
    } do
      it(name, function()
        nginx.with({ http = nginx.ABORTS, locations = { ["/"] = program, ["/memory"] = MEMORY } }, function(web)
          -- nginx does not notice each client that hangs up: these requests end by themselves, on a busy machine late.
          local function memory(most)
            local least = math.huge
            for _ = 1, 10 do
              redio.sleep(0.4)
              least = math.min(least, tonumber((select(2, web:get "/memory"))))
              if least < most then break end
            end
            return least
          end
          abort_many(web, "/", 500)
          local before = memory(math.huge)
          abort_many(web, "/", 2500)
          local most = before + 1200 -- (of each request 1 to 4 KiB stayed)
          local after = memory(most)
          assert.is_true(after < most, ("%.0f -> %.0f KiB"):format(before, after))
        end)
      end)
    end
  end)

  describe("light threads of the program's own that it ends:", function()
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
end)
