-- SPDX-License-Identifier: MIT
-- chaos.lua [SECONDS [SEED]] [tls]: runs spec/support/chaos.lua, random work and random faults. Fails when it finds an
-- error.

local over_tls = arg[#arg] == "tls"
os.exit(require "spec.support.chaos".main(tonumber(arg[1]) or 60, tonumber(arg[2]), over_tls), true)
