-- SPDX-License-Identifier: MIT
-- Draws the charts by gnuplot, as SVG with a dark scheme for dark screens.

local peers = require "bench.peers"

local M = {}

-- A colour for each peer, visible on white and on black.
local colours = {
  redio = "#d6336c", hiredis = "#2f81f7", ["redis-benchmark"] = "#8b949e", ["redis-lua"] = "#1a9e5c",
  ["redis-py"] = "#d29922", aioredis = "#9a6ee8", ioredis = "#1f9fb0",
}

-- Colours of text and lines, ground and grid: as drawn, and in the dark scheme.
local INK, GROUND, GRID = "#24292f", "#ffffff", "#d0d7de"
local DARK = { [INK] = "#e6edf3", [GROUND] = "#0d1117", [GRID] = "#30363d" }

local HEAD = [[
set terminal svg size %d,%d dynamic font "sans-serif,14" linewidth 1.5 background rgb "]] .. GROUND .. [["
set output "%s"
set title "%s" textcolor rgb "]] .. INK .. [["
set border 3 linecolor rgb "]] .. INK .. [["
set tics nomirror textcolor rgb "]] .. INK .. [["
set xlabel textcolor rgb "]] .. INK .. [["
set ylabel textcolor rgb "]] .. INK .. [["
set grid ytics linecolor rgb "]] .. GRID .. [[" linetype 1 linewidth 0.5
set key textcolor rgb "]] .. INK .. [["
]]

-- A rule for each colour and each attribute that may have it.
local function dark_style()
  local rules = {}
  for _, colour in ipairs { INK, GROUND, GRID } do
    for _, attribute in ipairs { "fill", "stroke" } do
      rules[#rules + 1] = ('[%s="%s"] { %s: %s }'):format(attribute, colour, attribute, DARK[colour])
    end
  end
  return "<style>@media (prefers-color-scheme: dark) {\n" .. table.concat(rules, "\n") .. "\n}</style>"
end

local function follow_reader(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  -- gnuplot writes the same colour in two ways
  text = text:gsub("rgb%( *(%d+), *(%d+), *(%d+)%)", function(red, green, blue)
    return ("#%02x%02x%02x"):format(red, green, blue)
  end)
  text = text:gsub("(<svg.->)", function(head)
    return head .. "\n" .. dark_style()
  end, 1)
  file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function plot(path, width, height, title, script)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(HEAD:format(width, height, path, title), script, "\n")
  file:close()
  local text, ok = peers.shell("gnuplot " .. name)
  os.remove(name)
  if not ok then return print("no chart: " .. text) end
  follow_reader(path)
end

-- The data of a line or of bars: a block of gnuplot with a row for each {label (or x), n}.
local function block(index, rows)
  local lines = { ("$data%d << EOD"):format(index) }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("%s %s"):format(row[1], row[2] and ("%.9g"):format(row[2]) or "NaN")
  end
  lines[#lines + 1] = "EOD"
  return table.concat(lines, "\n")
end

-- The data of a chart; nil when not all of it was measured. `columns` are lists of {label, workload}. `scale` converts
-- a figure. The last argument says how each peer is drawn.
local function series(results, columns, scale, style)
  for _, column in ipairs(columns) do
    if not results:at("redio", column[2]) then return nil end
  end
  local blocks, plots = {}, {}
  for i, peer in ipairs(results.peers) do
    local rows, any = {}, false
    for j, column in ipairs(columns) do
      local n = results:at(peer.name, column[2])
      any = any or n
      rows[j] = { column[1], n and scale(n, column) }
    end
    if any then
      blocks[#blocks + 1] = block(i, rows)
      plots[#plots + 1] = style(i, peer.name, colours[peer.name])
    end
  end
  return table.concat(blocks, "\n") .. "\nplot " .. table.concat(plots, ", \\\n  ")
end

local function line(i, name, colour)
  return ('$data%d using 1:2 with linespoints pointtype 7 pointsize 0.6 linewidth %d linecolor rgb "%s" title "%s"')
    :format(i, name == "redio" and 3 or 2, colour, name)
end

local function bar(i, name, colour)
  return ('$data%d using 2:xtic(1) with histograms fillstyle solid 0.9 noborder linecolor rgb "%s" title "%s"')
    :format(i, colour, name)
end

local BARS = 'set style data histograms\nset style histogram clustered gap 1.5\nset boxwidth 0.95\n'

local function by_depth(results, path)
  local columns = { { "1", "get-1" }, { "10", "get-10" }, { "100", "get-100" }, { "1000", "get-1000" } }
  local script = series(results, columns, function(n)
    return n / 1000
  end, line)
  if not script then return end
  plot(path, 760, 440, "GET of 32 bytes, one connection",
    'set logscale xy\nset xlabel "commands at a time"\nset ylabel "thousand GETs a second"\n'
      .. "set xrange [0.8:1300]\nset key outside right center\n" .. script)
end

local MIB = { ["4k"] = 1 / 256, ["64k"] = 1 / 16, ["1m"] = 1, ["64m"] = 64 }

local function large_values(results, path)
  local columns = {}
  for _, way in ipairs { "get", "set" } do
    for _, size in ipairs { "4k", "64k", "1m", "64m" } do
      local label = size:upper():gsub("(%d+)(%a)", "%1 %2iB")
      columns[#columns + 1] = { ('"%s\\n%s"'):format(way:upper(), label), way .. "-" .. size }
    end
  end
  local script = series(results, columns, function(n, column)
    return n * MIB[column[2]:match "-(.*)"]
  end, bar)
  if not script then return end
  plot(path, 900, 440, "Large values, one at a time",
    BARS .. 'set yrange [0:*]\nset bmargin 4\nset ylabel "MiB a second"\nset key outside right center\n' .. script)
end

local function latency(results, path)
  local columns = { { '"p50"', "latency-p50" }, { '"p99"', "latency-p99" }, { '"p99.9"', "latency-p999" } }
  local script = series(results, columns, function(n)
    return n * 1e6
  end, bar)
  if not script then return end
  plot(path, 760, 360, "Latency of a GET at depth 1",
    BARS .. 'set logscale y\nset yrange [10:*]\nset ylabel "microseconds"\nset key outside right center\n' .. script)
end

--- Draws the charts of all figures into the directory.
function M.draw(results, directory)
  local _, ok = peers.shell "command -v gnuplot"
  if not ok then return print "no charts: gnuplot is not installed" end
  by_depth(results, directory .. "/depth.svg")
  large_values(results, directory .. "/large.svg")
  latency(results, directory .. "/latency.svg")
end

return M
