-- SPDX-License-Identifier: MIT
-- First in, first out.

local M = {}
M.__index = M

function M.new()
  return setmetatable({ first = 1, last = 0 }, M)
end

function M:push(item)
  local last = self.last + 1
  self.last = last
  self[last] = item
end

--- The oldest item; nil when there is none.
function M:pop()
  local first = self.first
  if first > self.last then return nil end
  local item = self[first]
  self[first] = nil
  if first == self.last then
    self.first, self.last = 1, 0
  else
    self.first = first + 1
  end
  return item
end

function M:count()
  return self.last - self.first + 1
end

--- Calls `fn` with each item, oldest first, after taking all of them out: what is added meanwhile stays.
function M:drain(fn)
  local items = {}
  for i = self.first, self.last do
    items[#items + 1], self[i] = self[i], nil
  end
  self.first, self.last = 1, 0
  for i = 1, #items do
    fn(items[i])
  end
end

--- Takes out all for which `fn(item)` is false.
function M:keep(fn)
  local kept = M.new()
  for i = self.first, self.last do
    if fn(self[i]) then kept:push(self[i]) end
    self[i] = nil
  end
  self.first, self.last = 1, 0
  for i = 1, kept.last do
    self:push(kept[i])
  end
end

--- Takes an item out of the middle.
function M:remove(item)
  self:keep(function(other)
    return other ~= item
  end)
end

return M
