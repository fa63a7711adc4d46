-- SPDX-License-Identifier: MIT
-- Deadlines: functions that may take so long and no longer.
-- Specs: unit/task, promises/08, regress/cancel_and_deadline

local lua_version = require "redio.base.lua_version"
local park = require "redio.task.coroutines"

local records = park.records

local M = {}

--- Calls `fn` when the loop has read from the sockets once more. Timers come first in a turn of the loop, so after a
--- pause of the whole process they are due before what has come meanwhile was seen.
function M.after_reading(transport, fn)
  transport.defer(function() -- before the loop reads
    transport.defer(fn) -- behind it
  end)
end

local Deadline = {}
Deadline.__index = Deadline

-- A chain that was not sent in time is not to be sent; the answer to any other may have come.
function Deadline:_is_due()
  if park.is_unsent(self.record) then return self:_strike() end
  M.after_reading(self.transport, function()
    self:_strike()
  end)
end

function Deadline:_strike()
  if self.over then return end
  if self.where then self.where(self.err, park.stage_of(self.record)) end
  park.interrupt(self.record, self)
end

-- Its function has ended, in time or not.
function Deadline:__close()
  self.over = true
  self.transport.stop_timer(self.timer)
  park.withdraw(self.record, self)
  if self.is_first then records[self.record._co] = nil end
end

--- Runs `fn(...)` in this coroutine; once `seconds` are over, `err` is raised where it waits; `where(err, stage)`, if
--- given, is told before what it waits for: the waiter's `stage`, or nil.
function M.with_deadline(transport, seconds, err, where, fn, ...)
  local co = coroutine.running()
  local record = records[co]
  local deadline = setmetatable({ transport = transport, err = err, where = where, over = false }, Deadline)
  if not record then -- a coroutine that is no task
    record = { _co = co, _waiter = false, _pending = false }
    records[co], deadline.is_first = record, true
  end
  deadline.record = record
  deadline.timer = transport.start_timer(seconds, function()
    deadline:_is_due()
  end)
  return lua_version.with_close(deadline, fn, ...)
end

return M
