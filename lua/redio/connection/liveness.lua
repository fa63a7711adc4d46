-- SPDX-License-Identifier: MIT
-- The timers of a connection that the loop reads. An overdue reply ends it. So does, with health checks, a PING on an
-- idle one that is not answered. Any byte counts as life.
-- Specs: promises/10, regress/pause_of_the_process

local task = require "redio.task"

local M = {}

---@class redio.Liveness
local Liveness = {}
Liveness.__index = Liveness

--- Timers hold it weakly: an idle connection must not live by them.
---@param conn redio.LoopConnection
function M.new(conn)
  local weak = setmetatable({ conn }, { __mode = "v" })
  local settings = conn.settings
  return setmetatable({
    patience = settings.read_timeout,
    write_timeout = settings.write_timeout,
    transport = conn.transport,
    conn = weak,
  }, Liveness)
end

local function later(self, field, seconds, step)
  local weak = setmetatable({ self }, { __mode = "v" })
  local transport = self.transport
  self[field] = transport.start_timer(seconds, function()
    local live = weak[1]
    local conn = live and live.conn[1]
    if not conn or conn.lost then return end
    live[field] = nil
    step(live, conn)
  end)
  transport.timer_counts(self[field], false)
end

local function cancel(self, field)
  if self[field] then self.transport.stop_timer(self[field]) end
  self[field] = nil
end

-- replies -------------------------------------------------------------------------------------------------

local watch

-- Seconds for which nothing may move: while bytes wait to be written, or replies to be read.
local function limit(self, conn)
  if conn:unwritten() == 0 then return self.patience end
  conn.backpressure:measure()
  return self.write_timeout or self.patience
end

-- The loop runs its timers before it reads its sockets. After a pause of the process the reply may be there already. So
-- it is overdue only when the loop has read once more.
local function look(self, conn, has_read)
  local seconds = limit(self, conn)
  if not conn:is_busy() or not seconds then return end
  if conn.paused then return watch(self, seconds) end
  local left = conn.active_at + seconds - conn.transport.now()
  -- (the limit may change until then: from writing to reading, or back)
  if left > 0.0005 then return watch(self, math.min(left, self.patience or left, self.write_timeout or left)) end
  if not has_read then
    return task.after_reading(conn.transport, function()
      if not conn.lost and not self.watch_timer then look(self, conn, true) end
    end)
  end
  conn:fail(conn:overdue(seconds, conn:chain_stage(true)))
end

function watch(self, seconds)
  later(self, "watch_timer", seconds, look)
end

--- Watches from now on: something is in flight.
function Liveness:busy()
  if self.watch_timer then return end
  local seconds = math.min(self.patience or math.huge, self.write_timeout or math.huge)
  if seconds < math.huge then watch(self, seconds) end
end

--- How long a reply may take from now on; false: for ever.
function Liveness:set_patience(seconds)
  if self.patience == seconds then return end
  self.patience = seconds
  cancel(self, "watch_timer")
  local conn = self.conn[1]
  if conn and conn:is_busy() then self:busy() end -- awaited from within the read of the last reply
end

-- health checks -------------------------------------------------------------------------------------------

local check

local function is_idle(conn, interval)
  return conn.transport.now() - conn.active_at >= interval - 0.0005
end

-- The answer is overdue when nothing at all has come since, although the connection reads.
local function verdict(self, conn, has_read)
  if conn.heard or conn.paused then return self:watch_health() end
  if not has_read then
    return task.after_reading(conn.transport, function()
      if not conn.lost then verdict(self, conn, true) end
    end)
  end
  conn:fail(conn:overdue_ping())
end

local function ping(conn)
  conn.heard = false
  if conn:submit_ping() then coroutine.yield() end
end

function check(self, conn)
  local interval = conn.settings.health_check_interval
  -- (a session that a handle holds is its own affair: a PING would stand in its MULTI, or get no answer)
  if conn.paused or conn.pinned then return later(self, "health_timer", interval, check) end
  if conn:is_waiting() or not is_idle(conn, interval) then return self:watch_health() end
  coroutine.wrap(ping)(conn)
  later(self, "health_timer", math.min(interval, conn.settings.connect_timeout or interval), verdict)
end

--- From now on PING is sent whenever nothing has been heard for `health_check_interval`.
function Liveness:watch_health()
  local conn = self.conn[1]
  local interval = conn and conn.settings.health_check_interval
  if not interval then return end
  conn.active_at = conn.active_at or conn.transport.now()
  later(self, "health_timer", math.max(0.001, conn.active_at + interval - conn.transport.now()), check)
end

function Liveness:stop()
  cancel(self, "watch_timer")
  cancel(self, "health_timer")
end

return M
