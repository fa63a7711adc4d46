-- SPDX-License-Identifier: MIT
-- Some seconds of the random driver, with another seed each time; `make chaos SECONDS= SEED=` is the same for
-- longer. In a process of its own, whose end is part of it.

local uv = require "luv"
local child = require "spec.support.child"

local SECONDS = 6

describe("whatever happens at random", function()
  it("pairs replies, ends each request once, and leaves nothing", function()
    local seed = os.getenv "SEED" or math.floor(uv.hrtime() % 1000000007)
    local program = ("os.exit(require 'spec.support.chaos'.main(%d, %s), true)"):format(SECONDS, seed)
    local output, status = child.run_text(program, "", 120)
    assert(status == 0, output)
    assert.is_true(tonumber(output:match "\n(%d+) requests") > 200)
  end)
end)
