-- SPDX-License-Identifier: MIT
-- Waiting for messages where nothing calls back: of the light threads that wait on one connection, one reads for all.
-- These are methods of pull.lua's connections.

local core = require "redio.core"
local errors = require "redio.base.errors"
local task = require "redio.task"

local M = {}

-- health --------------------------------------------------------------------------------------------------

local PING = core.command { name = "PING", silent = true }

-- Whether it is silent because there is nothing to be said.
function M:_may_be_idle(record)
  local interval = self._interval
  if not interval or self._pinged or (record and record:left() or 1) <= 0.0005 then return false end
  return interval < (self.liveness.seconds or math.huge)
end

function M:_ping()
  self._pinged = true
  local pipeline = core.pipeline()
  core.encode(pipeline, PING)
  return self:submit(pipeline, core.OWN) == false and not self.lost
end

-- parking -------------------------------------------------------------------------------------------------

-- Seconds between two looks of those that do not read at whether one does. A program can end a light thread wherever it
-- waits (ngx.thread.kill), and nothing is told.
local GLANCE = 1

-- The socket is closed with the light thread that read from it.
local function look_at_reader(self)
  if not self.reading or not self:is_gone() then return end
  self.reading = false
  self:fail(self:_closed_error "the light thread that read from it was ended")
end

local function idle(self, entry)
  local waiter = entry.waiter
  local ok, err = pcall(task.idle, waiter, GLANCE)
  if not ok then
    self:_leave(entry)
    error(err, 0)
  end
  if not waiter.values then look_at_reader(self) end
end

local function end_wait(self, entry, err)
  self:_leave(entry)
  task.abandon(entry.waiter, err)
end

-- Reads once, and has all that came delivered.
local function read(self, record, entry)
  if not self.socket:is_ours() then
    local words = "this connection belongs to another request: each needs one of its own"
    return end_wait(self, entry, errors.new("ConnectionError", words, { address = self.address, permanent = true }))
  end
  self.reading = true
  if record then record.conn = self end
  local token = self:_read_more(record)
  if record then record.conn = nil end
  self.reading = false
  self:_pump()
  if self.hooks.after_read then self.hooks.after_read() end
  if token then end_wait(self, entry, task.interrupted(token)) end
end

--- Waits until `task.wake(waiter, ...)`.
function M:park(waiter)
  local record, entry = task.begin(waiter), { waiter = waiter }
  task.watch(waiter)
  self.parked:enter(entry)
  while not waiter.values do
    if self.reading or self.paused or self.lost then
      idle(self, entry)
    else
      read(self, record, entry)
    end
  end
  self:_leave(entry)
  return task.woken(waiter)
end

-- Another of those that wait is to read.
local function nudge_next(self)
  local other = self.parked:peek()
  while other and task.is_dead(other.waiter) do
    self.parked:leave(other)
    other = self.parked:peek()
  end
  if other then task.nudge(other.waiter) end
end

function M:_leave(entry)
  self.parked:leave(entry)
  nudge_next(self)
end

--- Leaves what comes to the network until `read_start`.
function M:read_stop()
  self.paused = true
end

function M:read_start()
  self.paused = false
  nudge_next(self)
end

--- The connection is lost: all that wait look again.
function M:_nudge_all()
  self.parked:drain(function(entry)
    task.nudge(entry.waiter)
  end)
end

return M
