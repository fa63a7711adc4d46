-- SPDX-License-Identifier: MIT
-- Instructions for an operation, counted by callgrind, and the bound on them.
--
-- The bound is on the ratio to hiredis, counted in the same run, so that another compiler or machine changes little.
-- Each figure is the difference of two runs of different length, so that the start does not count. Runs are made equal:
-- the clock stands still and addresses are not random, because Lua seeds its hashes with both, and replies come from
-- the program itself.

local M = {}

M.PATH = "bench/counts.txt"
M.TOLERANCE = 1.05

-- The operations, and those of hiredis with which they are compared.
M.operations = {
  { name = "encode", what = "a GET queued", base = "encode" },
  { name = "decode", what = "a reply of 32 B made a value", base = "decode" },
  { name = "get", what = "a GET at depth 1000", base = "get" },
  { name = "coroutines", what = "a GET of one of 1000 coroutines", base = "get" },
}

local FEW, MANY = 5000, 20000

local lua = os.getenv "LUA" or "lua5.4"
local build = os.getenv "BUILD" or "build"

local function shell(command)
  local pipe = assert(io.popen("( " .. command .. "\n) 2>&1 </dev/null"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- Some containers do not allow fixed addresses. Then the figures vary by one in a hundred.
local function steady()
  return shell "setarch -R true && echo yes" == "yes\n" and "setarch -R " or ""
end

local function instructions(prefix, program, name, n)
  local text = shell(("%s valgrind --tool=callgrind --callgrind-out-file=/dev/null %s %s %d"):format(prefix, program,
    name, n))
  return tonumber(text:match "Collected : (%d+)") or error("valgrind says: " .. text, 0)
end

local function each(prefix, program, name)
  local few, many = instructions(prefix, program, name, FEW), instructions(prefix, program, name, MANY)
  return math.floor((many - few) / (MANY - FEW) + 0.5)
end

--- Counts all operations.
---@return table figures by operation: {redio=, hiredis=}
function M.measure()
  local still = build:sub(1, 1) == "/" and build or "$PWD/" .. build
  local prefix = ('export LD_PRELOAD="%s/bench/still"; exec %s'):format(still, steady())
  local figures, of_hiredis = {}, {}
  for _, operation in ipairs(M.operations) do
    local base = operation.base
    of_hiredis[base] = of_hiredis[base] or each(prefix, build .. "/bench/count_hiredis", base)
    figures[operation.name] = {
      redio = each(prefix, lua .. " bench/count_redio.lua", operation.name), hiredis = of_hiredis[base],
    }
  end
  return figures
end

--- Reads the figures of a file; nil when there is none.
function M.read(path)
  local file = io.open(path)
  if not file then return nil end
  local figures = {}
  for line in file:lines() do
    local name, ours, theirs = line:match "^(%w+)%s+(%d+)%s+(%d+)"
    if name then figures[name] = { redio = tonumber(ours), hiredis = tonumber(theirs) } end
  end
  file:close()
  return figures
end

local function first_line(command)
  return shell(command):match "^[^\n]*"
end

--- Writes figures to a file, with the versions of the programs that they depend on.
function M.write(path, figures)
  local file = assert(io.open(path, "w"))
  file:write(
    "# Instructions for an operation, as `make count` counts them and `make count ACCEPT=1` has accepted them.\n",
    "# ", first_line(lua .. " -v 2>&1 | cut -d ' ' -f 1-2"), ", ",
    first_line((os.getenv "CC" or "cc") .. " --version"), ", ", first_line "valgrind --version", ", hiredis ",
    first_line "pkg-config --modversion hiredis", "\n",
    ("# %-10s %8s %8s\n"):format("operation", "redio", "hiredis"))
  for _, operation in ipairs(M.operations) do
    local f = figures[operation.name]
    file:write(("%-12s %8d %8d\n"):format(operation.name, f.redio, f.hiredis))
  end
  file:close()
end

local function ratio(f)
  return f.redio / f.hiredis
end

--- The operations that cost more than is accepted, as a list of texts.
function M.breaches(accepted, figures)
  local list = {}
  for _, operation in ipairs(M.operations) do
    local name = operation.name
    local before, now = accepted[name], figures[name]
    if not before then
      list[#list + 1] = name .. ": nothing is accepted for it"
    elseif ratio(now) > ratio(before) * M.TOLERANCE then
      local more = (ratio(now) / ratio(before) - 1) * 100
      list[#list + 1] = ("%s (%s): %.3f of hiredis, %.1f %% more than the accepted %.3f; up to %g %% may be"):format(
        name, operation.what, ratio(now), more, ratio(before), (M.TOLERANCE - 1) * 100)
    end
  end
  return list
end

--- The figures as a table to print.
function M.text(accepted, figures)
  local head = ("%-34s %8s %8s %7s"):format("instructions for", "redio", "hiredis", "ratio")
  local lines = { accepted and head .. "  accepted   change" or head }
  for _, operation in ipairs(M.operations) do
    local now, before = figures[operation.name], accepted and accepted[operation.name]
    lines[#lines + 1] = ("%-34s %8d %8d %7.3f"):format(operation.what, now.redio, now.hiredis, ratio(now))
      .. (before and (" %9.3f %+7.1f%%"):format(ratio(before), (ratio(now) / ratio(before) - 1) * 100) or "")
  end
  return table.concat(lines, "\n")
end

return M
