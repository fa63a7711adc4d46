-- SPDX-License-Identifier: MIT
-- Waiting for messages where nothing calls back: of the light threads that wait on one connection, one reads for all.
-- These are methods of caller.lua's connections.
-- Specs: hosts/nginx/receivers, regress/receiver_in_nginx

local task = require "redio.task"

local M = {}

-- health --------------------------------------------------------------------------------------------------

--- True when silence is answered by a PING: it may only mean that there is nothing to say.
function M:may_ping(record)
  local interval = self.interval
  if not interval or self.pinged or (record and record:left() or 1) <= 0.0005 then return false end
  return interval < (self.patience or math.huge)
end

function M:ping()
  self.pinged = true
  return self:submit_ping() == false and not self.lost
end

-- parking -------------------------------------------------------------------------------------------------

-- Seconds between two looks of those that do not read at whether one does. A program can end a light thread wherever it
-- waits (ngx.thread.kill), and nothing is told.
local GLANCE = 1

-- The socket is closed with the light thread that read from it.
local function look_at_reader(self)
  if not self.reading or not self:is_gone() then return end
  self.reading = false
  self:fail(self:closed_error "the light thread that read from it was ended")
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

local function leave(self, entry)
  self.parked:leave(entry)
  nudge_next(self)
end

local function idle(self, entry)
  local waiter = entry.waiter
  local ok, err = pcall(task.idle, waiter, GLANCE)
  if not ok then
    leave(self, entry)
    error(err, 0)
  end
  if not waiter.values then look_at_reader(self) end
end

local function end_wait(self, entry, err)
  leave(self, entry)
  task.abandon(entry.waiter, err)
end

-- Reads once, and has all that came delivered.
local function read(self, record, entry)
  if not self.socket:is_ours() then return end_wait(self, entry, self:foreign_error()) end
  self.reading = true
  if record then record.conn = self end
  local token = self:read_more(record)
  if record then record.conn = nil end
  self.reading = false
  self:take_unasked()
  if self.hooks.after_read then self.hooks.after_read() end
  if token then end_wait(self, entry, task.interrupted(token)) end
end

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
  leave(self, entry)
  return task.woken(waiter)
end

--- A socket holds itself while its request lives, and the host the light threads that wait for it: the holder is only
--- noted.
function M:keep(holder)
  self.hold = holder
end

function M:read_stop()
  self.paused = true
end

function M:read_start()
  self.paused = false
  nudge_next(self)
end

--- The connection is lost: all that wait look again.
function M:nudge_all()
  self.parked:drain(function(entry)
    task.nudge(entry.waiter)
  end)
end

return M
