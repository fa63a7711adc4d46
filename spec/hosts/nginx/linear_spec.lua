-- SPDX-License-Identifier: MIT
-- Tasks in nginx by the ten thousand take a time that grows with their number, and not with its square.

local redio = require "redio"
local nginx = require "spec.support.nginx"

describe("Tasks in nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

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
          return tonumber((select(2, web:get("/?n=" .. n))))
        end
        seconds(2000)
        local few, many = math.huge, nil
        for _ = 1, 3 do
          few = math.min(few, seconds(2000))
        end
        few = math.max(few, 0.01)
        for _ = 1, 3 do -- (other programs may slow one of them)
          many = seconds(20000)
          if many < 50 * few then return end -- ten times as long, if it were alone; it was more than a hundred
        end
        error(("%.3f and %.3f s"):format(few, many))
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
      local http = "lua_socket_log_errors off; " .. nginx.ABORTS
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
