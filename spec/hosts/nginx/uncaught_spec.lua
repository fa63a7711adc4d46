-- SPDX-License-Identifier: MIT
-- Errors of tasks in nginx that are not awaited: reported once, within a second.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local uv = require "luv"

describe("Tasks in nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

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
      local options = { may_log = true, seconds = 30, http = nginx.ABORTS, locations = locations }
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
      assert.is_true(web:quit())
      assert.matches("redio: uncaught error: .*on purpose", web:log())
      web:stop()
    end)
  end)
end)
