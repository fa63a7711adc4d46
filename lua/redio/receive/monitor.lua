-- SPDX-License-Identifier: MIT
-- Monitors: every command that the server executes, as one line each.
-- Specs: client/monitor, promises/27

local core = require "redio.core"
local feeds = require "redio.receive.feed"
local linked_list = require "redio.base.linked_list"
local mailbox = require "redio.receive.mailbox"
local task = require "redio.task"

local M = {}

---@class redio.Monitor
---@field closed boolean
local Monitor = {}
Monitor.__index = Monitor
Monitor.__name = "redio.Monitor"

local MONITOR = core.command { name = "MONITOR", silent = true }

-- The place at which `connect` waits for the server's +OK.
local Start = {}
Start.__index = Start

function Start:look(waiter)
  local monitor = self.monitor
  if monitor.closed or (monitor._started and monitor._feed:is_up()) then monitor._feed.waiters:tell(waiter) end
end

function Start:serve()
  for _, waiter in ipairs(self.line:list()) do
    self:look(waiter)
  end
end

-- called by feed.lua --------------------------------------------------------------------------------------

function Monitor:_receive(text)
  if not self._started then
    self._started = true -- +OK
    self._feed:expect(false)
    return self._feed:touch(self._start)
  end
  if type(text) == "string" and text ~= "PONG" then -- (PONG answers a health check)
    self._lines:put { payload = text }
  end
end

function Monitor:_restore()
  local feed = self._feed
  if feed.conn then return feed.conn.lost end
  local err = feed:open()
  if err or self.closed then return err end
  local pipeline = core.pipeline()
  core.encode(pipeline, MONITOR)
  feed.conn:submit(pipeline, core.OWN)
  feed:expect(true)
end

function Monitor:_lose(err)
  self._feed.waiters:tell_all(err)
end

local HANDLERS = { restore = Monitor._restore, on_push = Monitor._receive, on_lost = Monitor._lose }

-- public methods ------------------------------------------------------------------------------------------

--- A monitor of `client`. It connects at the first wait.
function M.new(client)
  local self = setmetatable({ _client = client, _started = false, closed = false }, Monitor)
  self._feed = feeds.new(self, client, HANDLERS, true)
  self._start = setmetatable({ monitor = self, line = linked_list.new() }, Start)
  self._lines = mailbox.new(self._feed, function()
    return not self.closed
  end)
  return self
end

--- Starts now; returns the monitor when the server has confirmed.
function Monitor:connect()
  if not task.can_wait() then return task.block(self._client.transport, self.connect, self) end
  self._feed.waiters:await(self._start)
  return self
end

-- '1700000000.123456 [0 127.0.0.1:50000] "SET" "key" "value"'
local function parse(text)
  local time, database, address, rest = text:match "^(%d+%.%d+) %[(%d+) (.-)%] (.*)$"
  return { line = text, time = tonumber(time), database = tonumber(database), address = address, command = rest }
end

--- The next command: {line=, time=, database=, address=, command=}; nil after close().
--- Raises ConnectionClosedError when the connection is lost.
function Monitor:await()
  if not task.can_wait() then return task.block(self._client.transport, self.await, self) end
  local message = self._lines:next()
  return message and parse(message.payload)
end

function Monitor:__call()
  return self:await()
end

--- An iterator. On Lua 5.4 the monitor is closed when the loop ends, also by a break or an error.
function Monitor:lines()
  return function()
    return self:await()
  end, nil, nil, self
end

--- Closes the connection. Lines that were received and not taken are dropped.
function Monitor:close()
  if self.closed then return end
  self.closed = true
  self._lines:clear()
  self._feed:close()
end

Monitor.__close = Monitor.close

return M
