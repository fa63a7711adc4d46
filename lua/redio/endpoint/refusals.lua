-- SPDX-License-Identifier: MIT
-- The errors of callers that get no connection. Nothing of theirs was sent.
-- Specs: client/client, client/raised_errors

local errors = require "redio.base.errors"

local M = {}

--- The client was closed.
---@param settings table
function M.closed(settings)
  return errors.new("PoolClosedError", "the client is closed", { address = settings.address, sent = "no" })
end

--- No private connection came free within so many seconds.
---@param settings table
---@param seconds number
function M.full(settings, seconds)
  local text = "every connection is in use (max_connections = %d), and none came free within %g s (pool_timeout)"
  return errors.new("TimeoutError", text:format(settings.max_connections, seconds),
    { address = settings.address, sent = "no" })
end

--- One receiver too many. It does not wait for a place: receivers are there to stay.
---@param settings table
function M.too_many_receivers(settings)
  return errors.new("ConnectionError", ("%d receivers and monitors are open (max_receivers): close those that are "
    .. "done, share one between channels, or raise it"):format(settings.max_receivers),
    { address = settings.address, sent = "no", permanent = true })
end

return M
