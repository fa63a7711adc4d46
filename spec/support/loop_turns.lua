-- SPDX-License-Identifier: MIT
-- Calls functions in the next turns of the luv loop, after it has polled. By then a peer in the same loop has read the
-- bytes of this turn, so that bytes written in two turns arrive in two reads.

local uv = require "luv"

local M = {}

local waiting, due = {}, {}
local handles -- while something waits

local function stop()
  for _, handle in ipairs(handles) do
    handle:close()
  end
  handles = nil
end

local function before_poll()
  waiting, due = {}, waiting
end

local function after_poll()
  local now = due
  due = {}
  for _, fn in ipairs(now) do
    fn()
  end
  if #waiting == 0 then
    stop()
  end
end

local function start()
  local idle, prepare, check = uv.new_idle(), uv.new_prepare(), uv.new_check()
  idle:start(function() end) -- keeps the poll from blocking
  prepare:start(before_poll)
  check:start(after_poll)
  handles = { idle, prepare, check }
end

--- Calls `fn` in the loop's next turn, after the poll.
function M.next(fn)
  waiting[#waiting + 1] = fn
  if not handles then
    start()
  end
end

return M
