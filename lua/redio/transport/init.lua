-- SPDX-License-Identifier: MIT
-- Which host this is. The only function that picks a transport.

local M = {}

--- The transport of the host that runs this program.
---@return table transport see docs/transports.md
function M.default()
  return require "redio.transport.luv"
end

return M
