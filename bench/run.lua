-- SPDX-License-Identifier: MIT
-- run.lua: measures redio and its peers in turn, and reports the results. See README.md.

local certificates = require "spec.support.certificates"
local charts = require "bench.charts"
local peers = require "bench.peers"
local redio = require "redio"
local report = require "bench.report"
local server = require "spec.support.server"
local workloads = require "bench.workloads"

local rounds = tonumber(os.getenv "ROUNDS" or 5)
local only = os.getenv "ONLY"
local whole = not only or only == ""
local build = os.getenv "BUILD" or "build"

-- A core for the client and another for the server, where there are two.
local function pins()
  local cores, ok = peers.shell "command -v taskset >/dev/null && taskset -cp $$ | sed 's/.*: //' && nproc"
  local count = tonumber(cores:match "(%d+)$")
  if not ok or not count or count < 2 then return "", nil end
  local first = tonumber(cores:match "^(%d+)")
  return ("taskset -c %d"):format(first), ("taskset -acp %d"):format(first + 1)
end

local function start_server(certs, tls_port, pin)
  local one = server.start {
    "tls-port " .. tls_port, "tls-auth-clients no", "tls-cert-file " .. certs.server.cert,
    "tls-key-file " .. certs.server.key, "tls-ca-cert-file " .. certs.ca.cert,
    "client-output-buffer-limit pubsub 0 0 0",
  }
  if pin then assert(select(2, peers.shell(pin .. " " .. one.pid))) end
  redio.run(function()
    local redis = redio.Redis(one.url)
    workloads.seed(redis)
    redis:close()
  end)
  return one
end

-- Adds a peer's output to its samples.
local function take(samples, peer, text)
  for name, operations, amount, bytes in text:gmatch "(%S+) (%d+) ([%d.]+) (%S+)" do
    local key = peer.name .. " " .. name
    local list = samples[key] or {}
    samples[key] = list
    list[#list + 1] = { operations = tonumber(operations), amount = tonumber(amount), bytes = tonumber(bytes) }
  end
end

local function measure(environment, list, selected)
  local samples, failures = {}, {}
  for round = 1, rounds do
    io.write(("round %d of %d:"):format(round, rounds))
    for _, name in ipairs(selected) do
      io.write(" ", name)
      io.flush()
      for _, peer in ipairs(list) do
        if peer.knows[name] then
          local text, ok = peers.call(peer, environment, name)
          take(samples, peer, text)
          if not ok then failures[#failures + 1] = ("%s, %s: %s"):format(peer.name, name, text:match "[^\n]*$") end
        end
      end
    end
    io.write "\n"
  end
  return samples, failures
end

local certs = certificates.make()
local tls_port = server.free_port()
local pin, server_pin = pins()
local one = start_server(certs, tls_port, server_pin)
local environment = ("export BENCH_PORT=%d BENCH_TLS_PORT=%d BENCH_CA='%s'; PIN='%s'"):format(one.port, tls_port,
  certs.ca.cert, pin)
local present, missing = peers.present(environment)
for _, text in ipairs(missing) do
  print("skipped " .. text)
end
local ok, samples, failures = pcall(measure, environment, present, workloads.selected(only))
one:stop()
certs:remove()
if not ok then error(samples, 0) end

local results = report.new(present, samples, rounds)
results:add_counts "bench/counts.txt"
print(results:text())
for _, text in ipairs(failures) do
  print("failed: " .. text)
end
for _, text in ipairs(results:disagreements()) do
  print("not the same values: " .. text)
end
local directory = whole and "bench/results" or build .. "/bench/results"
local command = ("make bench ROUNDS=%d%s"):format(rounds, whole and "" or " ONLY=" .. only)
results:write(directory, command, missing)
charts.draw(results, directory)
if whole then results:document("docs/performance.md", command, missing) end
print("written to " .. directory)
