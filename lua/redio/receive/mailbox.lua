-- SPDX-License-Identifier: MIT
-- Messages that wait for coroutines, and coroutines that wait for messages. Each message goes to one coroutine, first
-- come, first served.
--
-- A coroutine is woken with its message, not to look for one. If it ends before it runs, the message is put back.
-- Specs: promises/14, promises/28, regress/receiver_several_waiters

local linked_list = require "redio.base.linked_list"
local queue = require "redio.base.queue"

local M = {}

---@class redio.Mailbox
---@field line redio.Line waiters
---@field messages table a queue
---@field expects fun(): boolean
local Mailbox = {}
Mailbox.__index = Mailbox

---@param feed redio.Feed
---@param expects fun(): boolean true while more messages may come
function M.new(feed, expects)
  return setmetatable({ feed = feed, line = linked_list.new(), messages = queue.new(), expects = expects }, Mailbox)
end

-- About how many bytes a message takes beside its payload.
local OVERHEAD = 200

--- Adds a message: {payload = string}; {payload = value, size = bytes} for other values; or {error = err,
--- size = bytes}, which `next` raises.
function Mailbox:put(message)
  self.messages:push(message)
  self:_count(message)
end

function Mailbox:_count(message)
  local feed = self.feed
  local count, bytes = feed.held + 1, feed.held_bytes + OVERHEAD + (message.size or #message.payload)
  feed.held, feed.held_bytes = count, bytes
  if count >= feed.most or bytes >= feed.most_bytes then feed:regulate() end
  if not self.is_touched then feed:touch(self) end
end

-- Takes the oldest message; nil when there is none.
function Mailbox:_pop()
  local message = self.messages:pop()
  if not message then return nil end
  local feed = self.feed
  feed.held, feed.held_bytes = feed.held - 1, feed.held_bytes - OVERHEAD - (message.size or #message.payload)
  if feed.paused then feed:regulate() end
  return message
end

--- Returns a message to the front of the queue: its coroutine ended before it ran.
function Mailbox:put_back(message)
  if self.feed.closed then return end
  self.messages:unpop(message)
  self:_count(message)
  self:serve()
end

--- Drops all messages.
function Mailbox:clear()
  self.messages = queue.new()
end

-- Hands nothing out while a coroutine restores the connection: a gap is reported before the messages that follow it.
function Mailbox:_hand_out()
  local waiters = self.feed.waiters
  while self.messages:count() > 0 and not waiters:is_at_work() do
    local waiter = waiters:first(self.line)
    if not waiter then return end
    waiters:tell(waiter, waiter.only_looks or self:_pop())
  end
end

--- Hands messages to waiters. A coroutine that is woken and waits again goes to the end of the line.
function Mailbox:serve()
  if self._serving then return end
  self.feed.waiters:reclaim()
  self._serving = true
  local ok, err = pcall(self._hand_out, self)
  self._serving = false
  if not ok then error(err, 0) end -- (not enough memory)
  if self.messages:count() == 0 then
    if self.line.first and not self.expects() then self.feed.waiters:tell_all(nil, self.line) end
  elseif self.line.first then
    self.feed:touch(self)
  end
end

Mailbox.look = Mailbox.serve

--- True when `next` would return at once.
function Mailbox:has_for_newcomer()
  return not self.line.first and self.messages:count() > 0
end

--- The next message; nil when there will be none. Raises the error that ended the connection.
function Mailbox:next()
  local message = not self.line.first and self:_pop() or self.feed.waiters:await(self)
  if message and message.error then error(message.error, 0) end
  return message
end

--- Waits until there is a message, without taking it.
---@return boolean found false when none will come
function Mailbox:wait()
  return self.messages:count() > 0 or self.feed.waiters:await(self, true) or false
end

return M
