-- SPDX-License-Identifier: MIT
-- The workloads in order, the data that they need, and redio's targets.

local M = {}

-- {name, description}. `base` is the workload of hiredis for comparison, if that is another. `unit` is the unit of the
-- figure, if that is not operations per second.
M.list = {
  { "get-1", "GET, 32 B, depth 1" },
  { "get-10", "GET, 32 B, depth 10" },
  { "get-100", "GET, 32 B, depth 100" },
  { "get-1000", "GET, 32 B, depth 1000" },
  { "set-1", "SET, 32 B, depth 1" },
  { "set-10", "SET, 32 B, depth 10" },
  { "set-100", "SET, 32 B, depth 100" },
  { "set-1000", "SET, 32 B, depth 1000" },
  { "coroutines-1000", "1000 coroutines, each one GET at a time, a fresh handle each", base = "get-1000" },
  { "spawn-1000", "1000 GETs, a fresh coroutine and a fresh handle each", base = "get-1000" },
  { "coroutines-10000", "10,000 coroutines, each one GET at a time", base = "get-1000" },
  { "spawn-10000", "10,000 GETs, a fresh coroutine each", base = "get-1000" },
  { "get-4k", "GET, 4 KiB" },
  { "get-64k", "GET, 64 KiB" },
  { "get-1m", "GET, 1 MiB" },
  { "get-64m", "GET, 64 MiB" },
  { "set-4k", "SET, 4 KiB" },
  { "set-64k", "SET, 64 KiB" },
  { "set-1m", "SET, 1 MiB" },
  { "set-64m", "SET, 64 MiB" },
  { "list", "LRANGE, 10,000 elements" },
  { "hash", "HGETALL, 1000 fields" },
  { "xrange", "XRANGE, 100 entries of 5 fields" },
  { "docs", "COMMAND DOCS" },
  { "messages", "receiver, 100 B messages" },
  { "multi", "MULTI, SET, GET, GET, EXEC" },
  { "watch", "WATCH, GET, MULTI, SET, EXEC" },
  { "tls-get-1", "TLS: GET, 32 B, depth 1", base = false },
  { "tls-get-100", "TLS: GET, 32 B, depth 100", base = false },
  { "tls-get-1000", "TLS: GET, 32 B, depth 1000", base = false },
  { "tls-get-1m", "TLS: GET, 1 MiB", base = false },
  { "latency", results = { "latency-p50", "latency-p99", "latency-p999" } },
  { "latency-p50", "latency of a GET, p50", unit = "s" },
  { "latency-p99", "latency of a GET, p99", unit = "s" },
  { "latency-p999", "latency of a GET, p999", unit = "s" },
  { "memory-client", "memory: an idle client, not connected", unit = "B" },
  { "memory-connection", "memory: a client with an idle connection", unit = "B" },
  { "memory-coroutine", "memory: a coroutine that waits for something else", unit = "B" },
  { "memory-in-flight", "memory: a coroutine with a GET in flight", unit = "B" },
  { "memory-command", "memory: a queued GET, one of 10,000", unit = "B" },
}

M.by_name = {}
for _, workload in ipairs(M.list) do
  M.by_name[workload[1]] = workload
end

--- The workloads that `only` names. Its words are names or beginnings of names. nil and "" mean all.
---@param only string?
function M.selected(only)
  local list = {}
  for _, workload in ipairs(M.list) do
    local name, chosen = workload[1], not only or only == ""
    for word in (only or ""):gmatch "[^%s,]+" do
      chosen = chosen or name == word or name:sub(1, #word + 1) == word .. "-"
    end
    local is_result = workload.unit == "s"
    if chosen and not is_result then list[#list + 1] = name end
  end
  return list
end

--- Writes the data of the workloads to the server.
function M.seed(redis)
  for _, length in ipairs { 32, 4096, 65536, 1048576, 67108864 } do
    redis():set("v:" .. length, ("v"):rep(length)):await()
  end
  local db = redis()
  for i = 1, 10000 do
    db:rpush("list", ("element %08d of the list"):format(i))
  end
  for i = 1, 1000 do
    db:hset("hash", ("field %04d"):format(i), ("value %04d of the hash, 32 B long"):format(i))
  end
  for i = 1, 100 do
    db:xadd("stream", ("%d-0"):format(i), "one", "1", "two", "22", "three", "333", "four", "4444", "five", "55555")
  end
  db:replies()
end

-- Each target is {description, least (or `most`), function}. The function computes the figure with `at(peer,
-- workload)`, which is the median in operations per second or in the workload's unit; nil when something was not
-- measured.
local function ratio(workload, base, peer)
  return function(at)
    local ours, theirs = at("redio", workload), at(peer or "hiredis", base or workload)
    return ours and theirs and ours / theirs
  end
end

M.targets = {
  { "GET depth 1, to hiredis", 0.95, ratio "get-1" },
  { "GET depth 100, to hiredis", 1.15, ratio "get-100" },
  { "SET depth 100, to hiredis", 1.15, ratio "set-100" },
  { "GET depth 1000, to hiredis", 1.4, ratio "get-1000" },
  { "SET depth 1000, to hiredis", 1.4, ratio "set-1000" },
  { "1000 coroutines, to hiredis at depth 1000", 0.7, ratio("coroutines-1000", "get-1000") },
  { "1000 coroutines, to ioredis", 5, ratio("coroutines-1000", nil, "ioredis") },
  { "GET 1 MiB, to hiredis", 1.0, ratio "get-1m" },
  { "SET 1 MiB, to hiredis", 1.0, ratio "set-1m" },
  { "GET 64 MiB, to hiredis", 1.0, ratio "get-64m" },
  { "SET 64 MiB, to hiredis", 1.0, ratio "set-64m" },
  { "list of 10,000, to hiredis", 1.1, ratio "list" },
  { "hash of 1000, to hiredis", 1.1, ratio "hash" },
  { "instructions for a GET at depth 1000, to hiredis", 0.65, ratio "count-get", most = true },
  { "instructions for a GET by a coroutine, to hiredis", 1.5, ratio("count-coroutines", "count-get"), most = true },
  {
    "bytes for a coroutine in flight, beyond its own", 2048,
    function(at)
      local in_flight, own = at("redio", "memory-in-flight"), at("redio", "memory-coroutine")
      return in_flight and own and in_flight - own
    end,
    most = true,
  },
}

return M
