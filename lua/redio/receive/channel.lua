-- SPDX-License-Identifier: MIT
-- A view of one channel or pattern of a receiver. While it exists, messages of that name go to its own mailbox.
-- Specs: client/receiver, regress/receiver_several_waiters

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local task = require "redio.task"

local M = {}

---@class redio.Channel
---@field name string
---@field is_pattern boolean
---@field is_active boolean true while it is subscribed or has messages left
local Channel = {}

local metatable = { __name = "redio.Channel" }

function metatable.__index(self, key)
  if key == "is_active" then return self._mailbox.messages:count() > 0 or self._mailbox.expects() end
  if key == "is_pattern" then return self._subscriptions.wanted.pattern[self.name] or false end
  return Channel[key]
end

---@param receiver redio.Receiver
---@param name string
---@param mailbox redio.Mailbox
---@param subscriptions redio.Subscriptions the receiver's
function M.new(receiver, name, mailbox, subscriptions)
  local self = { name = name, _receiver = receiver, _mailbox = mailbox, _subscriptions = subscriptions }
  return setmetatable(self, metatable)
end

function Channel:_take(timeout)
  local messages = self._mailbox
  if not timeout or messages:has_for_newcomer() then return messages:next() end
  local err = errors.new("TimeoutError", ("no message within %g s"):format(timeout))
  return task.with_deadline(self._receiver.client.transport, timeout, err, nil, messages.next, messages)
end

--- The next message, and the name of its channel (of a pattern, the one that matched).
---@param opts table? timeout: seconds; decoder: fun(bytes)
---@return any message nil when it was unsubscribed meanwhile
---@return string? channel
--- Raises TimeoutError. Raises ChannelClosedError when no message can come any more, or when the server has ended the
--- subscription.
function Channel:get(opts)
  arg_check.seconds_option(opts and opts.timeout, "timeout", 2, true)
  if not task.can_wait() then return task.block(self._receiver.client.transport, self.get, self, opts) end
  if not self.is_active then
    error(errors.new("ChannelClosedError", "the channel is not subscribed and has no messages left"), 0)
  end
  local message = self:_take(opts and opts.timeout)
  if not message then return nil end
  local value, decoder = message.payload, opts and opts.decoder or self._receiver._decoder
  if decoder and type(value) == "string" then value = decoder(value) end
  return value, message.channel
end

--- The next message, decoded as JSON.
---@param opts table? timeout
function Channel:get_json(opts)
  arg_check.seconds_option(opts and opts.timeout, "timeout", 2, true)
  return self:get { timeout = opts and opts.timeout, decoder = self._receiver.client.json_decode }
end

--- Waits until there is a message.
---@return boolean found false when none will come
function Channel:wait_message()
  if not task.can_wait() then return task.block(self._receiver.client.transport, self.wait_message, self) end
  return self._mailbox:wait()
end

--- An iterator over the messages. It ends when the channel is unsubscribed and empty.
function Channel:messages(opts)
  arg_check.seconds_option(opts and opts.timeout, "timeout", 2, true)
  return function()
    if not self.is_active then return nil end
    return self:get(opts)
  end
end

return M
