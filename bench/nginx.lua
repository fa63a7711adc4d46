-- SPDX-License-Identifier: MIT
-- Measures redio and lua-resty-redis in the same nginx, in turn. `make bench-nginx` runs it.
--
-- Figures are the time of each by the clock, and the processor time of nginx, which does not depend on the speed of the
-- server or of the requests.

local redio = require "redio"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

local ROUNDS = tonumber(arg and arg[1]) or 7

local PREPARE = [[
local redis = shared("here", os.getenv "REDIS_URL")
redis():set("bench", ("v"):rep(32)):await()
ngx.say "ready"]]

-- Each program does its work `n` times and prints how many seconds that took.
local function timed(work)
  return ([[
%s
local n = tonumber(ngx.var.arg_n)
ngx.update_time()
local start = ngx.now()
for _ = 1, n do
  work()
end
ngx.update_time()
ngx.print(ngx.now() - start)]]):format(work)
end

local REDIO = [[local redis = shared("here", os.getenv "REDIS_URL") ]]
local RESTY = [[
local resty = require "nginx.redis"
local function connected()
  local red = resty:new()
  red:set_timeout(30000)
  assert(red:connect("127.0.0.1", tonumber(os.getenv("REDIS_URL"):match ":(%d+)/"), { pool_size = 64 }))
  return red
end
]]

local CASES = {
  { name = "a chain of 100 GETs", n = 1000, redio = REDIO .. [[
    local function work()
      local db = redis()
      for _ = 1, 100 do db:get "bench" end
      local list = db:replies()
      assert(#list == 100)
    end]], resty = RESTY .. [[
    local function work()
      local red = connected()
      red:init_pipeline(100)
      for _ = 1, 100 do red:get "bench" end
      local list = red:commit_pipeline()
      assert(#list == 100)
      red:set_keepalive(60000, 64)
    end]] },
  { name = "one GET, its connection from the pool", n = 10000, redio = REDIO .. [[
    local function work()
      assert(redis():get("bench"):await())
    end]], resty = RESTY .. [[
    local function work()
      local red = connected()
      assert(red:get "bench")
      red:set_keepalive(60000, 64)
    end]] },
  { name = "10 GETs of 1 KiB in a chain", n = 4000, redio = REDIO .. [[
    redis():set("bench:1k", ("v"):rep(1024)):await()
    local function work()
      local db = redis()
      for _ = 1, 10 do db:get "bench:1k" end
      assert(#db:replies() == 10)
    end]], resty = RESTY .. [[
    local function work()
      local red = connected()
      red:init_pipeline(10)
      for _ = 1, 10 do red:get "bench:1k" end
      assert(#red:commit_pipeline() == 10)
      red:set_keepalive(60000, 64)
    end]] },
}

-- One GET for each HTTP request. With `handler` each request makes a client of its own.
local REQUESTS = {
  redio = REDIO .. [[ngx.print(redis():get("bench"):await())]],
  handler = [[ngx.print(redio.Redis(os.getenv "REDIS_URL")():get("bench"):await())]],
  options = [[
    local redis = redio.Redis(os.getenv "REDIS_URL", { timeout = 5, retry = { max = 2 } })
    ngx.print(redis():get("bench"):await())]],
  resty = RESTY .. [[local red = connected() ngx.print((red:get "bench")) red:set_keepalive(60000, 64)]],
}

local function locations()
  local list = { ["/prepare"] = PREPARE }
  for i, case in ipairs(CASES) do
    list["/redio" .. i], list["/resty" .. i] = timed(case.redio), timed(case.resty)
  end
  for name, program in pairs(REQUESTS) do
    list["/" .. name] = program
  end
  return list
end

local function median(list)
  table.sort(list)
  return list[math.floor(#list / 2) + 1]
end

-- Seconds of processor time that a process has used.
local function used(pid)
  local file = assert(io.open("/proc/" .. pid .. "/schedstat"))
  local nanoseconds = file:read "*n"
  file:close()
  return nanoseconds / 1e9
end

-- Sends `count` requests over `width` kept connections. Returns the seconds that it took.
local function send(web, path, width, count)
  local left, request = count, ("GET %s HTTP/1.1\r\nHost: bench\r\n\r\n"):format(path)
  local done, ended = {}, 0
  local start = uv.hrtime()
  for _ = 1, width do
    local pipe = uv.new_pipe(false)
    local function next_one()
      if left == 0 then
        pipe:close()
        ended = ended + 1
        if ended == width then done.over = true end
        return
      end
      left = left - 1
      pipe:write(request)
    end
    pipe:connect(web.path, function(err)
      assert(not err, err)
      pipe:read_start(function(failure, bytes)
        assert(not failure and bytes, "a connection was lost")
        if bytes:find("\r\n0\r\n\r\n", 1, true) then next_one() end
      end)
      next_one()
    end)
  end
  while not done.over do
    uv.run "once"
  end
  return (uv.hrtime() - start) / 1e9
end

local function ask(web, path)
  return redio.run(function()
    local status, body = web:get(path)
    assert(status == 200, path .. ": " .. tostring(status) .. "\n" .. web:log())
    return body
  end)
end

local function compare(name, ours, theirs, unit)
  print(("%-72s redio %8.2f %s   lua-resty-redis %8.2f %s   %5.2f times as fast"):format(name, ours, unit, theirs, unit,
    theirs / ours))
end

local function in_requests(web)
  for i, case in ipairs(CASES) do
    local cpu, clock = { redio = {}, resty = {} }, { redio = {}, resty = {} }
    for _ = 1, ROUNDS do
      for _, who in ipairs { "redio", "resty" } do
        local before = used(web.pid)
        table.insert(clock[who], tonumber(ask(web, ("/%s%d?n=%d"):format(who, i, case.n))) / case.n * 1e6)
        table.insert(cpu[who], (used(web.pid) - before) / case.n * 1e6)
      end
    end
    compare(case.name .. ", clock", median(clock.redio), median(clock.resty), "us")
    compare(case.name .. ", processor", median(cpu.redio), median(cpu.resty), "us")
  end
end

local function over_http(web, width, count)
  local cpu, clock = {}, {}
  for name in pairs(REQUESTS) do
    cpu[name], clock[name] = {}, {}
  end
  for _ = 1, ROUNDS do
    for _, who in ipairs { "redio", "handler", "options", "resty" } do
      local before = used(web.pid)
      table.insert(clock[who], send(web, "/" .. who, width, count) / count * 1e6)
      table.insert(cpu[who], (used(web.pid) - before) / count * 1e6)
    end
  end
  local name = ("one GET per request, %d at once"):format(width)
  local theirs = { clock = median(clock.resty), cpu = median(cpu.resty) }
  for _, who in ipairs { "redio", "handler", "options" } do
    local how = who == "redio" and "" or " (client made there, " .. (who == "options" and "with options)" or "by URL)")
    compare(name .. how .. ", clock", median(clock[who]), theirs.clock, "us")
    compare(name .. how .. ", processor", median(cpu[who]), theirs.cpu, "us")
  end
end

local is_there, reason = nginx.available()
if not is_there then
  print("there is no nginx: " .. reason)
  os.exit(1)
end

local own = server.start()
local web = nginx.start { url = own.url, locations = locations() }
ask(web, "/prepare")
local ok, err = pcall(function()
  in_requests(web)
  over_http(web, 1, 10000)
  over_http(web, 64, 30000)
end)
web:stop()
own:stop()
if not ok then error(err, 0) end
