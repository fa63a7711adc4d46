-- SPDX-License-Identifier: MIT
-- The holdings of this process: descriptors, handles of the loop, entries of the registry, memory.

local uv = require "luv"

local process = {}

--- A line of /proc/self/status: "VmRSS" and its kind in bytes, signal masks as their hexadecimal digits.
---@param field string
---@return number|string
function process.status(field)
  local file = assert(io.open("/proc/self/status", "r"))
  local text = file:read "*a"
  file:close()
  local value = text:match("\n" .. field .. ":%s*([^\n]*)")
  if not value then
    error("no line '" .. field .. "' in /proc/self/status")
  end
  if field:find "^Vm" and os.getenv "REDIO_SANITIZED" then
    return 0 -- sanitizers keep freed memory, so that the resident size says nothing
  end
  local kilobytes = value:match "^(%d+) kB$"
  return kilobytes and tonumber(kilobytes) * 1024 or value
end

--- Collects garbage, more than once: a finalizer may free what is collected only the next time.
function process.collect()
  for _ = 1, 4 do
    collectgarbage()
  end
end

--- The open descriptors, by what they lead to.
---@return table list
function process.descriptors()
  local list = {}
  -- (Asked one by one: to read the directory would itself open one.)
  for number = 0, tonumber(process.status "FDSize") - 1 do
    local target = uv.fs_readlink("/proc/self/fd/" .. number)
    if target then
      list[#list + 1] = target
    end
  end
  return list
end

--- Handles of the loop that are not yet closing.
---@return integer
function process.handles()
  local count = 0
  uv.walk(function(handle)
    count = count + (handle:is_closing() and 0 or 1)
  end)
  return count
end

--- References in Lua's registry. A reference from C that is never released stays there.
---@return integer
function process.registry()
  local count = 0
  for key, value in pairs(debug.getregistry()) do
    -- (a released slot holds the number of the next free one)
    if type(key) == "number" and type(value) ~= "number" then count = count + 1 end
  end
  return count
end

--- All of these, after a collection, to be compared with an earlier result.
---@return table {descriptors, handles, registry, lua (bytes), resident (bytes)}
function process.holdings()
  process.collect()
  return {
    descriptors = #process.descriptors(),
    handles = process.handles(),
    registry = process.registry(),
    lua = collectgarbage "count" * 1024,
    resident = process.status "VmRSS",
  }
end

local function describe_handles()
  local list = {}
  uv.walk(function(handle)
    local due = handle.get_due_in and handle:get_due_in()
    list[#list + 1] = tostring(handle):match "^[%w_]+" .. (due and (" due in %d ms"):format(due) or "")
  end)
  return table.concat(list, ", ")
end

--- The descriptors, handles and registry entries that are more than before, as text; nil if none are.
---@param before table of holdings()
---@return string?
function process.excess(before)
  local after, said = process.holdings(), {}
  for _, what in ipairs { "handles", "descriptors", "registry" } do
    if after[what] > before[what] then
      said[#said + 1] = ("%s: %d before, %d after"):format(what, before[what], after[what])
    end
  end
  if after.descriptors > before.descriptors then said[#said + 1] = table.concat(process.descriptors(), ", ") end
  if after.handles > before.handles then said[#said + 1] = describe_handles() end
  return said[1] and table.concat(said, "; ")
end

return process
