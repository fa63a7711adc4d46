-- SPDX-License-Identifier: MIT
-- Measures the workloads of a peer in Lua. Peers in other languages do the same.
--
-- A peer's program is called with the names of workloads, and prints a line for each:
--   NAME OPERATIONS SECONDS BYTES
-- BYTES is the length of all strings that one operation has received (or of the values that it has sent). bench/run.lua
-- compares it between the peers. With --list the program prints the names that it knows, and fails when a library that
-- it needs is missing.

local uv = require "luv"

local M = {}

local seconds = tonumber(os.getenv "BENCH_SECONDS" or 0.5)

M.host = "127.0.0.1"
M.port = tonumber(os.getenv "BENCH_PORT" or 6379)
M.tls_port = tonumber(os.getenv "BENCH_TLS_PORT")
M.ca = os.getenv "BENCH_CA"

--- Seconds of a monotonic clock.
function M.now()
  return uv.hrtime() / 1e9
end

--- Prints a line of the result.
function M.say(name, operations, amount, bytes)
  print(("%s %d %.9f %s"):format(name, operations, amount, bytes and ("%.0f"):format(bytes) or "-"))
end

local function timed(run, operations)
  local start = M.now()
  local bytes = run(operations)
  return M.now() - start, bytes
end

--- Measures `run(n)`, which does n operations and returns their bytes. n is a multiple of `step`. It warms up until a
--- call takes long enough, then measures one call of about the wanted length.
function M.measure(name, step, run)
  local n, took = step, timed(run, step)
  while took < seconds / 5 do
    n = n * 2
    took = timed(run, n)
  end
  n = math.max(step, math.floor(n * seconds / took / step) * step)
  local bytes
  took, bytes = timed(run, n)
  M.say(name, n, took, bytes / n)
end

--- Prints latencies in seconds as p50, p99 and p999.
function M.percentiles(name, list)
  table.sort(list)
  for _, part in ipairs { 50, 99, 999 } do
    local share = part / (part > 99 and 1000 or 100)
    M.say(name .. "-p" .. part, 1, list[math.ceil(#list * share)])
  end
end

--- The length of all strings in a value.
function M.total(value)
  if type(value) == "string" then return #value end
  if type(value) ~= "table" then return 0 end
  local sum = 0
  for k, v in pairs(value) do
    if type(k) == "string" then sum = sum + #k end
    sum = sum + M.total(v)
  end
  return sum
end

--- The main function of a program. `workloads` is a list of {name, function}.
function M.main(workloads)
  local by_name = {}
  for _, workload in ipairs(workloads) do
    by_name[workload[1]] = workload[2]
    if arg[1] == "--list" then print(workload[1]) end
  end
  if arg[1] == "--list" then return end
  for _, name in ipairs(arg) do
    local fn = by_name[name] or error("no such workload: " .. name, 0)
    fn()
  end
end

return M
