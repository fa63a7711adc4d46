-- SPDX-License-Identifier: MIT
-- Some seconds of the random driver (spec/support/chaos.lua), plain and over TLS, with another seed each time. `make
-- chaos SECONDS= SEED= TLS=` runs it for longer. It runs in a process of its own, and the end of that process is
-- checked too.

local uv = require "luv"
local child = require "spec.support.child"

local SECONDS = 5

local function run(over_tls)
  local seed = os.getenv "SEED" or math.floor(uv.hrtime() % 1000000007)
  local call = ("require 'spec.support.chaos'.main(%d, %s, %s)"):format(SECONDS, seed, over_tls)
  local output, status = child.run_text(("os.exit(%s, true)"):format(call), "", 120)
  assert(status == 0, output)
  assert.is_true(tonumber(output:match "\n(%d+) requests") > 200)
end

describe("whatever happens at random", function()
  it("pairs replies, ends each request once, and leaves nothing", function()
    run(false)
  end)

  it("over TLS as well", function()
    run(true)
  end)
end)
