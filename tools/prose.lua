-- SPDX-License-Identifier: MIT
-- prose.lua [--count]: checks the words of comments, of strings in lua/ and src/, and of *.md (without code). Code is
-- no person, and a sentence begins with its subject; CONTRIBUTING.md has the rules. Prints FILE:LINE: WORDS for each
-- finding and fails when there is one. With --count: for each area its words, and its findings per 1,000 of them.
-- spec/tree/lint_spec.lua breaks each rule once.

local source = dofile "tools/source.lua"
local set = source.set

-- Files that are not checked yet, by the beginnings of their paths.
local later = set ""

local person = set [[who whoever whom whose nobody somebody someone anybody anyone everybody everyone he him his himself
  stranger strangers]]
local opening = set "what who whether that those"

local generated = set "lua/redio/meta/commands.lua" -- the words are those of Redis

local areas = {
  { "lua", "lua", "*.lua" },
  { "src", "src", "*.c *.h" },
  { "tools", "tools .ci Makefile", "*.lua *.sh run Makefile" },
  { "bench", "bench", "*.lua *.c *.sh *.py *.js" },
  { "examples", "examples", "*.lua *.c" },
  { "docs", "docs *.md bench/*.md", "*.md" },
}

-- Paragraphs ----------------------------------------------------------------------------------------------

-- A paragraph is a list of {line = number, text = string}. With `is_string` it is a literal, which has no sentences.
local function paragraphs()
  local list, open = {}, nil
  local function close()
    open = nil
  end
  local function add(line, text)
    if not open then
      open = {}
      list[#list + 1] = open
    end
    open[#open + 1] = { line = line, text = text }
  end
  return list, add, close
end

-- Adds one line of a comment. Annotations and blank lines end a paragraph.
local function add_comment_line(add, close, number, text)
  local words = text:gsub("^%s+", ""):gsub("%s*%-%-%-+%s*$", ""):gsub("%s+$", "")
  local annotation = words:match "^@(.*)$"
  if words == "" or annotation or words:find "^SPDX" then close() end
  if annotation then
    add(number, "@" .. annotation)
    close()
  elseif words ~= "" and not words:find "^SPDX" then
    add(number, words)
  end
end

-- The paragraphs of a file in Lua or C.
local function read_code(path, text, with_strings)
  local list, add, close = paragraphs()
  local number, is_blank = 1, true -- nothing but blanks precedes on this line
  source.each_piece(path, text, function(piece, kind)
    if kind == "comment" then
      if not is_blank then close() end
      local body = piece:gsub("^%-%-%[=*%[", ""):gsub("%]=*%]$", ""):gsub("^%-+", ""):gsub("^/[/*]+", "")
        :gsub("%*+/$", "")
      for at, line in ipairs(source.split(body)) do
        add_comment_line(add, close, number + at - 1, at == 1 and line or line:gsub("^%s*%*+%s?", ""))
      end
      if not is_blank or piece:find "^/%*" then close() end
    elseif kind == "string" and with_strings then
      close()
      list[#list + 1] = { { line = number, text = piece }, is_string = true }
      is_blank = false
    elseif piece:find "%S" then
      close()
      is_blank = false
    end
    number = number + select(2, piece:gsub("\n", ""))
    local last = piece:match "\n([^\n]*)$"
    if last then is_blank = not last:find "%S" end
    if piece:find "\n%s*\n" then close() end
  end)
  return list
end

-- The paragraphs of a file with comments after #.
local function read_script(_, text)
  local list, add, close = paragraphs()
  for number, line in ipairs(source.split(text)) do
    local before, words = line:match "^(.-)#+%s+(.*)$"
    local is_comment = before and (before == "" or before:find "%s$") and not before:find "[\"'`]"
    if not is_comment or before:find "%S" then close() end
    if is_comment then add_comment_line(add, close, number, words) end
  end
  return list
end

-- The words of a line of Markdown: link texts without targets.
local function markdown_words(line)
  return (line:gsub("!?%[([^%]]*)%]%([^)]*%)", "%1"):gsub("%*%*", ""):gsub("https?://%S+", "x"))
end

local function read_markdown(_, text)
  local list, add, close = paragraphs()
  local fence = nil
  for number, line in ipairs(source.split(text)) do
    local mark = line:match "^%s*(```+)"
    if mark then
      fence = not fence and mark or nil
      close()
    elseif not fence then
      local item = line:match "^%s*[-*]%s+(.*)$" or line:match "^%s*%d+%.%s+(.*)$" or line:match "^#+%s+(.*)$"
      if item or not line:find "%S" or line:find "^%s*|" then close() end
      if line:find "^%s*|" then
        for cell in line:gsub("`[^`]*`", "x"):gmatch "[^|]+" do
          if cell:find "%a" then add(number, markdown_words(cell):gsub("^%s+", "")) end
          close()
        end
      elseif line:find "%S" and not line:find "^<!%-%-" then
        local words = item or line:gsub("^%s*>?%s*", "")
        add(number, markdown_words(words))
      end
      if line:find "^#" then close() end
    end
  end
  return list
end

local function read_paragraphs(path, text)
  if path:find "%.md$" then return read_markdown(path, text) end
  if path:find "%.lua$" or path:find "%.[ch]$" or path:find "%.js$" then
    return read_code(path, text, path:find "^lua/" or path:find "^src/")
  end
  return read_script(path, text)
end

-- Findings ------------------------------------------------------------------------------------------------

-- True when a sentence begins at `at`.
local function begins_sentence(text, at)
  local before = text:sub(1, at - 1):gsub("[%s(*_\"]+$", "")
  return before == "" or before:find "[.!?][)'\"]*$" ~= nil and text:sub(at, at):find "%u" ~= nil
end

-- Calls `act(line, words)` for each finding; returns the number of words.
local function check(paragraph, act)
  local texts, starts, length = {}, {}, 0
  for i, part in ipairs(paragraph) do
    texts[i], starts[i] = part.text, length
    length = length + #part.text + 1
  end
  local said = table.concat(texts, " ")
  local text = said:gsub("`[^`]*`", function(code)
    return ("`"):rep(#code)
  end)
  local function line_at(at)
    for i = #starts, 1, -1 do
      if starts[i] < at then return paragraph[i].line end
    end
  end
  local count = 0
  for at, word in text:gmatch "()%f[%w_](%a[%a']*)%f[^%w_]" do
    count = count + 1
    local plain = word:lower():match "^%a+" -- without 's
    local opens = opening[plain] and not paragraph.is_string and begins_sentence(text, at)
    if person[plain] or opens then act(line_at(at), said:sub(at):match "^%S+ ?%S* ?%S* ?%S*") end
  end
  return paragraph.is_string and 0 or count
end

local function is_later(path)
  for beginning in pairs(later) do
    if path:sub(1, #beginning) == beginning then return true end
  end
  return false
end

-- Calls `act(place, words)` for each finding in a file; returns the number of words and of findings.
local function check_file(path, act)
  local words, findings = 0, 0
  for _, paragraph in ipairs(read_paragraphs(path, source.read(path))) do
    words = words + check(paragraph, function(line, found)
      findings = findings + 1
      act(path .. ":" .. line, found)
    end)
  end
  return words, findings
end

-- Calls `act(path)` for each file of an area.
local function each_file(area, act)
  for _, path in ipairs(source.files(area[2], area[3])) do
    if not generated[path] then act(path) end
  end
end

local function count()
  print(("%-10s %8s %9s %10s"):format("area", "words", "findings", "per 1,000"))
  for _, area in ipairs(areas) do
    local words, findings = 0, 0
    each_file(area, function(path)
      local w, f = check_file(path, function() end)
      words, findings = words + w, findings + f
    end)
    print(("%-10s %8d %9d %10.1f"):format(area[1], words, findings, findings * 1000 / words))
  end
end

local function lint()
  local total = 0
  for _, area in ipairs(areas) do
    each_file(area, function(path)
      if is_later(path) then return end
      total = total + select(2, check_file(path, function(place, found)
        print(("%s: %s"):format(place, found))
      end))
    end)
  end
  return total == 0
end

if arg[1] == "--count" then count() else os.exit(lint() and 0 or 1) end
