-- SPDX-License-Identifier: MIT
-- A doubly linked list of distinct items: first in, first out. An item leaves from any place at constant cost.
-- Specs: client/linear, regress/receiver_several_waiters

---@class redio.Line
---@field first any? the oldest item
---@field count integer
local M = {}
M.__index = M

function M.new()
  return setmetatable({ first = nil, last = nil, count = 0, _next = {}, _previous = {} }, M)
end

--- Adds an item that is not in the list, at the end or in front.
---@param in_front boolean?
function M:enter(item, in_front)
  self.count = self.count + 1
  local before, after = self.last, false
  if in_front then before, after = nil, self.first or false end
  self._previous[item], self._next[item] = before, after
  if before then self._next[before] = item else self.first = item end
  if after then self._previous[after] = item else self.last = item end
end

--- Removes an item.
---@return boolean was_in
function M:leave(item)
  local after, before = self._next[item], self._previous[item]
  if after == nil then return false end
  self._next[item], self._previous[item] = nil, nil
  if before then self._next[before] = after else self.first = after or nil end
  if after then self._previous[after] = before else self.last = before end
  self.count = self.count - 1
  return true
end

--- All items as a list, in order.
function M:list()
  local list, item = {}, self.first
  while item do
    list[#list + 1] = item
    item = self._next[item]
  end
  return list
end

return M
