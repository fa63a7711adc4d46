-- SPDX-License-Identifier: MIT
-- The seeded random driver of promises/chaos_spec.lua and `make chaos`. Coroutines do work of every kind, through the
-- fault proxy, against a server that is killed, paused and restarted. Each request carries a mark of its own, and its
-- reply must be made of it. Each request ends exactly once. At the end nothing is in use and nothing is left. All of it
-- runs over TLS on request.
--
-- Every choice depends on the seed alone: each worker, each request and the maker of faults have generators of their
-- own. The times depend on the machine.

local redio = require "redio"
local uv = require "luv"
local certificates = require "spec.support.certificates"
local faults = require "spec.support.chaos_faults"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"
local tls_peer = require "spec.support.tls_peer"
local loop_turns = require "spec.support.loop_turns"
local work = require "spec.support.chaos_work"

local M = {}

local WORKERS = 50
local LONGEST = 20 -- seconds; whatever has not ended by then, with the server well, never will

-- Options of all clients: times short enough for a run of some seconds.
local COMMON = {
  timeout = 1, connect_timeout = 1, pool_timeout = 1, health_check_interval = 0.3, max_connections = 16,
  retry = { max = 3, base = 0.01, cap = 0.1 },
}
local KINDS = {
  { protocol = 3 },
  { protocol = 2 },
  { protocol = 3, multiplex = false },
  { protocol = 2, decode = "str", retry = false },
  { protocol = 3, max_queued_bytes = 20000, max_connections = 4, pool_timeout = 0.2 },
}

--- random() in [0, 1), random(n) from 1 to n; the same for the same seed on every Lua.
local function generator(seed)
  local x = seed % 2147483646 + 1
  local function random(n)
    x = x * 16807 % 2147483647
    return n and x % n + 1 or (x - 1) / 2147483646
  end
  for _ = 1, 5 do
    random() -- small seeds begin alike
  end
  return random
end

local function client_of(world, i)
  local options = { tls = world.tls }
  for _, part in ipairs { COMMON, KINDS[i] } do
    for name, value in pairs(part) do
      options[name] = value
    end
  end
  local client = redio.Redis(world.url, options)
  world.tracked[client] = true
  return client
end

-- One request -------------------------------------------------------------------------------------

local function count(list, name)
  list[name] = (list[name] or 0) + 1
end

local function complain(report, text)
  report.wrong = report.wrong + 1
  if #report.complaints < 20 then
    table.insert(report.complaints, text)
  end
end

local EXPECTED = { "ConnectionError", "PoolClosedError", "LoadingError" }

-- True for an error that this world may cause.
local function is_expected(world, job, err)
  for _, kind in ipairs(EXPECTED) do
    if redio.errors.is(err, kind) then
      return true
    end
  end
  if redio.errors.is(err, "ProtocolError") then
    -- over TLS no garbage gets as far as the decoder
    return not world.tls and uv.now() - (world.garbage_at or -1e9) < 5000
  end
  return redio.errors.is(err, "CancelledError") and job.cancelled
end

local function difference(got, expected)
  if type(got) ~= "table" then
    return ("got %s"):format(tostring(got))
  end
  for i = 1, math.max(#got, #expected) do
    if got[i] ~= expected[i] then
      return ("result %d is %.60s, not %.60s"):format(i, tostring(got[i]), tostring(expected[i]))
    end
  end
end

local function settle(world, job, ok, got, expected)
  local report, how = world.report, "ok"
  job.ended = job.ended + 1
  report.ended = report.ended + 1
  if not ok then
    how = redio.errors.is(got) and got.kind or "a Lua error"
    if not is_expected(world, job, got) then
      complain(report, ("%s %s: %s"):format(job.name, job.mark, tostring(got)))
    end
  else
    local why = difference(got, expected)
    if why then
      how = "MISMATCH"
      report.mismatches = report.mismatches + 1
      complain(report, ("%s %s: %s"):format(job.name, job.mark, why))
    end
  end
  report.work[job.name] = report.work[job.name] or {}
  count(report.work[job.name], how)
  for _, thing in ipairs(job.dropped and {} or job.open) do
    thing:close()
  end
  job.open = {}
end

-- Runs in a task that never ends, so that a second resume is noticed.
local function perform(world, job)
  job.begun = true
  settle(world, job, pcall(job.run, job))
  loop_turns.next(job.done)
  while true do
    coroutine.yield()
    world.report.twice = world.report.twice + 1
    complain(world.report, ("%s %s ended twice"):format(job.name, job.mark))
  end
end

local function cancel_later(world, job, task, seconds)
  local timer = uv.new_timer()
  timer:start(math.floor(seconds * 1000), 0, function()
    timer:close()
    if job.ended > 0 then
      return
    end
    job.cancelled = true
    world.report.cancelled = world.report.cancelled + 1
    task:cancel()
    if not job.begun then -- it never will
      settle(world, job, false, redio.errors.new("CancelledError", "before it began"))
      loop_turns.next(job.done)
    end
  end)
end

local function start(world, job, random)
  local how, moment = random(10), random()
  world.report.begun = world.report.begun + 1
  world.jobs[job] = true
  job.dropped = random() < 0.1
  local run = job.run
  if how == 1 then
    world.report.deadlines = world.report.deadlines + 1
    job.timeout = 0.001 + moment * 0.1
  elseif how == 2 then
    world.report.deadlines = world.report.deadlines + 1
    job.run = function()
      return redio.with_timeout(0.001 + moment * 0.1, run, job)
    end
  end
  local task = redio.spawn(perform, world, job)
  if how <= 5 and how >= 3 then
    cancel_later(world, job, task, moment < 0.2 and 0 or moment * 0.05)
  end
end

local function worker(world, id)
  local random, co, n = generator(world.seed * 1009 + id), coroutine.running(), 0
  while not world.stopping do
    n = n + 1
    local job = work.new(random, ("%d.%d."):format(id, n), generator(world.seed * 31 + id * 100003 + n))
    job.redis = world.clients[random(#KINDS)]
    function job.done()
      world.jobs[job] = nil
      coroutine.resume(co)
    end
    start(world, job, random)
    coroutine.yield()
  end
  world.workers = world.workers - 1
end

-- The end -------------------------------------------------------------------------------------------

local function eventually(condition, seconds)
  local deadline = uv.now() + seconds * 1000
  while not condition() and uv.now() < deadline do
    redio.sleep(0.02)
  end
  return condition()
end

-- With the server well again, everything that was begun has to end.
local function let_end(world)
  if eventually(function()
    return world.workers == 0
  end, LONGEST) then
    return
  end
  for job in pairs(world.jobs) do
    world.report.never = world.report.never + 1
    complain(world.report, ("%s %s never ended"):format(job.name, job.mark))
  end
end

local function is_at_rest(client)
  local stats = client:stats()
  return stats.in_flight == 0 and stats.waiting == 0 and stats.connections == stats.idle and stats.queued_bytes == 0
end

local function check_rest(world)
  for i, client in ipairs(world.clients) do
    local rests = eventually(function()
      collectgarbage() -- some handles were dropped without being closed
      return is_at_rest(client)
    end, 3)
    if not rests then
      local said = {}
      for name, value in pairs(client:stats()) do
        said[#said + 1] = name .. "=" .. tostring(value)
      end
      table.sort(said)
      complain(world.report, ("client %d still has %s"):format(i, table.concat(said, " ")))
    end
    local ok, said
    for _ = 1, 2 do -- the last garbage may have been held back until now, and meets the first of them
      ok, said = pcall(function()
        return client():echo("still " .. i):await()
      end)
      if ok then break end
    end
    if not (ok and said == "still " .. i) then
      complain(world.report, ("client %d is of no use any more: %s"):format(i, tostring(said)))
    end
  end
end

-- Outside of the loop: inside there are always some things on their way. Timers of connections that were dropped,
-- not closed, run out before they notice.
local function check_leaks(world, before)
  local text
  for _ = 1, 60 do
    redio.sleep(0.05)
    text = process.excess(before)
    if not text and next(world.tracked) then
      text = "clients were never collected"
    end
    if not text then
      return
    end
  end
  complain(world.report, "left behind: " .. text)
end

-- A run -----------------------------------------------------------------------------------------------

-- The server, the proxy before it, and where the clients are to go.
local function set_up(world, over_tls)
  if not over_tls then
    world.server = servers.start()
    world.proxy = proxies.start(world.server)
    world.url = world.proxy.url
    return
  end
  world.certificates = certificates.make()
  world.server = tls_peer.redis(world.certificates)
  world.proxy = proxies.start { host = world.server.host, port = world.server.tls_port }
  world.url = ("rediss://%s:%d/"):format(world.proxy.host, world.proxy.port)
  world.tls = { ca = world.certificates.ca.cert, server_name = "localhost" }
end

local function begin(seed, report, over_tls)
  local world = {
    seed = seed, report = report, clients = {}, workers = WORKERS, jobs = {},
    tracked = setmetatable({}, { __mode = "k" }),
  }
  set_up(world, over_tls)
  function world.reopen(i)
    world.clients[i] = client_of(world, i)
  end
  for i = 1, #KINDS do
    world.reopen(i)
  end
  return world
end

local function drive(world, seconds)
  for id = 1, WORKERS do
    coroutine.wrap(worker)(world, id)
  end
  faults.make(world, generator(world.seed), uv.now() + seconds * 1000)
  world.stopping = true
  faults.heal(world)
  let_end(world)
  check_rest(world)
  for _, client in ipairs(world.clients) do
    client:close()
  end
  world.clients = {}
  if not eventually(function()
    return world.proxy:open_connections() == 0
  end, 3) then
    complain(world.report, ("%d connections are open after close()"):format(world.proxy:open_connections()))
  end
end

--- Runs it for so many seconds.
---@param seconds number
---@param seed integer
---@param over_tls? boolean
---@return table report begun, ended, twice, never, mismatches, wrong, complaints, ...
function M.run(seconds, seed, over_tls)
  local report = {
    begun = 0, ended = 0, twice = 0, never = 0, mismatches = 0, cancelled = 0, deadlines = 0, wrong = 0,
    complaints = {}, work = {}, faults = {},
  }
  math.randomseed(seed)
  uv.new_tcp():close() -- with its first socket, and its first turn, the loop gets things of its own
  redio.run(function()
    redio.spawn(redio.sleep, 0.001):await()
  end)
  collectgarbage()
  local before, world = process.holdings(), nil
  redio.run(function()
    world = begin(seed, report, over_tls)
    local ok, err = pcall(drive, world, seconds)
    world.proxy:stop()
    world.server:stop()
    if world.certificates then
      world.certificates:remove()
    end
    if not ok then
      error(err, 0)
    end
    world.proxy, world.jobs = nil, {}
  end)
  check_leaks(world, before)
  if report.ended ~= report.begun then
    complain(report, ("%d requests were begun, %d ended"):format(report.begun, report.ended))
  end
  return report
end

local function sorted(list)
  local names = {}
  for name in pairs(list) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function line(title, list)
  local words = {}
  for _, name in ipairs(sorted(list)) do
    words[#words + 1] = ("%s %d"):format(name, list[name])
  end
  return ("  %-13s %s\n"):format(title, table.concat(words, ", "))
end

--- The report as text.
function M.summary(report)
  local out = {}
  for _, name in ipairs(sorted(report.work)) do
    out[#out + 1] = line(name, report.work[name])
  end
  out[#out + 1] = line("faults", report.faults)
  out[#out + 1] = ("%d requests, %d cancelled, %d under a deadline; %d mismatches, %d ended twice, %d never; "
    .. "%d complaints\n"):format(report.begun, report.cancelled, report.deadlines, report.mismatches, report.twice,
    report.never, report.wrong)
  for _, text in ipairs(report.complaints) do
    out[#out + 1] = "  " .. text .. "\n"
  end
  return table.concat(out)
end

--- As a program: prints the seed and the summary.
---@return integer status
function M.main(seconds, seed, over_tls)
  seed = math.floor(seed or uv.hrtime() % 1000000007)
  io.stdout:write(("chaos%s: %g seconds, seed %d\n"):format(over_tls and " over TLS" or "", seconds, seed))
  io.stdout:flush()
  local report = M.run(seconds, seed, over_tls)
  io.stdout:write(M.summary(report))
  return report.wrong == 0 and 0 or 1
end

return M
