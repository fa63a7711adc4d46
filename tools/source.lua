-- SPDX-License-Identifier: MIT
-- source.lua: reads the tree's sources for laws.lua and prose.lua, which load it with dofile from the root.

local M = {}

function M.set(words)
  local s = {}
  for word in words:gmatch "%S+" do
    s[word] = true
  end
  return s
end

--- The lines that a shell command prints.
function M.output_lines(command)
  local lines = {}
  local pipe = io.popen(command .. " 2>/dev/null")
  for line in pipe:lines() do
    lines[#lines + 1] = line
  end
  pipe:close()
  return lines
end

--- The files below the paths of `where` with a name like one of the patterns ("*.c *.h"), sorted.
function M.files(where, patterns)
  local names = {}
  for pattern in patterns:gmatch "%S+" do
    names[#names + 1] = ("-name '%s'"):format(pattern)
  end
  local find = "{ find %s -type f \\( %s \\) | LC_ALL=C sort; }"
  return M.output_lines(find:format(where, table.concat(names, " -o ")))
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

function M.split(text)
  local lines = {}
  for line in (text:gsub("\n$", "") .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = line
  end
  return lines
end

-- Comments and strings ------------------------------------------------------------------------------------

local function quoted(text, from)
  local quote, at = text:sub(from, from), from + 1
  while at <= #text do
    local c = text:sub(at, at)
    if c == quote or c == "\n" then return at end
    at = at + (c == "\\" and 2 or 1)
  end
end

local function to_line_end(text, from)
  return (text:find("\n", from, true) or #text + 1) - 1
end

local function long_bracket(text, from, to)
  local level = text:sub(from, to):match "%[(=*)%[$"
  return select(2, text:find("]" .. level .. "]", to, true))
end

local function to_star_slash(text, from)
  return select(2, text:find("*/", from + 2, true))
end

-- How a comment or a string starts, the function that finds its end (nil: the end of the file), and its kind.
local lua_marks = {
  starts = "[-%[\"']",
  { "^%-%-%[=*%[", long_bracket, "comment" },
  { "^%-%-", to_line_end, "comment" },
  { "^%[=*%[", long_bracket, "string" },
  { "^[\"']", quoted, "string" },
}
local c_marks = {
  starts = "[/\"']",
  { "^/%*", to_star_slash, "comment" },
  { "^//", to_line_end, "comment" },
  { "^[\"']", quoted, "string" },
}

-- The last position and the kind of the piece at `at`; one character of code is a piece, too.
local function extent(text, marks, at)
  for _, mark in ipairs(marks) do
    local from, to = text:find(mark[1], at)
    if from then return mark[2](text, from, to) or #text, mark[3] end
  end
  return at, "code"
end

--- Calls `act(piece, kind)` for each piece of a Lua or C file in order; the kind is "code", "comment" or "string".
function M.each_piece(path, text, act)
  local marks, at = path:find "%.lua$" and lua_marks or c_marks, 1
  while true do
    local first = text:find(marks.starts, at)
    if not first then return act(text:sub(at), "code") end
    if first > at then act(text:sub(at, first - 1), "code") end
    local last, kind = extent(text, marks, first)
    act(text:sub(first, last), kind)
    at = last + 1
  end
end

--- The text with blanks for its comments. Line numbers stay the same.
function M.without_comments(path, text)
  local out = {}
  M.each_piece(path, text, function(piece, kind)
    out[#out + 1] = kind == "comment" and piece:gsub("[^\n]", " ") or piece
  end)
  return table.concat(out)
end

return M
