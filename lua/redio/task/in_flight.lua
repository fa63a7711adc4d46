-- SPDX-License-Identifier: MIT
-- Connections with chains in flight, and the coroutines that wait for their replies, for hosts with a loop. The core of
-- a connection resumes such a coroutine itself, so the core alone knows what the coroutine waits for.
-- Specs: promises/02, promises/03, promises/27

local switch = require "redio.task.switch"

local running = coroutine.running

local M = {}

-- Nothing else may refer to these connections. The shared ones are in a list as well, for a search: of `pairs`,
-- LuaJIT of early 2022 (in Debian 12) may make machine code that follows half a pointer.
local busy, busy_shared = {}, {}

--- True when a connection has something in flight.
function M.is_busy(conn)
  return busy[conn] ~= nil
end

--- Notes that a connection has something in flight from now on, or nothing any more.
function M.set_busy(conn, is_busy)
  local place = busy[conn]
  if is_busy == (place ~= nil) then return end
  if is_busy then
    busy[conn] = conn.exclusive and 0 or #busy_shared + 1
    if not conn.exclusive then busy_shared[#busy_shared + 1] = conn end
    return
  end
  busy[conn] = nil
  if place == 0 then return end
  local last = table.remove(busy_shared)
  if last ~= conn then busy_shared[place], busy[last] = last, place end
end

-- coroutine -> the connection of its own at which it waits for replies
local alone = setmetatable({}, { __mode = "kv" })

local alone_guard = switch.guard(function(conn)
  alone[running()] = nil
  conn:close "the coroutine that waited for its reply was closed"
end)

local function came_back_alone(...)
  alone[running()] = nil
  return ...
end

--- Waits for the chain that was submitted to a connection of the caller's own.
---@return any ... as the core resumes: a token and the results
function M.wait_alone(conn)
  alone[running()] = conn
  return came_back_alone(switch.yield(conn, alone_guard))
end

--- Finds the chain that a coroutine waits for. The search costs an interruption something, and a wait nothing.
---@return redio.Connection? conn
---@return integer? slot
---@return boolean? sent
function M.find(co)
  local own = alone[co]
  if own then
    local slot, sent = own.core:find(own.waiters, co)
    if slot then return own, slot, sent end
  end
  for i = 1, #busy_shared do
    local conn = busy_shared[i]
    local slot, sent = conn.core:find(conn.waiters, co)
    if slot then return conn, slot, sent end
  end
end

--- Abandons the chain that a coroutine waits for, if there is one.
---@return boolean abandoned
function M.abandon_chain(co)
  local conn, slot = M.find(co)
  if conn then conn:abandon(slot) end
  return conn ~= nil
end

return M
