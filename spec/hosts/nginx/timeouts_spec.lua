-- SPDX-License-Identifier: MIT
-- Timeouts in nginx: of one await, of several, and by options. Each is raised in time and leaves its connection clean.

local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  describe("time runs out", function()
    -- Runs a program. Returns its error and its seconds, and checks that no client is left blocked.
    local function raises(program, options)
      local own = server.start()
      local said
      nginx.with({ url = own.url, may_log = true, locations = { ["/"] = [[
        local redis = shared("here", os.getenv "REDIS_URL", ]] .. (options or "{}") .. [[)
        ngx.update_time()
        local start = ngx.now()
        local ok, err = pcall(function() ]] .. program .. [[ end)
        ngx.update_time()
        local took = ngx.now() - start
        ngx.print(ok and "nothing was raised" or (type(err) == "table" and ("%s %s %s"):format(err.kind, err.sent,
          err.message) or tostring(err)), ("|%.3f"):format(took))]], ["/after"] = nginx.AFTER } }, function(web)
        local _, body = web:get "/"
        said = { body:match "^(.*)|(.*)$" }
        assert.same(nginx.CLEAN, select(2, web:get "/after"))
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
end)
