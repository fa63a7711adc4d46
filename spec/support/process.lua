-- SPDX-License-Identifier: MIT
--- What this process holds just now, as the kernel, the loop and Lua itself count it.

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
    return 0 -- sanitizers keep what is freed, and more: what is resident says nothing of us
  end
  local kilobytes = value:match "^(%d+) kB$"
  return kilobytes and tonumber(kilobytes) * 1024 or value
end

--- Collects what can be collected; more than once, for finalizers free what others hold.
function process.collect()
  for _ = 1, 4 do
    collectgarbage()
  end
end

--- What is open: descriptors, by what they lead to.
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

--- Entries of Lua's registry, where references from C stay for ever if they are not given back.
---@return integer
function process.registry()
  local count = 0
  for _, value in pairs(debug.getregistry()) do
    -- (a slot that was given back holds the number of the next free one)
    count = count + (type(value) == "number" and 0 or 1)
  end
  return count
end

--- All of these, after a collection: to be compared with what they were before.
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

return process
