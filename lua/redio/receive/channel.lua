-- SPDX-License-Identifier: MIT
-- A view of one channel of a receiver: while it exists, that channel's messages wait here.

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local mailbox = require "redio.receive.mailbox"
local task = require "redio.task"

local M = {}

---@class redio.Channel
---@field name string
---@field is_pattern boolean
---@field is_active boolean subscribed, or messages are left
local Channel = {}

function Channel:_is_subscribed()
  local receiver = self._receiver
  return not receiver.closed and receiver._subscriptions:wants(self.name)
end

local metatable = { __name = "redio.Channel" }

function metatable.__index(self, key)
  if key == "is_active" then return self._mailbox.messages:count() > 0 or self:_is_subscribed() end
  if key == "is_pattern" then return self._receiver._subscriptions.wanted.pattern[self.name] or false end
  return Channel[key]
end

function M.new(receiver, name)
  local self = setmetatable({ name = name, _receiver = receiver }, metatable)
  self._mailbox = mailbox.new(receiver._feed, function()
    return self:_is_subscribed()
  end)
  return self
end

function Channel:_take(timeout)
  local messages = self._mailbox
  if not timeout or messages:has_for_newcomer() then return messages:next() end
  local err = errors.new("TimeoutError", ("no message within %g s"):format(timeout))
  return task.with_deadline(self._receiver.client.transport, timeout, err, nil, messages.next, messages)
end

--- The next message of this channel, and the name of the channel it came by (of interest for patterns).
---@param opts table? timeout: seconds; decoder: fun(bytes)
---@return any message nil when it was unsubscribed meanwhile
---@return string? channel
--- Raises ChannelClosedError when nothing can come any more or the server has ended the subscription, TimeoutError.
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

--- The next message, which is JSON.
---@param opts table? timeout
function Channel:get_json(opts)
  arg_check.seconds_option(opts and opts.timeout, "timeout", 2, true)
  return self:get { timeout = opts and opts.timeout, decoder = self._receiver.client.json_decode }
end

--- Waits until a message is there.
---@return boolean there false: none will come
function Channel:wait_message()
  if not task.can_wait() then return task.block(self._receiver.client.transport, self.wait_message, self) end
  return self._mailbox:wait()
end

--- An iterator over its messages; ends when it is unsubscribed.
function Channel:messages(opts)
  arg_check.seconds_option(opts and opts.timeout, "timeout", 2, true)
  return function()
    if not self.is_active then return nil end
    return self:get(opts)
  end
end

return M
