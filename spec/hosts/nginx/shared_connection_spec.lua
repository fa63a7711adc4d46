-- SPDX-License-Identifier: MIT
-- The shared connection in nginx, which requests that work at the same time use together.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  describe("requests that work at once share a connection:", function()
    local SHARED = 'local redis = shared("all", os.getenv "REDIS_URL", { timeout = 0.3 }) '

    -- Runs `fn(web, own)` beside a server of its own. At the end each reply must still reach its request.
    local function beside(locations, fn)
      local own = server.start()
      locations["/after"] = nginx.AFTER
      locations["/connections"] = SHARED .. "ngx.print((redis():client_list():await():gsub('[^\\n]*\\n', 'c')))"
      nginx.with({ url = own.url, may_log = true, http = nginx.ABORTS, locations = locations }, function(web)
        web:get "/connections" -- makes the client, which other requests use, too
        fn(web, own)
        assert.same(nginx.CLEAN, select(2, web:get "/after"))
      end)
      own:stop()
    end

    local function connections_received(own)
      return tonumber(own:cli("info", "stats"):match "total_connections_received:(%d+)")
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
      beside({ ["/"] = ECHO }, function(web, own)
        for _ = 1, 5 do
          for _, wrong in ipairs(web:get_all(50, "/?id=%")) do
            assert.same("0", wrong)
          end
        end
        local _, count = own:cli("client", "list"):gsub("\n", "\n")
        assert.is_true(count < 60, tostring(count))
        local before = connections_received(own)
        web:get_all(50, "/?id=%")
        assert.same(before + 1, connections_received(own))
      end)
    end)

    it("those that are aborted get no reply of another's, and give none away", function()
      beside({ ["/"] = ECHO, ["/slow"] = SHARED .. [[
        local over = ngx.now() + 2
        while ngx.now() < over do
          redis():eval("for i = 1, 20000 do end return ARGV[1]", {}, { "slow" }):await()
        end]] }, function(web)
        for _ = 1, 5 do
          local aborts = {}
          for i = 1, 30 do
            aborts[i] = redio.spawn(web.abort, web, "/slow", 0.01 + i * 0.002)
          end
          for _, wrong in ipairs(web:get_all(30, "/?id=%")) do
            assert.same("0", wrong)
          end
          for i = 1, 30 do
            aborts[i]:await()
          end
        end
      end)
    end)

    it("a request that runs out of time leaves its place, and the connection goes on", function()
      beside({ ["/"] = ECHO, ["/hurry"] = SHARED .. [[
        local ok, err = pcall(function() return redis():timeout(0.05):echo("hurry"):await() end)
        ngx.print(ok and "in time" or err.kind .. " " .. err.sent)]] }, function(web, own)
        web:get_all(40, "/?id=%")
        local before = connections_received(own)
        own:pause()
        for _, said in ipairs(web:get_all(30, "/hurry")) do
          assert.same("TimeoutError maybe", said)
        end
        own:resume()
        for _, wrong in ipairs(web:get_all(40, "/?id=%")) do
          assert.same("0", wrong)
        end
        assert.same(before + 1, connections_received(own))
      end)
    end)

    it("an overdue reply ends it, and is told to all requests", function()
      beside({ ["/"] = ECHO, ["/one"] = SHARED .. [[
        ngx.update_time()
        local start = ngx.now()
        local ok, err = pcall(function() return redis():incr("n"):await() end)
        ngx.update_time()
        ngx.print(ok and "in time" or err.kind .. " " .. err.sent .. " " .. tostring(ngx.now() - start < 0.45))]] },
        function(web, own)
        web:get_all(40, "/?id=%")
        own:pause()
        local answers = web:get_all(30, "/one")
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
        ngx.print(ok, " ", unsure)]] }, function(web, own)
        web:get_all(40, "/?id=%")
        local killer = redio.spawn(function()
          for _ = 1, 5 do
            redio.sleep(0.02)
            own:cli("client", "kill", "type", "normal")
          end
        end)
        local ok, unsure = 0, 0
        for _, said in ipairs(web:get_all(30, "/one")) do
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
        function(web)
        web:get_all(40, "/?id=%")
        for _, said in ipairs(web:get_all(20, "/one")) do
          assert.same("aReplyErrorbfalseReplyError1falseCancelledErrorCancelledError", said)
        end
      end)
    end)

    it("it does not keep a worker that is to end", function()
      local own = server.start()
      local web = nginx.start { url = own.url, locations = { ["/"] = ECHO } }
      redio.run(web.get_all, web, 40, "/?id=%")
      assert.is_true(web:quit())
      web:stop()
      own:stop()
    end)
  end)
end)
