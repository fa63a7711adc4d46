-- SPDX-License-Identifier: MIT
-- Deadlines where a loop has timers: a timer interrupts the coroutine.
-- Specs: promises/08, regress/cancel_and_deadline, regress/pause_of_the_process

local lua_version = require "redio.base.lua_version"

local M = {}

--- Calls `fn` when the loop has read from the sockets once more. Timers come first in a turn of the loop: after a pause
--- of the whole process a timer is due before the loop has seen what arrived meanwhile.
function M.after_reading(transport, fn)
  transport.defer(function() -- before the loop reads
    transport.defer(fn) -- after it has read
  end)
end

local Deadline = {}
Deadline.__index = Deadline

-- A chain that was not sent in time is not to be sent any more. The reply to one that was sent may have come.
function Deadline:_is_due()
  if self.record:is_unsent() then return self:_strike() end
  M.after_reading(self.transport, function()
    self:_strike()
  end)
end

function Deadline:_strike()
  if self.over then return end
  if self.where then self.where(self.err, self.record:stage()) end
  self.record:interrupt(self)
end

function Deadline:__close()
  self.over = true
  self.transport.stop_timer(self.timer)
  self.record:withdraw(self)
end

--- Runs `fn(...)` in the running coroutine. After `seconds`, `err` is raised where the coroutine waits.
--- `where(err, stage)`, if given, is called before that with the waiter's `stage`, which may be nil.
---@param record redio.Record of the running coroutine
function M.run(record, transport, seconds, err, where, fn, ...)
  local deadline = setmetatable({ record = record, transport = transport, err = err, where = where, over = false },
    Deadline)
  deadline.timer = transport.start_timer(seconds, function()
    deadline:_is_due()
  end)
  return lua_version.with_close(deadline, fn, ...)
end

return M
