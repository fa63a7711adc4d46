-- SPDX-License-Identifier: MIT
-- Tells where one RESP message ends and the next begins, in requests and in replies of both protocols, without building
-- anything of them. Each byte is looked at once. (Not by redio's decoder, which is what the specs are about.)

local M = {}

local Stream = {}
Stream.__index = Stream

---@return table stream
function M.new()
  return setmetatable({
    kind = nil, -- of the message at hand: its first byte
    _items = 0, -- still missing
    _skip = 0, -- bytes of a bulk string that are still to come
  }, Stream)
end

local AGGREGATES = { ["*"] = 1, ["~"] = 1, [">"] = 1, ["%"] = 2, ["|"] = 2 }
local BULKS = { ["$"] = true, ["="] = true, ["!"] = true }

-- The head of one item, which the line at `at` is.
local function head(self, bytes, at)
  local first = bytes:sub(at, at)
  if self._items == 0 then self.kind, self._items = first, 1 end
  if not AGGREGATES[first] and not BULKS[first] then
    self._items = self._items - 1
    return
  end
  local size = math.max(tonumber(bytes:match("^%-?%d+", at + 1)) or 0, -1)
  if AGGREGATES[first] then
    -- (an attribute is no item: what it belongs to follows it)
    self._items = self._items + math.max(size, 0) * AGGREGATES[first] - (first == "|" and 0 or 1)
  else
    self._items = self._items - 1
    if size >= 0 then self._skip = size + 2 end
  end
end

--- Scans `bytes` from `at` on, which is where the last call ended.
---@param bytes string
---@param at integer
---@return integer at behind what was scanned
---@return boolean ended whether the message at hand ends there; without, more bytes are needed
function Stream:scan(bytes, at)
  repeat
    if self._skip > 0 then
      local here = math.min(self._skip, #bytes - at + 1)
      at, self._skip = at + here, self._skip - here
      if self._skip > 0 then return at, false end
    else
      local stop = bytes:find("\n", at, true)
      if not stop then return at, false end
      head(self, bytes, at)
      at = stop + 1
    end
  until self._items == 0 and self._skip == 0
  return at, true
end

--- The items of an aggregate: their bytes, each by itself.
---@param text string the whole of it
---@return string[]
function M.items(text)
  local items, at = {}, text:find("\n", 1, true) + 1
  local stream = M.new()
  while at <= #text do
    local stop = stream:scan(text, at)
    items[#items + 1] = text:sub(at, stop - 1)
    at = stop
  end
  return items
end

--- The words of a request: an array of bulk strings, or a line.
---@param text string the whole of it
---@return string[]
function M.words(text)
  local words = {}
  if text:sub(1, 1) ~= "*" then
    for word in text:gmatch "%S+" do
      words[#words + 1] = word
    end
    return words
  end
  for i, item in ipairs(M.items(text)) do
    words[i] = item:match "^%$%d+\r\n(.*)\r\n$"
  end
  return words
end

return M
