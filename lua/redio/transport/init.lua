-- SPDX-License-Identifier: MIT
-- Which host this is. The only function that picks a transport.

local M = {}

-- The module of the host's transport, and that of its tasks where they are not coroutines of our own.
local function pick()
  local ngx = rawget(_G, "ngx")
  if type(ngx) == "table" and ngx.get_phase then return "redio.transport.ngx", "redio.light" end
  return "redio.transport.luv"
end

--- The transport of the host that runs this program.
---@return table transport see docs/transports.md
function M.default()
  return require((pick()))
end

--- The tasks of the host, where it alone may resume; nil where they are coroutines of our own.
---@return table?
function M.tasks()
  local _, name = pick()
  return name and require(name)
end

return M
