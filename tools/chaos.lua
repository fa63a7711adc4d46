-- SPDX-License-Identifier: MIT
-- chaos.lua [SECONDS [SEED]] [tls]: the random driver of spec/support/chaos.lua; fails when anything was wrong.

local over_tls = arg[#arg] == "tls"
os.exit(require "spec.support.chaos".main(tonumber(arg[1]) or 60, tonumber(arg[2]), over_tls), true)
