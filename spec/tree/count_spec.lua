-- SPDX-License-Identifier: MIT
-- The instructions of an operation may not grow unnoticed. The accepted counts are in bench/counts.txt.
--
-- Slow: tools/test.sh starts it first.

local counts = require "bench.counts"

-- The figures are those of Lua 5.4, and of a core without sanitizers.
local applies = not os.getenv "REDIO_SANITIZED" and (os.getenv "LUA" or "lua5.4"):find "lua5%.4$"

local function scaled(figures, factor)
  local list = {}
  for name, f in pairs(figures) do
    list[name] = { redio = f.redio * factor, hiredis = f.hiredis }
  end
  return list
end

describe("The instructions of an operation", function()
  it("are no more than accepted, by five in a hundred", function()
    if not applies then return end
    assert(os.execute "bench/build.sh still count_hiredis")
    local accepted, figures = assert(counts.read(counts.PATH)), counts.measure()
    local breaches = counts.breaches(accepted, figures)
    assert(#breaches == 0, table.concat(breaches, "\n")
      .. "\n(`make count ACCEPT=1` accepts that)\n" .. counts.text(accepted, figures))
  end)

  it("are named when they are more", function()
    local accepted = assert(counts.read(counts.PATH))
    assert.same({}, counts.breaches(accepted, scaled(accepted, 1.049)))
    local breaches = counts.breaches(accepted, scaled(accepted, 1.06))
    assert.equal(#counts.operations, #breaches)
    for i, operation in ipairs(counts.operations) do
      assert.truthy(breaches[i]:find("^" .. operation.name .. " .*6%.0 %% more than the accepted"), breaches[i])
    end
    local figures = scaled(accepted, 1)
    accepted.get = nil
    assert.same({ "get: nothing is accepted for it" }, counts.breaches(accepted, figures))
  end)

  it("are written and read again", function()
    local path, figures = os.tmpname(), {}
    for i, operation in ipairs(counts.operations) do
      figures[operation.name] = { redio = 1000 + i, hiredis = 2000 + i }
    end
    counts.write(path, figures)
    local read = counts.read(path)
    os.remove(path)
    assert.same(figures, read)
  end)
end)
