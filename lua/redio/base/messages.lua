-- SPDX-License-Identifier: MIT
-- Texts for messages: printable names, and suggestions for mistyped ones.

local min = math.min

local M = {}

--- The stage of a connection that shakes hands. (To a plain redis-server a TLS handshake is half a request, which it
--- never answers.)
M.TLS_STAGE = "in the TLS handshake (is it a port for TLS?)"

local LONGEST = 48 -- bytes of a name in a message
local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char)
  return NAMED[char] or ("\\x%02X"):format(char:byte())
end

--- The text of an error value of any type. Never raises.
---@param err any
---@return string
function M.of_error(err)
  local ok, said = pcall(tostring, err)
  return ok and said or "an error with a __tostring that raises"
end

--- `text` on one line. Control characters are escaped, so that no peer can control a terminal or forge lines of a log.
---@param text any
---@return string
function M.printable(text)
  return (tostring(text):gsub("[^\32-\126\128-\255]", escape))
end

--- `name` in quotes, printable and of bounded length.
---@param name any
---@return string
function M.quote(name)
  name = tostring(name)
  if #name > LONGEST then name = name:sub(1, LONGEST) .. "..." end
  return "'" .. M.printable(name) .. "'"
end

-- The edit distance between `a` and `b`: insertions, deletions, substitutions and swaps of neighbours.
local function distance(a, b)
  local before, last = nil, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    local c = a:byte(i)
    for j = 1, #b do
      local d = b:byte(j)
      local cost = c == d and 0 or 1
      local best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and c == b:byte(j - 1) and a:byte(i - 1) == d then best = min(best, before[j - 2] + 1) end
      row[j] = best
    end
    before, last = last, row
  end
  return last[#b]
end

-- The distance of a candidate; nil when it is too far to be suggested.
local function unlikeness(name, candidate)
  local far = distance(name, candidate)
  if far <= 1 + math.floor(#name / 4) and far < #name then return far end
  local part_of = #name >= 3 and candidate:find(name, 1, true)
  local begins = #candidate >= 2 and name:sub(1, #candidate) == candidate
  if part_of or begins then return far end
end

--- Up to three candidates that resemble `name`, the nearest first.
---@param name string
---@param candidates string[]
---@return string[]
function M.near(name, candidates)
  local found = {}
  if type(name) ~= "string" or #name > LONGEST then return found end
  local lower = name:lower()
  for _, candidate in ipairs(candidates) do
    local far = unlikeness(lower, candidate:lower())
    if far then found[#found + 1] = { name = candidate, far = far } end
  end
  table.sort(found, function(a, b)
    if a.far ~= b.far then return a.far < b.far end
    return a.name < b.name
  end)
  local names = {}
  for i = 1, min(3, #found) do
    names[i] = found[i].name
  end
  return names
end

--- Suggestions as the end of a message: "; did you mean 'timeout'?", or "" without any.
---@param name string
---@param candidates string[]
---@return string
function M.did_you_mean(name, candidates)
  local names = M.near(name, candidates)
  if #names == 0 then return "" end
  return "; did you mean '" .. table.concat(names, "' or '") .. "'?"
end

return M
