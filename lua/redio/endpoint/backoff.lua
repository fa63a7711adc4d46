-- SPDX-License-Identifier: MIT
-- When to try again: how long to wait, how often, and what for.
-- Specs: promises/11, regress/replica_storm

local errors = require "redio.base.errors"

local M = {}

---@class redio.Backoff what a client knows of its server's recent failures
local Backoff = {}
Backoff.__index = Backoff

---@param settings table|false max, base and cap (seconds); false: no delays
function M.new(settings, transport)
  return setmetatable({
    settings = settings,
    transport = transport,
    failures = 0,
    next_at = 0,
    replicas = 0, -- in a row
    stay_until = -math.huge,
  }, Backoff)
end

-- The distances where `retry` is off, and yet something must have a distance.
local WITHOUT = { base = 0.5, cap = 3 }

--- Full jitter: anything up to a limit that doubles with each failure, so that many clients do not come back
--- at once.
local function jitter(settings, failures)
  return math.random() * math.min(settings.cap, settings.base * 2 ^ math.min(failures - 1, 30))
end

--- A connection was lost or could not be made. One that had answered after its handshake starts the count anew; a
--- server that only accepts does not.
function Backoff:failed(conn)
  if not self.settings or errors.is(conn.lost, "ConnectionForcedCloseError") then return end
  self.failures = (conn.proved and 0 or self.failures) + 1
  self.next_at = self.transport.now() + jitter(self.settings, self.failures)
end

--- True when a connection that leads to a read-only replica is to be left for another, which may find the master. As
--- long as it does not, that is tried as often as a lost connection would be: many refused writes are one reason.
function Backoff:may_leave_replica()
  local settings, now = self.settings or WITHOUT, self.transport.now()
  if now < self.stay_until then return false end
  self.replicas = (now - self.stay_until > settings.cap and 0 or self.replicas) + 1
  self.stay_until = now + settings.base + jitter(settings, self.replicas)
  if self.settings then self.next_at = math.max(self.next_at, now + jitter(settings, 1)) end
  return true
end

--- Seconds until the next connection may be tried.
function Backoff:delay()
  return math.max(0, self.next_at - self.transport.now())
end

--- True when a chain of which nothing was sent may wait for another connection, `tries` times so far.
function Backoff:may_retry_unsent(err, tries)
  if not self.settings or tries >= self.settings.max or err.permanent then return false end
  if errors.is(err, "ConnectionError") then
    return not errors.is(err, "TimeoutError") and not errors.is(err, "ConnectionForcedCloseError")
  end
  return errors.is(err, "LoadingError") or errors.is(err, "MaxClientsError")
end

--- True when a chain that may have been executed may be sent once more: only when that changes nothing.
function Backoff:may_retry_sent(err, tries, is_readonly)
  return is_readonly and tries == 0 and self:may_retry_unsent(err, tries)
end

return M
