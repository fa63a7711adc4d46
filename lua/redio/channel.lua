-- SPDX-License-Identifier: MIT
-- A view of one channel of a receiver: while it exists, that channel's messages wait here.

local errors = require "redio.errors"
local queue = require "redio.queue"
local task = require "redio.task"

local M = {}

---@class redio.Channel
---@field name string
---@field is_pattern boolean
---@field is_active boolean subscribed, or messages are left
local Channel = {}

function Channel:_is_subscribed()
  local wanted = self._receiver._wanted
  return not self._receiver.closed
    and (wanted.channel[self.name] or wanted.pattern[self.name] or wanted.shard[self.name]) or false
end

local metatable = { __name = "redio.Channel" }

function metatable.__index(self, key)
  if key == "is_active" then return self._queue:count() > 0 or self:_is_subscribed() end
  if key == "is_pattern" then return self._receiver._wanted.pattern[self.name] or false end
  return Channel[key]
end

function M.new(receiver, name)
  return setmetatable({ name = name, _receiver = receiver, _queue = queue.new(), _waiters = queue.new() }, metatable)
end

function Channel:_push(message)
  self._queue:push(message)
  self:_wake()
end

function Channel:_wake()
  self._waiters:drain(task.wake)
end

-- Waits until there is a message (true) or there will be none (false).
function Channel:_wait()
  local receiver = self._receiver
  while self._queue:count() == 0 do
    if not self:_is_subscribed() then return false end
    receiver:_ready()
    if self._queue:count() > 0 then break end
    local waiter = {}
    self._waiters:enter(waiter)
    waiter.abandon = function()
      self._waiters:leave(waiter)
    end
    receiver.conn:keep(true)
    receiver.conn:park(waiter)
    if receiver.conn then receiver.conn:keep(false) end
  end
  return true
end

function Channel:_take(timeout)
  if timeout then
    local err = errors.new("TimeoutError", ("no message within %g s"):format(timeout))
    if not task.with_deadline(self._receiver.client.transport, timeout, err, nil, self._wait, self) then return nil end
  elseif not self:_wait() then
    return nil
  end
  local message = self._queue:pop()
  self._receiver:_release()
  return message
end

--- The next message of this channel, and the name of the channel it came by (of interest for patterns).
---@param opts table? timeout: seconds; decoder: fun(bytes)
---@return any message nil when it was unsubscribed meanwhile
---@return string? channel
--- Raises ChannelClosedError when nothing can come any more, TimeoutError.
function Channel:get(opts)
  if not task.can_wait() then return task.block(self._receiver.client.transport, self.get, self, opts) end
  if not self.is_active then
    error(errors.new("ChannelClosedError", "the channel is not subscribed and has no messages left"), 0)
  end
  local message = self:_take(opts and opts.timeout)
  if not message then return nil end
  local decoder = opts and opts.decoder or self._receiver._decoder
  return decoder and decoder(message.payload) or message.payload, message.channel
end

--- The next message, which is JSON.
---@param opts table? timeout
function Channel:get_json(opts)
  return self:get { timeout = opts and opts.timeout, decoder = self._receiver.client.json_decode }
end

--- Waits until a message is there.
---@return boolean there false: none will come
function Channel:wait_message()
  if not task.can_wait() then return task.block(self._receiver.client.transport, self.wait_message, self) end
  return self:_wait()
end

--- An iterator over its messages; ends when it is unsubscribed.
function Channel:messages(opts)
  return function()
    if not self.is_active then return nil end
    return self:get(opts)
  end
end

return M
