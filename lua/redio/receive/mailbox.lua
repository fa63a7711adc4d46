-- SPDX-License-Identifier: MIT
-- Messages that wait for coroutines, and coroutines that wait for messages: each message reaches one of them, in the
-- order in which they came.
--
-- A message is handed over, not announced: the coroutine is woken with it. So a message cannot be lost by a coroutine
-- that was woken for it and ended before it looked.

local linked_list = require "redio.base.linked_list"
local queue = require "redio.base.queue"

local M = {}

---@class redio.Mailbox
---@field line redio.Line waiters
---@field messages table a queue
local Mailbox = {}
Mailbox.__index = Mailbox

--- `expects()` is true while more messages may come.
---@param feed redio.Feed
---@param expects fun(): boolean
function M.new(feed, expects)
  return setmetatable({ feed = feed, line = linked_list.new(), messages = queue.new(), _expects = expects }, Mailbox)
end

-- Bytes that a message takes beside what it carries, about.
local OVERHEAD = 200

--- A message has come: {payload = string}; {payload = value, size = bytes} where it is no string; or {error = err,
--- size = bytes}, which is raised where it is taken.
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

-- Takes the oldest, if there is one.
function Mailbox:_pop()
  local message = self.messages:pop()
  if not message then return nil end
  local feed = self.feed
  feed.held, feed.held_bytes = feed.held - 1, feed.held_bytes - OVERHEAD - (message.size or #message.payload)
  if feed.paused then feed:regulate() end
  return message
end

--- Takes back what was handed to a coroutine that ended before it had it.
function Mailbox:put_back(message)
  if self.feed.closed then return end
  self.messages:unpop(message)
  self:_count(message)
  self:serve()
end

--- Forgets all messages.
function Mailbox:clear()
  self.messages = queue.new()
end

-- Nothing is handed out while a coroutine sees to the connection: the notice of a gap comes before what follows it.
function Mailbox:_hand_out()
  local waiters = self.feed.waiters
  while self.messages:count() > 0 and not waiters:is_at_work() do
    local waiter = waiters:first(self.line)
    if not waiter then return end
    waiters:tell(waiter, waiter.only_looks or self:_pop())
  end
end

--- Gives each waiter what it can have. One that is woken by it and comes again stands in line like any other.
function Mailbox:serve()
  if self._serving then return end
  self.feed.waiters:reclaim()
  self._serving = true
  local ok, err = pcall(self._hand_out, self)
  self._serving = false
  if not ok then error(err, 0) end -- (memory is out)
  if self.messages:count() == 0 then
    if self.line.first and not self._expects() then self.feed.waiters:tell_all(nil, self.line) end
  elseif self.line.first then
    self.feed:touch(self)
  end
end

Mailbox.look = Mailbox.serve

--- True when a coroutine that comes now need not wait.
function Mailbox:has_for_newcomer()
  return not self.line.first and self.messages:count() > 0
end

--- The next message, or nil when there will be none. Raises what befell the connection.
function Mailbox:next()
  local message = not self.line.first and self:_pop() or self.feed.waiters:await(self)
  if message and message.error then error(message.error, 0) end
  return message
end

--- Waits until there is a message, without taking it.
---@return boolean there false: none will come
function Mailbox:wait()
  return self.messages:count() > 0 or self.feed.waiters:await(self, true) or false
end

return M
