-- SPDX-License-Identifier: MIT
-- Makes medians, tables and files of the measurements.

local peers = require "bench.peers"
local workloads = require "bench.workloads"

local M = {}

local Report = {}
Report.__index = Report

local function median(list)
  table.sort(list)
  local middle = (#list + 1) / 2
  return (list[math.floor(middle)] + list[math.ceil(middle)]) / 2
end

--- The measurements of each peer and workload.
---@param samples table lists of {operations, amount, bytes} by "PEER WORKLOAD"
function M.new(present, samples, rounds)
  local self = setmetatable({ peers = present, samples = samples, rounds = rounds, medians = {} }, Report)
  for key, list in pairs(samples) do
    local workload = workloads.by_name[key:match " (.*)$"]
    local figures = {}
    for i, sample in ipairs(list) do
      local each = sample.amount / sample.operations
      figures[i] = workload.unit and each or 1 / each
    end
    self.medians[key] = median(figures)
  end
  return self
end

--- The instructions of an operation, counted by `make count`.
function Report:add_counts(path)
  local file = io.open(path)
  if not file then return end
  for line in file:lines() do
    local name, ours, theirs = line:match "^([%w-]+)%s+(%d+)%s+(%d+)"
    if name then
      self.medians["redio count-" .. name] = tonumber(ours)
      self.medians["hiredis count-" .. name] = tonumber(theirs)
    end
  end
  file:close()
end

--- The median of a peer at a workload, in operations per second or in the workload's unit; nil when there is none.
function Report:at(peer, name)
  return self.medians[peer .. " " .. name]
end

--- The ratio of a peer to hiredis. More is better.
function Report:ratio(peer, name)
  local workload = workloads.by_name[name]
  local ours, theirs = self:at(peer, name), self:at("hiredis", workload.base or name)
  if not ours or not theirs then return nil end
  return workload.unit and theirs / ours or ours / theirs
end

local function three(n)
  return (n >= 100 and "%.0f" or n >= 10 and "%.1f" or "%.2f"):format(n)
end

local function figure(n, unit)
  if not n then return "" end
  if unit == "s" then return three(n * 1e6) .. " µs" end
  if unit == "B" then return n >= 2048 and three(n / 1024) .. " KiB" or three(n) .. " B" end
  if n >= 1e6 then return three(n / 1e6) .. " M/s" end
  if n >= 1e4 then return three(n / 1e3) .. " k/s" end
  return three(n) .. "/s"
end

-- Pads columns to the width of their cells (in characters, not bytes).
local function layout(rows)
  local widths, lines = {}, {}
  local function length(text)
    return #text:gsub("[\128-\191]", "")
  end
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, length(text))
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, text in ipairs(row) do
      local blank = (" "):rep(widths[i] - length(text))
      cells[i] = i == 1 and text .. blank or blank .. text
    end
    lines[#lines + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

--- Rows of cells: the names of the peers, then a row for each workload that was measured. Ratios have that format.
function Report:rows(form)
  local rows = { { "" } }
  for i, peer in ipairs(self.peers) do
    rows[1][i + 1] = peer.name
  end
  for _, workload in ipairs(workloads.list) do
    local row, any = { workload[2] or "" }, false
    for i, peer in ipairs(self.peers) do
      local n, ratio = self:at(peer.name, workload[1]), self:ratio(peer.name, workload[1])
      any = any or n
      row[i + 1] = figure(n, workload.unit)
      if ratio and peer.name ~= "hiredis" then row[i + 1] = row[i + 1] .. form:format(ratio) end
    end
    if any then rows[#rows + 1] = row end
  end
  return rows
end

--- Rows of cells: the target, the bound, the figure, and whether it is met.
function Report:targets()
  local rows = {}
  local function at(...)
    return self:at(...)
  end
  for _, target in ipairs(workloads.targets) do
    local measured = target[3](at)
    local verdict = "not measured"
    if measured then
      local met = target.most and measured <= target[2] or not target.most and measured >= target[2]
      verdict = met and "met" or "not met"
    end
    local function written(n)
      return n and (n > 100 and "%.0f" or "%.2f"):format(n) or ""
    end
    rows[#rows + 1] = {
      target[1], (target.most and "at most " or "at least ") .. written(target[2]), written(measured), verdict,
    }
  end
  table.insert(rows, 1, { "target", "", "measured", "" })
  return rows
end

--- All tables as text for a terminal.
function Report:text()
  return ("\nMedians of %d, and their ratios to hiredis (more is better):\n\n%s\n\n%s\n"):format(self.rounds,
    layout(self:rows " %5.2f"), layout(self:targets()))
end

--- The workloads for which the peers have received different bytes.
function Report:disagreements()
  local list = {}
  for _, workload in ipairs(workloads.list) do
    local seen, by
    for _, peer in ipairs(self.peers) do
      local samples = self.samples[peer.name .. " " .. workload[1]]
      local bytes = samples and samples[1].bytes
      if bytes and seen and bytes ~= seen then
        list[#list + 1] = ("%s: %.0f B by %s, %.0f B by %s"):format(workload[1], seen, by, bytes, peer.name)
      end
      if bytes and not seen then seen, by = bytes, peer.name end
    end
  end
  return list
end

-- Files ---------------------------------------------------------------------------------------------------

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function one_line(command)
  local text, ok = peers.shell(command)
  return ok and text:match "^[^\n]*" or "not there"
end

--- The versions and the processor. Nothing here names the machine.
function Report:machine(command, missing)
  local lines = {
    "command          " .. command,
    "CPU              " .. one_line "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1",
    "cores            " .. one_line "nproc",
    "redis-server     " .. one_line "redis-server --version | grep -o 'v=[0-9.]*' | cut -c 3-",
    "Lua              " .. one_line((os.getenv "LUA" or "lua5.4") .. " -v 2>&1 | cut -d ' ' -f 1-2"),
    "OpenSSL          " .. one_line "openssl version | cut -d ' ' -f 2",
    "compiler         " .. one_line((os.getenv "CC" or "cc") .. " --version | head -n 1"),
  }
  for _, peer in ipairs(self.peers) do
    lines[#lines + 1] = ("%-16s %s"):format(peer.name, peer.says)
  end
  for _, text in ipairs(missing) do
    lines[#lines + 1] = "not measured     " .. text:match "^[^:]*"
  end
  return table.concat(lines, "\n") .. "\n"
end

function Report:samples_csv()
  local lines = { "workload,peer,round,operations,amount,unit" }
  for _, workload in ipairs(workloads.list) do
    for _, peer in ipairs(self.peers) do
      for round, sample in ipairs(self.samples[peer.name .. " " .. workload[1]] or {}) do
        lines[#lines + 1] = ("%s,%s,%d,%d,%.9f,%s"):format(workload[1], peer.name, round, sample.operations,
          sample.amount, workload.unit or "s")
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

function Report:medians_csv()
  local lines = { "workload,peer,median,unit,ratio to hiredis" }
  for _, workload in ipairs(workloads.list) do
    for _, peer in ipairs(self.peers) do
      local n, ratio = self:at(peer.name, workload[1]), self:ratio(peer.name, workload[1])
      if n then
        lines[#lines + 1] = ("%s,%s,%.9g,%s,%s"):format(workload[1], peer.name, n, workload.unit or "1/s",
          ratio and ("%.3f"):format(ratio) or "")
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function markdown(rows)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |"
    if i == 1 then lines[2] = "|" .. (" --- |"):rep(#row) end
  end
  return table.concat(lines, "\n") .. "\n"
end

--- The files of a directory: samples, medians, tables for documents, the machine.
function Report:write(directory, command, missing)
  os.execute("mkdir -p " .. directory)
  write(directory .. "/samples.csv", self:samples_csv())
  write(directory .. "/medians.csv", self:medians_csv())
  write(directory .. "/machine.txt", self:machine(command, missing))
  write(directory .. "/tables.md", markdown(self:rows " (%.2f)") .. "\n" .. markdown(self:targets()))
end

--- Puts the tables and the versions into a document, between its marks.
function Report:document(path, command, missing)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  local parts = {
    machine = "```text\n" .. self:machine(command, missing) .. "```\n",
    results = markdown(self:rows " (%.2f)"),
    targets = markdown(self:targets()),
  }
  for name, part in pairs(parts) do
    local before, after = text:match(("^(.-<!%%-%%- %s %%-%%->\n).-(<!%%-%%- end of %s %%-%%->.*)$"):format(name, name))
    text = before .. "\n" .. part .. "\n" .. after
  end
  write(path, text)
end

return M
