-- SPDX-License-Identifier: MIT
-- laws.lua: checks the laws of the design in the working directory, after `make build`. Prints FILE:LINE: LAW: REASON
-- for each breach. spec/tree/lint_spec.lua breaks each law once.

local source = dofile "tools/source.lua"
local set, output_lines, files, read, split =
  source.set, source.output_lines, source.files, source.read, source.split

local breaches = 0

local function breach(law, place, text, ...)
  breaches = breaches + 1
  print(("%s: %s: %s"):format(place, law, text:format(...)))
end

-- Reading -------------------------------------------------------------------------------------------------

local code = {} -- by path
local function code_lines(path)
  if not code[path] then code[path] = split(source.without_comments(path, read(path))) end
  return code[path]
end

-- Calls `act` for each of the words in a file, outside of comments.
local function each_word(path, words, act)
  for number, line in ipairs(code_lines(path)) do
    for word in line:gmatch "[%a_][%w_]*" do
      if words[word] then act(path .. ":" .. number, word, number) end
    end
  end
end

local function base(path)
  return path:match "[^/]+$"
end

-- The name of the function, when the line begins one.
local function head_of_c(line)
  return line:match "^[%a_][^=;{]-([%w_]+)%s*%("
end

local function head_of_lua(line)
  return line:match "^local function ([%w_]+)" or line:match "^function ([%w_.:]+)"
    or line:match "^[%w_. ]-([%w_]+) = function"
end

-- The functions of a C or Lua file that begin at the margin: a list of {name, first, last}.
local function functions(path)
  local head = path:find "%.lua$" and head_of_lua or head_of_c
  local list, name, first, opened = {}, nil, nil, false
  for number, line in ipairs(code_lines(path)) do
    if not name then name, first, opened = head(line), number, head == head_of_lua end
    opened = opened or line:find("{", 1, true) ~= nil
    if name and not opened and line:find ";%s*$" then
      name = nil -- a declaration
    elseif name and (line:find "^end" or line:find "^}" or number == first and line:find "}%s*$") then
      list[#list + 1] = { name = name, first = first, last = number }
      name = nil
    end
  end
  return list
end

local function function_at(path, number)
  for _, f in ipairs(functions(path)) do
    if f.first <= number and number <= f.last then return f.name end
  end
  return nil
end

-- Allows some words in one function only.
local function one_function(law, path, words, seen, why)
  each_word(path, words, function(place, word, number)
    local name = function_at(path, number)
    if not name then
      breach(law, place, "%s is named outside of a function; %s", word, why)
    elseif seen.name and seen.name ~= name then
      breach(law, place, "%s is named in %s as well as in %s; %s", word, name, seen.name, why)
    end
    seen.name = seen.name or name
  end)
end

-- Layers --------------------------------------------------------------------------------------------------

-- The binding: compat.h, and the files that the Makefile lists.
local binding = { ["compat.h"] = true }
for name in (read("Makefile"):match "\nBINDING = ([^\n]+)" or ""):gmatch "%S+" do
  binding[name .. ".c"], binding[name .. ".h"] = true, true
end

-- The standard library without sockets, clocks, threads and locales.
local pure_headers = set([[assert.h errno.h float.h inttypes.h limits.h math.h stdarg.h stdbool.h
  stddef.h stdint.h stdio.h stdlib.h string.h]])
local process_headers = set "fcntl.h signal.h unistd.h sys/epoll.h sys/un.h"
local lua_headers = set "lua.h lauxlib.h lualib.h luajit.h"

local function check_include(path, number, header, quotes)
  local place, pure = path .. ":" .. number, not binding[base(path)]
  if header:find "^openssl/" then
    if base(path) ~= "tls.c" then breach("one file knows openssl", place, "<%s> belongs to src/tls.c", header) end
  elseif quotes == '"' then
    if pure and binding[header] then
      breach("pure C knows no Lua", place, '"%s" is of the binding; pure C lies below it', header)
    end
  elseif lua_headers[header] then
    if pure then breach("pure C knows no Lua", place, "<%s> belongs to the binding", header) end
  elseif process_headers[header] and base(path) == "lprocess.c" then
    return -- signals, forks and epoll, for transports
  elseif not pure_headers[header] then
    breach("C does no I/O", place, "<%s> is none of the headers without socket, clock or thread", header)
  end
end

-- Calls `act` for each header that a C file includes.
local function each_include(path, act)
  for number, line in ipairs(code_lines(path)) do
    local quotes, header = line:match('^%s*#%s*include%s*([<"])([^>"]+)')
    if header then act(path, number, header, quotes) end
  end
end

local sources = files("src", "*.c *.h")
for _, path in ipairs(sources) do
  each_include(path, check_include)
end

local hosts = set "luv uv ngx"
local picks_transport = "one function picks the transport"
for _, path in ipairs(files("lua", "*.lua")) do
  local transport = path:match "^lua/redio/transport/(.+)%.lua$"
  if transport == "init" then
    one_function(picks_transport, path, hosts, {}, "one function of this file picks the default")
  else
    local host = transport and transport:match "^%a+" -- luv_connect is of luv
    local own = (host == "luv" or host == "uv") and set "luv uv" or set(host or "")
    each_word(path, hosts, function(place, word)
      if not own[word] then breach("only transports name hosts", place, "%s belongs to lua/redio/transport", word) end
    end)
  end
end

-- Folders of lua/redio, and the files beside them, from low to high.
local order = {}
for name in ("base transport task settings command connection endpoint topology chain receive recipe shared_client "
  .. "client init compat testing metrics"):gmatch "%S+" do
  order[#order + 1], order[name] = name, #order + 1
end

local function layer_of(path)
  return path:match "^lua/redio/([%w_]+)"
end

local function path_of(module)
  local path = "lua/" .. module:gsub("%.", "/")
  for _, candidate in ipairs({ path .. ".lua", path .. "/init.lua" }) do
    local file = io.open(candidate)
    if file then
      file:close()
      return candidate
    end
  end
  return nil
end

-- The files that a file requires: a list of {path, line}.
local function requires(path)
  local list = {}
  for number, line in ipairs(code_lines(path)) do
    local required = line:match "require[%s(]*[\"'](redio[%w_.]*)[\"']"
    list[#list + 1] = required and path_of(required)
      and { path = path_of(required), place = path .. ":" .. number }
  end
  return list
end

local down = "a file requires its own layer or a lower one"
for _, path in ipairs(files("lua/redio", "*.lua")) do
  local layer = layer_of(path)
  if layer ~= "meta" then
    if not order[layer] then breach(down, path, "%s is no layer that tools/laws.lua knows", layer) end
    for _, required in ipairs(requires(path)) do
      local other = layer_of(required.path)
      if (order[other] or 0) > (order[layer] or 0) then
        breach(down, required.place, "%s lies above %s", other, layer)
      end
    end
  end
end

-- Finds circles among files. `edges(path)` is a list of {path, place}.
local function find_circles(law, paths, edges)
  local state = {}
  local function visit(path)
    state[path] = "open"
    for _, edge in ipairs(edges(path)) do
      if state[edge.path] == "open" and edge.path ~= path then
        breach(law, edge.place, "%s comes back to %s", edge.path, path)
      elseif not state[edge.path] then
        visit(edge.path)
      end
    end
    state[path] = "done"
  end
  for _, path in ipairs(paths) do
    if not state[path] then visit(path) end
  end
end

find_circles("no circle", files("lua/redio", "*.lua"), requires)

-- NAME.c and NAME.h of src/ count as one file.
local function name_of(path)
  return base(path):match "^[^.]+"
end

-- For each name, what its files include: a list of {path, place}.
local included, names = {}, {}
for _, path in ipairs(sources) do
  local name = name_of(path)
  if not included[name] then included[name], names[#names + 1] = {}, name end
  each_include(path, function(_, number, header, quotes)
    if quotes == '"' and name_of(header) ~= name then
      table.insert(included[name], { path = name_of(header), place = path .. ":" .. number })
    end
  end)
end

find_circles("no circle", names, function(name)
  return included[name] or {}
end)

-- Headers -------------------------------------------------------------------------------------------------

local words = {} -- by path, how often each stands there
local function words_of(path)
  if not words[path] then
    words[path] = {}
    for _, line in ipairs(code_lines(path)) do
      for word in line:gmatch "[%a_][%w_]*" do
        words[path][word] = (words[path][word] or 0) + 1
      end
    end
  end
  return words[path]
end

local function is_defined(path, name)
  for _, f in ipairs(functions(path)) do
    if f.name == name then return true end
  end
  for _, line in ipairs(code_lines(path)) do
    if line:find("^%a[^(]-%f[%w_]" .. name .. "%f[^%w_]%s*[%[=;]") and not line:find "^extern" then return true end
  end
  return false
end

-- Uses in the header itself are those of inline functions.
local function is_used(name, header)
  for _, path in ipairs(sources) do
    if name_of(path) ~= name_of(header) and words_of(path)[name] then return true end
  end
  return words_of(header)[name] > 1
end

-- A header's functions, and its variables, are those of the file of its name, and are for other files.
local declares = "a header declares what its file defines"
for _, path in ipairs(files("src", "*.h")) do
  local owner = name_of(path)
  for number, line in ipairs(code_lines(path)) do
    local inside = function_at(path, number)
    local name = inside or head_of_c(line) or line:match "^extern .-([%w_]+)[%[%]]*;"
    if not inside and name and not is_defined(path:gsub("h$", "c"), name) then
      breach(declares, path .. ":" .. number, "%s is not defined in %s.c", name, owner)
    elseif name and (not inside or head_of_c(line)) and not is_used(name, path) then
      breach(declares, path .. ":" .. number, "no other file uses %s", name)
    end
  end
end

-- Fields and layout ---------------------------------------------------------------------------------------

-- Folders and files of lua/redio for which the laws of this part do not hold yet.
local later = set ""

local function is_later(path)
  for beginning in pairs(later) do
    if path:sub(11, 10 + #beginning) == beginning then return true end
  end
  return false
end

-- The names with a leading _ that a line defines: as a field, as a key of a constructor, or as a function.
local function defined_in(line, set_of_names)
  for before, targets in (" " .. line):gmatch "(.)([%w_.,%s%[%]\"']*)=%f[^=]" do
    if before == "=" then targets = targets:match "[^,]*$" end -- { a = x._b, c = 1 } defines c alone
    for name in targets:gmatch "%f[%w_](_%a[%w_]*)" do
      set_of_names[name] = true
    end
  end
  local method = line:match "function [%w_.]+[.:](_%a[%w_]*)"
  if method then set_of_names[method] = true end
end

local function check_private_fields(path)
  local defined = {}
  for _, line in ipairs(code_lines(path)) do
    defined_in(line, defined)
  end
  for number, line in ipairs(code_lines(path)) do
    for name in line:gmatch "[%w_)%]][.:](_%a[%w_]*)" do
      if not defined[name] then
        breach("a private field stays in its file", path .. ":" .. number, "%s is not defined here", name)
      end
    end
  end
end

local COLUMNS, RULE_COLUMNS = 120, 108

-- The one-line form of an `if` with one statement on a line of its own; nil where that does not fit.
local function one_line_if(lines, number)
  local indent, condition = lines[number]:match "^(%s*)if (.*) then$"
  local body = indent and lines[number + 2] == indent .. "end" and lines[number + 1]:match "^%s*(.*)$"
  if not body or body:find "%-%-" or body:find "[({]$" or body:find "%f[%w]function%f[%W]" then return nil end
  for _, word in ipairs { "if", "for", "while", "local", "repeat", "do" } do
    if body:find("^" .. word .. "%f[%W]") then return nil end
  end
  local line = ("%sif %s then %s end"):format(indent, condition, body)
  return #line <= COLUMNS and line or nil
end

-- True when a call on this line has brackets around one string; a call that goes on after it needs them.
local function has_bracketed_string(line)
  for following in line:gmatch '[%w_]%("[^"\\]*"%)(.?)' do
    if not following:find "[.:%[({]" then return true end
  end
  return false
end

local function check_dialect(path)
  local lines = split(read(path))
  for number, line in ipairs(lines) do
    local wanted
    if one_line_if(lines, number) then
      wanted = "this if fits on one line"
    elseif line:find "^%s*%-%-%-[^%s@-]" then
      wanted = "a space follows ---"
    elseif line:find "^%-%- .-%-%-%-%-+$" and #line ~= RULE_COLUMNS then
      wanted = ("a section's rule ends in column %d"):format(RULE_COLUMNS)
    elseif not line:find "^%s*%-%-" and has_bracketed_string(line) then
      wanted = 'a single string has no brackets: require "x"'
    end
    if wanted then breach("one dialect of Lua", path .. ":" .. number, "%s", wanted) end
  end
end

for _, path in ipairs(files("lua/redio", "*.lua")) do
  if not is_later(path) then
    check_private_fields(path)
    check_dialect(path)
  end
end

-- The binding ---------------------------------------------------------------------------------------------

local calls = set([[lua_call lua_callk lua_pcall lua_pcallk lua_cpcall lua_yield lua_yieldk luaL_callmeta
  luaL_dofile luaL_dostring luaL_requiref luaL_tolstring]])
local resumer = {}
for _, path in ipairs(sources) do
  if binding[base(path)] then
    each_word(path, calls, function(place, word)
      breach("the binding calls no Lua", place, "%s runs Lua code, or yields, under C", word)
    end)
    one_function("the binding calls no Lua", path, set "lua_resume", resumer, "one function may resume")
  end
end

-- Compiled objects ----------------------------------------------------------------------------------------

local build = os.getenv "BUILD" or "build"
local libraries = {
  { file = "core", exports = "luaopen_redio_core", source = "lcore", not_linked = set "ssl crypto uv lua luajit" },
  { file = "tls", exports = "luaopen_redio_tls", source = "ltls", not_linked = set "uv lua luajit" },
}
for _, library in ipairs(libraries) do
  local path = ("%s/redio/%s.so"):format(build, library.file)
  local exported = output_lines(("nm -D --defined-only %s"):format(path))
  if #exported == 0 and #files("src", library.source .. ".c") > 0 then
    breach("a library exports one function", path, "%s is not exported, or the library is not built", library.exports)
  end
  for _, line in ipairs(exported) do
    local name = line:match "(%S+)$"
    if name ~= library.exports then
      breach("a library exports one function", path, "%s is visible", name)
    end
  end
  for _, line in ipairs(output_lines("objdump -p " .. path)) do
    local name = line:match "NEEDED%s+lib(%a+)"
    if library.not_linked[name] then breach("core links nothing", path, "it is linked to lib%s", name) end
  end
end

-- Constant tables of pointers are in .data.rel.ro, and constant once the library is loaded.
for _, line in ipairs(output_lines(("nm -A --format=sysv %s/obj/*.o"):format(build))) do
  local object, symbol, section = line:match "([%w_]+)%.o:([^ |]+).-|([^|]*)$"
  section = section and section:match "^%s*(.-)%s*$" or ""
  if (section:find "^%.data" or section:find "^%.t?bss" or section:find "^%.tdata" or section:find "COM")
    and not section:find "^%.data%.rel%.ro" then
    breach("no state at file scope", ("src/%s.c"):format(object), "%s can be written to", symbol)
  end
end

-- One place for each thing --------------------------------------------------------------------------------

for _, path in ipairs(files("src", "*.c *.h")) do
  each_word(path, set "LUA_VERSION_NUM LUAJIT_VERSION_NUM", function(place, word)
    if path ~= "src/compat.h" then breach("one place knows the version", place, "%s belongs to src/compat.h", word) end
  end)
  for number, line in ipairs(code_lines(path)) do
    if path ~= "src/connection.c" and (line .. " "):find "[>.]state%s*=[^=]" then
      breach("one file assigns the state", path .. ":" .. number, "a state is assigned outside of src/connection.c")
    end
  end
end

for _, path in ipairs(files("lua", "*.lua")) do
  each_word(path, set "_VERSION", function(place, _, number)
    local exported = path == "lua/redio/init.lua" and code_lines(path)[number]:find "_VERSION%s*="
    if path ~= "lua/redio/base/lua_version.lua" and not exported then
      breach("one place knows the version", place, "_VERSION belongs to lua/redio/base/lua_version.lua")
    end
  end)
end

-- Every file ----------------------------------------------------------------------------------------------

local unfinished = set "TODO FIXME XXX HACK"
local everything = files("src lua spec examples tools bench .ci rockspec Makefile .busted .luacheckrc", "*")
for _, path in ipairs(everything) do
  local is_source = path:find "%.[ch]$" or path:find "%.lua$" or path:find "%.sh$" or path:find "%.rockspec$"
    or not base(path):find "%.%a+$"
  if is_source then
    local lines = split(read(path))
    local first = (lines[1] or ""):find "^#!" and lines[2] or lines[1] or ""
    if not first:find("SPDX-License-Identifier: MIT", 1, true) then
      breach("each file names its licence", path .. ":1", "there is no SPDX line")
    end
    for number, line in ipairs(lines) do
      for word in line:gmatch "%f[%w_]%u+%f[^%w_]" do
        if unfinished[word] and path ~= "tools/laws.lua" and path ~= "spec/tree/lint_spec.lua" then
          breach("nothing is left to do", path .. ":" .. number, "%s", word)
        end
      end
    end
  end
end

-- Files over the limit, with the reason.
local length_limits = { c = 600, lua = 400 }
local may_be_longer = {
  ["lua/redio/command/table.lua"] = "data",
  ["lua/redio/meta/commands.lua"] = "generated",
}
for _, path in ipairs(files("src lua", "*.c *.lua")) do
  local limit = length_limits[path:match "%.(%a+)$"]
  local length = #split(read(path))
  if length > limit and not may_be_longer[path] then
    breach("a file has one job", path, "%d lines; more than %d hold two ideas", length, limit)
  end
  for _, f in ipairs(functions(path)) do
    if f.last - f.first >= 60 then
      breach("a function fits a screen", path .. ":" .. f.first, "%s has %d lines", f.name, f.last - f.first + 1)
    end
  end
end

os.exit(breaches == 0 and 0 or 1)
