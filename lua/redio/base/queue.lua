-- SPDX-License-Identifier: MIT
-- A queue: first in, first out. An item that has entered (a table, which keeps its place) can leave from the middle. A
-- hole stays there, so that leaving costs the same in a long queue as in a short one.

local M = {}
M.__index = M

local HOLE = false

function M.new()
  return setmetatable({ first = 1, last = 0, holes = 0 }, M)
end

function M:push(item)
  local last = self.last + 1
  self.last = last
  self[last] = item
end

--- As `push`, for an item that may `leave`.
---@param item table its field `place` belongs to the queue
function M:enter(item)
  self:push(item)
  item.place = self.last
end

local function start_anew(self)
  self.first, self.last, self.holes = 1, 0, 0
end

-- Removes the holes.
local function compact(self)
  local to = self.first
  for from = self.first, self.last do
    local item = self[from]
    self[from] = nil
    if item then
      self[to], item.place = item, to
      to = to + 1
    end
  end
  self.last, self.holes = to - 1, 0
end

--- Removes an item that has entered. Does nothing when it is not in the queue.
---@return boolean was_here
function M:leave(item)
  local place = item.place
  if not place or self[place] ~= item then return false end
  self[place], item.place = HOLE, nil
  self.holes = self.holes + 1
  if self:count() == 0 then
    for i = self.first, self.last do
      self[i] = nil
    end
    start_anew(self)
  elseif self.holes > self:count() then
    compact(self)
  end
  return true
end

--- Removes and returns the oldest item; nil when there is none.
function M:pop()
  local first, last = self.first, self.last
  while first <= last do
    local item = self[first]
    self[first] = nil
    if item ~= HOLE then
      if first == last then start_anew(self) else self.first = first + 1 end
      return item
    end
    self.holes = self.holes - 1
    first = first + 1
  end
  start_anew(self)
  return nil
end

--- The oldest item; nil when there is none.
function M:peek()
  for i = self.first, self.last do
    if self[i] ~= HOLE then return self[i] end
  end
  return nil
end

--- Puts a popped item back in front.
function M:unpop(item)
  self.first = self.first - 1
  self[self.first] = item
end

--- Removes and returns the newest item; nil when there is none.
function M:pop_last()
  local first, last = self.first, self.last
  while last >= first do
    local item = self[last]
    self[last] = nil
    if item ~= HOLE then
      if first == last then start_anew(self) else self.last = last - 1 end
      return item
    end
    self.holes = self.holes - 1
    last = last - 1
  end
  start_anew(self)
  return nil
end

function M:count()
  return self.last - self.first + 1 - self.holes
end

--- Removes all items, then calls `fn` with each, oldest first. Items that are added meanwhile stay.
function M:drain(fn)
  local items = {}
  for i = self.first, self.last do
    if self[i] ~= HOLE then items[#items + 1] = self[i] end
    self[i] = nil
  end
  start_anew(self)
  for i = 1, #items do
    fn(items[i])
  end
end

return M
