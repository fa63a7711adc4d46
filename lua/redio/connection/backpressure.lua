-- SPDX-License-Identifier: MIT
-- Write backpressure. At `max_queued_bytes` the core refuses chains ("full"). Callers wait here, first in first out,
-- until there is room.
-- Specs: promises/13, client/linear, hosts/nginx/linear

local core = require "redio.core"
local link = require "redio.connection"
local queue = require "redio.base.queue"
local task = require "redio.task"

local M = {}

-- Bytes written between two looks at how many of them the network has taken.
local LOOK_AGAIN = 1024 * 1024

local core_waiting = getmetatable(core.connection()).__index.waiting

---@class redio.Backpressure
local Backpressure = {}
Backpressure.__index = Backpressure

function M.new(conn)
  return setmetatable({
    conn = conn,
    most = conn.settings.max_queued_bytes,
    unwritten = 0, -- an upper bound, mended when it is large
    waiters = queue.new(),
    choked = false, -- by the network
    draining = false,
    looking = false,
  }, Backpressure)
end

--- Counts bytes that went to the socket.
function Backpressure:wrote(size)
  self.unwritten = self.unwritten + size
  if self.unwritten >= math.min(LOOK_AGAIN, self.most) then self:measure() end
end

--- Looks at how many bytes wait for the network, again and again until none does. While they are too many the core
--- takes no chains.
function Backpressure:measure()
  local conn = self.conn
  self.unwritten = conn:unwritten()
  if not self.choked and self.unwritten >= self.most then
    self.choked = true
    conn.core:choke(true)
  end
  if self.unwritten > 0 and not self.draining then self:_drain() end
end

-- Looks every few milliseconds until all is taken: not every transport tells when its queue drains. A queue that gets
-- shorter is a sign of life, for the kernel takes more only when the peer has read.
function Backpressure:_drain()
  local conn = self.conn
  self.draining = true
  conn.transport.start_timer(0.005, function()
    if conn.lost then return end
    local before = self.unwritten
    self.unwritten = conn:unwritten()
    if self.unwritten < before then conn.active_at = conn.transport.now() end
    if self.unwritten > 0 then
      self:_drain()
    else
      self.draining = false
    end
    if self.choked and self.unwritten <= self.most / 2 then
      self.choked = false
      self:_let_in()
    end
  end)
end

-- Wakes waiters in order while there is room. While any is left, the core refuses newcomers, which wait behind it.
function Backpressure:_let_in()
  local conn, waiters = self.conn, self.waiters
  self.looking = false
  if self.choked or conn.lost then return end
  conn.core:choke(false)
  while waiters:count() > 0 do
    local _, bytes = core_waiting(conn.core)
    if bytes >= self.most then break end
    task.wake(waiters:pop())
    if conn.lost then return end
  end
  if waiters:count() > 0 then
    conn.core:choke(true)
    self:_look()
  end
end

-- Unless the network is behind, only the output of this turn is too large, and the next one has room.
function Backpressure:_look()
  if self.looking or self.choked then return end
  self.looking = true
  self.conn.transport.defer(function()
    self:_let_in()
  end)
end

--- Waits until submit may be tried again, or the connection is lost.
function Backpressure:wait()
  local conn, waiter = self.conn, { stage = link.ROOM }
  waiter.abandon = function()
    self.waiters:leave(waiter)
    if conn.exclusive then conn:close "its command was cancelled" end
  end
  self.waiters:enter(waiter)
  conn.core:choke(true)
  self:_look()
  task.wait(waiter)
end

--- The connection is lost: wakes all waiters.
function Backpressure:close()
  while self.waiters:count() > 0 do
    task.wake(self.waiters:pop())
  end
end

return M
