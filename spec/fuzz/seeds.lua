-- SPDX-License-Identifier: MIT
-- seeds.lua DIRECTORY: the cases of spec/support/resp_cases.lua as a corpus. Two bytes of choices come before
-- the server's bytes; targets that read choices alone take all of it as such.

local cases = require "spec.support.resp_cases"

local directory = arg[1]
local shapes = 42 -- targets take it modulo what they have

local function write(name, bytes)
  local file = assert(io.open(("%s/%s"):format(directory, name), "wb"))
  file:write(bytes)
  file:close()
end

for i, case in ipairs(cases) do
  write(case.name, string.char(0, 1) .. case.bytes)
  write(case.name .. "_tight", string.char(1, 5) .. case.bytes)
  write(case.name .. "_shape", string.char(i % shapes, i % 256) .. case.bytes)
end
-- Typical replies, for each shape.
local flat = "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n"
local nested = "*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n*2\r\n+x\r\n:1\r\n"
-- Maps within maps, with keys that a table cannot have, and with some elements too many behind them for deeper ones.
local rest = (":1\r\n"):rep(8)
local odd = {
  key = ("%1\r\n"):rep(3) .. rest,
  before = "%2\r\n_\r\n:1\r\n+a\r\n%2\r\n*0\r\n:1\r\n+a\r\n" .. rest,
  behind = "%2\r\n+a\r\n%2\r\n+a\r\n:1\r\n*0\r\n:1\r\n*0\r\n" .. rest,
  none = "*2\r\n*2\r\n$1\r\na\r\n*2\r\n*2\r\n$1\r\na\r\n:1\r\n:1\r\n" .. rest,
}
for name, bytes in pairs(odd) do
  for mode = 0, 3 do
    write(("odd_%s_%d"):format(name, mode), string.char(mode * 12, mode) .. bytes)
  end
end
for shape = 0, shapes - 1 do
  write("flat_" .. shape, string.char(shape, 2) .. flat .. flat)
  write("nested_" .. shape, string.char(shape, 3) .. nested .. nested)
end
