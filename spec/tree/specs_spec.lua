-- SPDX-License-Identifier: MIT
-- The specs of a module are found by its name (spec/unit/NAME_spec.lua), or in the last line of its head: "Specs:" and
-- their names, such as "promises/13, client/handle, hosts/nginx, fuzz/connection". Specs that any text names exist, and
-- spec/README.md names all that there is.

local uv = require "luv"

local function lines_of(command, ...)
  local pipe, list = io.popen(command:format(...)), {}
  for line in pipe:lines() do
    list[#list + 1] = line
  end
  pipe:close()
  return list
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function modules()
  return lines_of "{ find lua/redio -name '*.lua' ! -path lua/redio/meta/commands.lua; ls src/*.c; } | LC_ALL=C sort"
end

-- The comments before the first line of code: in C, all that precede it.
local function head_of(path)
  local text = read(path)
  local list = {}
  if path:find "%.c$" then
    for comment in text:match "^[^#]*":gmatch "/%*.-%*/" do
      list[#list + 1] = comment:gsub("\n %*", "\n"):gsub("%s*%*/$", "")
    end
  else
    for line in text:gmatch "([^\n]*)\n" do
      if not line:find "^%-%-" then break end
      list[#list + 1] = line:gsub("^%-+ ?", "")
    end
  end
  return table.concat(list, "\n") .. "\n"
end

-- The names in the head's line; nil if there is none.
local function named_in(head)
  local line = head:match "Specs: ([^\n]*)\n"
  if not line then return nil end
  local names = {}
  for name in line:gmatch "[^,%s]+" do
    names[#names + 1] = name
  end
  return names
end

-- "promises/13" is that number's file. A folder is all specs in it.
local function exists(name)
  local path = "spec/" .. name
  local stat = uv.fs_stat(path)
  if stat and stat.type == "directory" then return #lines_of("find '%s' -name '*_spec.lua'", path) > 0 end
  if name:find "^promises/%d+$" then return #lines_of("ls %s_*_spec.lua 2>/dev/null", path) == 1 end
  return uv.fs_stat(path .. "_spec.lua") ~= nil or name:find "^fuzz/" ~= nil and uv.fs_stat(path .. ".c") ~= nil
end

local function has_one_of_its_name(path)
  local name = path:gsub("/init%.lua$", ""):match "([^/.]+)[^/]*$"
  return exists("unit/" .. name)
end

describe("specs", function()
  it("are found for each module and each C file", function()
    local missing = {}
    for _, path in ipairs(modules()) do
      if not named_in(head_of(path)) and not has_one_of_its_name(path) then missing[#missing + 1] = path end
    end
    assert(#missing == 0, "no specs by name, and no line \"Specs:\" at the end of the head:\n"
      .. table.concat(missing, "\n"))
  end)

  it("that heads name are there", function()
    local wrong = {}
    for _, path in ipairs(modules()) do
      for _, name in ipairs(named_in(head_of(path)) or {}) do
        if not exists(name) then wrong[#wrong + 1] = path .. ": " .. name end
      end
    end
    assert.same({}, wrong)
  end)

  it("that other texts name are there", function()
    local wrong = {}
    for _, path in ipairs(lines_of "ls *.md docs/*.md spec/*.md Makefile .ci/run tools/*") do
      for name in read(path):gmatch "[%w_/]*%w_spec%.lua" do
        local place = "spec/" .. name:gsub("^/?spec/", "")
        local is_there = name:find "/" and uv.fs_stat(place) or #lines_of("find spec -name '%s'", name) > 0
        if not is_there then wrong[#wrong + 1] = path .. ": " .. name end
      end
    end
    assert.same({}, wrong)
  end)

  it("have a README that names each folder and each file of support/", function()
    local readme, wrong = read "spec/README.md", {}
    for _, path in ipairs(lines_of "ls -d spec/*/ spec/support/*") do
      local name = path:match "^spec/([^/]+/)$" or path:match "([^/.]+)[^/]*$"
      if not readme:find("`" .. name .. "`", 1, true) then wrong[#wrong + 1] = path end
    end
    for name in readme:match "\n## Support\n(.*)$":gmatch "`([%w_]+)`" do
      if #lines_of("ls spec/support/%s.* 2>/dev/null", name) == 0 then wrong[#wrong + 1] = "README: " .. name end
    end
    assert.same({}, wrong)
  end)
end)
