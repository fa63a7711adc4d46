-- SPDX-License-Identifier: MIT
-- count.lua: prints the instructions of each operation as a table. Fails when one costs more than is accepted. With
-- ACCEPT=1 in the environment the figures become the accepted ones.

local counts = require "bench.counts"

local accepted, figures = counts.read(counts.PATH), counts.measure()
print(counts.text(accepted, figures))
if (os.getenv "ACCEPT" or "") ~= "" then
  counts.write(counts.PATH, figures)
  print("accepted: written to " .. counts.PATH)
  os.exit(0)
end
local breaches = counts.breaches(accepted or {}, figures)
for _, text in ipairs(breaches) do
  print("too much: " .. text)
end
if #breaches > 0 then
  print "If it is worth that, `make count ACCEPT=1` accepts it; commit bench/counts.txt with the reason."
  os.exit(1)
end
