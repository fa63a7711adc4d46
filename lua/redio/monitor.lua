-- SPDX-License-Identifier: MIT
-- What the server executes, line by line.

local core = require "redio.core"
local queue = require "redio.queue"
local task = require "redio.task"

local M = {}

---@class redio.Monitor
---@field closed boolean
local Monitor = {}
Monitor.__index = Monitor
Monitor.__name = "redio.Monitor"

local MONITOR = core.command { name = "MONITOR", silent = true }

function M.new(client)
  return setmetatable({ _client = client, _lines = queue.new(), closed = false }, Monitor)
end

function Monitor:_push(line)
  if not self._started then
    self._started = true -- +OK
    return self:_wake()
  end
  self._lines:push(line)
  if self._lines:count() >= self._client.settings.queue_limit and not self._paused then
    self._paused = true
    self._conn:read_stop()
  end
  self:_wake()
end

function Monitor:_wake()
  if self._waiter then task.wake(self._waiter) end
end

function Monitor:_open()
  local conn, err = self._client._pool:acquire {
    receiver = true,
    lines = true,
    on_push = function(_, line)
      self:_push(line)
    end,
  }
  if not conn then error(err, 0) end
  conn.liveness:set_patience(false)
  conn.on_lost = function()
    self:_wake()
  end
  self._conn = conn
  local pipeline = core.pipeline()
  core.encode(pipeline, MONITOR)
  conn:submit(pipeline, core.OWN)
end

--- Starts now; returns the monitor when the server has confirmed.
function Monitor:connect()
  if not task.can_wait() then return task.block(self._client.transport, self.connect, self) end
  if not self._conn then self:_open() end
  while not self._started and not self._conn.lost do
    self:_wait()
  end
  if self._conn.lost and not self.closed then error(self._conn.lost, 0) end
  return self
end

function Monitor:_wait()
  self._waiter = {}
  self._conn:keep(true)
  self._conn:park(self._waiter)
  self._waiter = nil
  self._conn:keep(false)
end

-- '1700000000.123456 [0 127.0.0.1:50000] "SET" "key" "value"'
local function parse(line)
  local time, database, address, rest = line:match "^(%d+%.%d+) %[(%d+) (.-)%] (.*)$"
  return { line = line, time = tonumber(time), database = tonumber(database), address = address, command = rest }
end

--- The next command: {line=, time=, database=, address=, command=}; nil after close().
function Monitor:await()
  if not task.can_wait() then return task.block(self._client.transport, self.await, self) end
  if self.closed then return nil end
  self:connect()
  while self._lines:count() == 0 do
    if self.closed then return nil end
    if self._conn.lost then error(self._conn.lost, 0) end
    self:_wait()
  end
  local line = self._lines:pop()
  if self._paused and self._lines:count() <= self._client.settings.queue_limit / 2 and not self._conn.lost then
    self._paused = false
    self._conn:read_start()
  end
  return parse(line)
end

function Monitor:__call()
  return self:await()
end

function Monitor:close()
  if self.closed then return end
  self.closed = true
  if self._conn and not self._conn.lost then self._client._pool:release(self._conn, false) end
  self:_wake()
  self._client.transport.flush()
end

Monitor.__close = Monitor.close

return M
