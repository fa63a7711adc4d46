-- SPDX-License-Identifier: MIT
-- chaos.lua [SECONDS [SEED]]: the random driver of spec/support/chaos.lua; fails when anything was wrong.

os.exit(require "spec.support.chaos".main(tonumber(arg[1]) or 60, tonumber(arg[2])), true)
