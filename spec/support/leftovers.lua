-- SPDX-License-Identifier: MIT
-- What a process holds that a client may have forgotten: descriptors, handles of the loop, refs in the registry.

local uv = require "luv"

local M = {}

-- How many, and what they are.
local function open_files()
  local pipe = io.popen(("ls -l /proc/%d/fd | sed -n 's/.* \\([0-9]* -> .*\\)/\\1/p'"):format(uv.os_getpid()))
  local text, n = pipe:read("*a"):gsub("\n", ", ")
  pipe:close()
  return n, text
end

--- What there is now: `files`, the loop's `handles`, and refs in the `registry`.
function M.measure()
  local m = { handles = 0, registry = 0 }
  m.files, m.open = open_files()
  uv.walk(function(handle)
    m.handles = m.handles + (handle:is_closing() and 0 or 1)
  end)
  for key, value in pairs(debug.getregistry()) do
    if type(key) == "number" and type(value) ~= "number" then -- a ref, and not a free one
      m.registry = m.registry + 1
    end
  end
  return m
end

--- What there is more of than before, as text; nil when there is no more of anything.
---@param before table of measure()
function M.excess(before)
  collectgarbage()
  collectgarbage()
  local after, said = M.measure(), {}
  for _, what in ipairs { "handles", "files", "registry" } do
    if after[what] > before[what] then
      said[#said + 1] = ("%s: %d before, %d after"):format(what, before[what], after[what])
    end
  end
  if after.files > before.files then
    said[#said + 1] = after.open
  end
  if after.handles > before.handles then
    uv.walk(function(handle)
      local due = handle.get_due_in and handle:get_due_in()
      said[#said + 1] = tostring(handle):match "^[%w_]+" .. (due and (" due in %d ms"):format(due) or "")
    end)
  end
  return said[1] and table.concat(said, "; ")
end

return M
