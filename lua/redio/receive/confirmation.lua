-- SPDX-License-Identifier: MIT
-- A place at which coroutines wait until the server has confirmed all subscriptions of a receiver. The coroutine that
-- restores the connection waits at a patient one, which lets it go when the connection is lost again.
-- Specs: client/receiver, regress/confirmation_behind_full_queue

local linked_list = require "redio.base.linked_list"

local M = {}

---@class redio.Confirmation
---@field is_patient boolean
local Confirmation = {}
Confirmation.__index = Confirmation

---@param feed redio.Feed
---@param subscriptions redio.Subscriptions
---@param is_patient boolean?
function M.new(feed, subscriptions, is_patient)
  return setmetatable({
    line = linked_list.new(),
    is_patient = is_patient or false,
    _feed = feed,
    _subscriptions = subscriptions,
  }, Confirmation)
end

--- Ends the wait of a waiter if all is confirmed, or cannot be.
function Confirmation:look(waiter)
  local feed = self._feed
  local is_settled = feed:is_up() and self._subscriptions.unconfirmed == 0
  if not self.is_patient then
    is_settled = is_settled and not feed.lost_at
  elseif not feed:is_up() then
    is_settled = true
  end
  if feed.closed or is_settled then return feed.waiters:tell(waiter) end
  local overflow = feed:overflow()
  if overflow then feed.waiters:tell(waiter, nil, overflow) end
end

--- The same for all that wait here.
function Confirmation:serve()
  for _, waiter in ipairs(self.line:list()) do
    self:look(waiter)
  end
end

return M
