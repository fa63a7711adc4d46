-- SPDX-License-Identifier: MIT
-- redis-benchmark, which does not read replies: the limit of the server. measure.lua says how the program is called.

local measure = require "bench.measure"

local seconds = tonumber(os.getenv "BENCH_SECONDS" or 0.5)
local workloads = {}

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- Runs one connection with `depth` commands at a time. Returns the columns of the CSV output.
local function benchmark(n, depth, options, command)
  local text = run(("redis-benchmark -h %s -c 1 -n %d -P %d --csv %s %s"):format(measure.host, n, depth, options,
    command))
  local line = text:match '\n("[^\n]*)\n$' or error("redis-benchmark says: " .. text, 0)
  local columns = {}
  for number in line:gmatch '"([%d.]+)"' do
    columns[#columns + 1] = tonumber(number)
  end
  return { rate = columns[1], p50 = columns[4] / 1000, p99 = columns[6] / 1000 }
end

local function plain()
  return "-p " .. measure.port
end

local function add(name, depth, options, command)
  workloads[#workloads + 1] = { name, function()
    local warm = benchmark(depth * 100, depth, options(), command)
    local n = math.max(1, math.floor(warm.rate * seconds / depth)) * depth
    measure.say(name, n, n / benchmark(n, depth, options(), command).rate)
  end }
end

local value = ("x"):rep(32)
for _, depth in ipairs { 1, 10, 100, 1000 } do
  add("get-" .. depth, depth, plain, "GET v:32")
  add("set-" .. depth, depth, plain, "SET w:32 " .. value)
end
for name, length in pairs { ["4k"] = 4096, ["64k"] = 65536, ["1m"] = 1048576 } do
  add("get-" .. name, 1, plain, "GET v:" .. length)
end
add("list", 1, plain, "LRANGE list 0 -1")
add("hash", 1, plain, "HGETALL hash")

workloads[#workloads + 1] = { "latency", function()
  local said = benchmark(10000, 1, plain(), "GET v:32")
  measure.say("latency-p50", 1, said.p50)
  measure.say("latency-p99", 1, said.p99)
end }

local function secure()
  return ("-h localhost -p %d --tls --cacert '%s'"):format(measure.tls_port, measure.ca)
end

if measure.tls_port and run("redis-benchmark --help"):find("--tls", 1, true) then
  for _, depth in ipairs { 1, 100, 1000 } do
    add("tls-get-" .. depth, depth, secure, "GET v:32")
  end
end

assert(run("redis-benchmark --version"):find "^redis%-benchmark", "redis-benchmark is not installed")
measure.main(workloads)
