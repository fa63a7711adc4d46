-- SPDX-License-Identifier: MIT
-- First in, first out. A table may also enter, and then leave from the middle: it knows its place, and leaves a hole
-- there, so that neither takes longer when many wait.

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

--- As `push`; the item may `leave`.
---@param item table its field `place` is the queue's
function M:enter(item)
  self:push(item)
  item.place = self.last
end

local function start_anew(self)
  self.first, self.last, self.holes = 1, 0, 0
end

-- Closes the holes.
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

--- Takes an item out that has entered; does nothing when it is not here.
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

--- The oldest item; nil when there is none.
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

--- The oldest item, which stays; nil when there is none.
function M:peek()
  for i = self.first, self.last do
    if self[i] ~= HOLE then return self[i] end
  end
  return nil
end

--- Puts an item that was popped back to where it was.
function M:unpop(item)
  self.first = self.first - 1
  self[self.first] = item
end

--- The newest item; nil when there is none.
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

--- Calls `fn` with each item, oldest first, after taking all of them out: what is added meanwhile stays.
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
