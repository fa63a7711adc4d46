-- SPDX-License-Identifier: MIT
-- What the library and its examples may know is what every Lua has: no global beyond it.
std = "min"
cache = false
max_line_length = 120

-- Signatures are as long as they are.
files["lua/redio/meta"] = { max_line_length = false }

-- Specs say for themselves what they need of which Lua.
files["spec"] = { std = "max+busted" }
files["**/*.rockspec"] = { std = "+rockspec" }
files[".busted"] = { std = "max" }
