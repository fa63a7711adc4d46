-- SPDX-License-Identifier: MIT
-- Receivers: messages of subscribed channels, in the order in which they arrive on one connection. A subscription is
-- sent with the next wait. A receiver with `resubscribe` sends all of them again after a loss.
-- Specs: client/receiver, promises/11, promises/14, hosts/nginx/receivers

local arg_check = require "redio.base.arg_check"
local channel = require "redio.receive.channel"
local confirmation = require "redio.receive.confirmation"
local core = require "redio.core"
local decode = require "redio.command.decode"
local errors = require "redio.base.errors"
local feeds = require "redio.receive.feed"
local mailbox = require "redio.receive.mailbox"
local subscriptions = require "redio.receive.subscriptions"
local task = require "redio.task"

local OWN = core.OWN

local M = {}

---@class redio.Receiver
---@field closed boolean
---@field in_pubsub boolean
---@field pubsub_channels table<string, boolean> confirmed by the server
---@field pubsub_patterns table<string, boolean>
local Receiver = {}
Receiver.__index = Receiver
Receiver.__name = "redio.Receiver"

-- The channel of RESP2 for invalidated keys. RESP3 has a push for them.
local INVALIDATE = "__redis__:invalidate"

-- subscribing ---------------------------------------------------------------------------------------------

-- Names and lists of names, as one list.
local function names_of(level, method, ...)
  local names, given = {}, { ... }
  for i = 1, select("#", ...) do
    local name = given[i]
    for _, one in ipairs(type(name) == "table" and name or { name }) do
      if type(one) == "number" then one = core.number(one) end
      if type(one) ~= "string" then
        error(("bad argument #%d to '%s' (a channel's name expected, got %s)"):format(i, method, type(one)), level + 1)
      end
      names[#names + 1] = one
    end
    if name == nil then
      error(("bad argument #%d to '%s' (a channel's name expected, got nil)"):format(i, method), level + 1)
    end
  end
  return names
end

function Receiver:_want(kind, is_on, names)
  self._subscriptions:want(kind, is_on, names)
  local feed = self._feed
  feed.unsent = true
  -- Coroutines that wait already do not send commands: send them here, or wake one to do it when there is no room.
  if not feed.waiters:is_empty() and feed:is_up() and not self:_flush() then feed.waiters:call() end
  return self
end

function Receiver:_check_open(level)
  if self.closed then error("this receiver is closed", level + 1) end
end

function Receiver:_subscribe(kind, level, ...)
  self:_check_open(level + 1)
  local word = subscriptions.WORDS[kind].on:lower()
  local names = names_of(level + 1, word, ...)
  if #names == 0 then error(("'%s' needs a channel's name"):format(word), level + 1) end
  return self:_want(kind, true, names)
end

-- Without names, unsubscribes all of that kind.
function Receiver:_unsubscribe(kind, level, ...)
  self:_check_open(level + 1)
  local names = names_of(level + 1, subscriptions.WORDS[kind].off:lower(), ...)
  if select("#", ...) == 0 then names = self._subscriptions:names(kind) end
  if #names == 0 then return self end
  return self:_want(kind, false, names)
end

function Receiver:subscribe(...) return self:_subscribe("channel", 2, ...) end
function Receiver:psubscribe(...) return self:_subscribe("pattern", 2, ...) end
function Receiver:ssubscribe(...) return self:_subscribe("shard", 2, ...) end
function Receiver:unsubscribe(...) return self:_unsubscribe("channel", 2, ...) end
function Receiver:punsubscribe(...) return self:_unsubscribe("pattern", 2, ...) end
function Receiver:sunsubscribe(...) return self:_unsubscribe("shard", 2, ...) end

-- modifiers of all later messages -------------------------------------------------------------------------

--- Returns the channel's name before each message.
function Receiver:with_channel()
  self._with_channel = true
  return self
end

--- Returns messages as text: see handle:strdecode.
function Receiver:strdecode()
  self._decoder = decode.of_mode "str"
  return self
end

--- Decodes messages that parse as JSON or as numbers.
function Receiver:autodecode()
  self._decoder = decode.of_mode("auto", self.client.json_decode)
  return self
end

--- Passes messages through a function.
---@param fn fun(bytes: string): any
function Receiver:decoder(fn)
  arg_check.callable(fn, 1, "decoder", 2)
  self._decoder = fn
  return self
end

--- Survives a lost connection: subscribes again, then calls `fn` with the length of the gap in seconds. Messages of the
--- gap are lost. An error that another attempt cannot cure, such as a refused subscription, is raised all the same.
---@param fn fun(gap: number)?
function Receiver:resubscribe(fn)
  if fn ~= nil then arg_check.callable(fn, 1, "resubscribe", 2) end
  self._resubscribe = fn or function() end
  return self
end

-- pushes --------------------------------------------------------------------------------------------------

-- The mailbox for messages of a channel or pattern.
function Receiver:_mailbox_of(name)
  return self._mailboxes[name] or self._messages
end

-- A message for a payload that is no string: a list of changed keys (false: all keys), or a malformed push.
local function odd_message(channel_name, payload)
  local bytes = 0
  for _, part in ipairs(type(payload) == "table" and payload or {}) do
    bytes = bytes + #tostring(part) + 40
  end
  return { channel = channel_name, payload = payload == nil and false or payload, size = bytes }
end

function Receiver:_message(name, channel_name, payload)
  local message = type(payload) == "string" and { channel = channel_name, payload = payload }
    or odd_message(channel_name, payload)
  self:_mailbox_of(name):put(message)
end

-- The server has ended a subscription by itself: subscribes again, or puts an error into the mailbox.
function Receiver:_taken(kind, name)
  local feed, again = self._feed, self._resubscribe ~= nil
  self._subscriptions:restore(kind, name, again)
  if again then
    feed.lost_at, feed.unsent = feed.lost_at or self.client.transport.now(), true
  else
    self:_mailbox_of(name):put {
      error = errors.new("ChannelClosedError", "the server has ended the subscription", {
        address = feed.conn.address,
      }),
      size = 0,
    }
  end
end

function Receiver:_confirm(kind, is_on, name)
  local feed, subs = self._feed, self._subscriptions
  if subs:confirm(kind, is_on, name) then self:_taken(kind, name) end
  self.in_pubsub = subs.confirmed_count > 0
  if not is_on then feed:touch(self:_mailbox_of(name)) end
  if subs.unconfirmed > 0 then return end
  if feed.expecting then feed:expect(false) end
  feed:touch(self._confirmation)
  feed:touch(self._restoration)
  if subs.wanted_count == 0 then feed:touch(self._messages) end
end

-- push -> {kind of the subscription, true when it is on}
local CONFIRMATIONS = {}
for kind, words in pairs(subscriptions.WORDS) do
  CONFIRMATIONS[words.on:lower()] = { kind, true }
  CONFIRMATIONS[words.off:lower()] = { kind, false }
end

-- Handles a push. Unknown ones are skipped, and so is PONG.
function Receiver:_receive(what, a, b, c)
  if what == "message" or what == "smessage" then return self:_message(a, a, b) end
  if what == "pmessage" then return self:_message(a, b, c) end
  local confirmed = CONFIRMATIONS[what]
  if confirmed then
    self:_confirm(confirmed[1], confirmed[2], a)
  elseif what == "invalidate" and self._subscriptions.wanted.channel[INVALIDATE] then
    self:_message(INVALIDATE, INVALIDATE, a)
  end
end

-- called by feed.lua --------------------------------------------------------------------------------------

-- Submits the queued commands. Returns false when the connection has no room for them.
function Receiver:_flush()
  local feed, subs = self._feed, self._subscriptions
  if subs.outgoing:count() > 0 then
    local slot, why = feed.conn:submit(subs.outgoing, OWN)
    if slot == nil then
      if why == "full" or feed.conn.lost then return false end
      error("cannot subscribe: " .. why, 0)
    end
    subs.outgoing:reset()
    feed:expect(true)
  end
  feed.unsent = nil
  return true
end

-- Waits until all subscriptions are confirmed, then reports the gap.
function Receiver:_tell_gap(waiter)
  local feed = self._feed
  local ok, err = pcall(feed.waiters.await, feed.waiters, self._restoration)
  if not ok then
    if errors.is(err, "OverflowError") then return err end
    error(err, 0)
  end
  if self.closed or not feed:is_up() then return end
  local gap = self.client.transport.now() - feed.lost_at
  feed.lost_at = nil
  feed:touch(self._confirmation)
  feed.waiters:call_out(waiter, self._resubscribe, gap)
end

--- Connects, submits all subscriptions and reports a gap. Runs in the coroutine of one waiter.
---@return table? err for all waiters
function Receiver:_restore(waiter)
  local feed = self._feed
  if not feed:is_up() then
    local again = feed.conn ~= nil
    if again and not self._resubscribe then return feed.conn.lost end
    local err = feed:open(again)
    if err or self.closed then return err end
    self._subscriptions:restart()
    self:_end_unwanted()
  end
  while feed:is_up() and not self:_flush() do
    if feed:is_up() then feed.conn:wait_room() end
  end
  if feed.lost_at and feed:is_up() then return self:_tell_gap(waiter) end
end

-- Ends waits for names that are not wanted any more: a new connection gets no confirmation for them.
function Receiver:_end_unwanted()
  self._messages:serve()
  for _, own in pairs(self._mailboxes) do
    own:serve()
  end
end

function Receiver:_lose(err)
  local feed = self._feed
  feed.lost_at = feed.lost_at or self.client.transport.now()
  self.in_pubsub = false
  self._subscriptions:lose()
  if not (self._resubscribe and feeds.passes(err)) then return feed.waiters:tell_all(err) end
  self:_end_unwanted()
  self._restoration:serve()
  feed.waiters:call()
end

-- The confirmation cannot be read: lets the coroutines that wait for it raise an error.
function Receiver:_overflow()
  self._feed:touch(self._confirmation)
  self._feed:touch(self._restoration)
end

local HANDLERS = {
  restore = Receiver._restore,
  on_push = Receiver._receive,
  on_lost = Receiver._lose,
  on_overflow = Receiver._overflow,
}

--- A receiver. Nothing is sent before the first wait.
---@param client redio.Client
---@param ... string names of channels, or lists of them
function M.new(client, ...)
  local subs = subscriptions.new()
  local self = setmetatable({
    client = client,
    address = client.settings.address,
    db = client.settings.database,
    closed = false,
    in_pubsub = false,
    pubsub_channels = subs.confirmed.channel,
    pubsub_patterns = subs.confirmed.pattern,
    _subscriptions = subs,
    _views = {},
    _mailboxes = {}, -- of the views, by name
    _with_channel = false,
    _decoder = decode.of_mode(client.settings.decode, client.json_decode),
  }, Receiver)
  self._feed = feeds.new(self, client, HANDLERS)
  self._messages = mailbox.new(self._feed, function()
    return not self.closed and (subs.wanted_count > 0 or subs.unconfirmed > 0)
  end)
  self._confirmation = confirmation.new(self._feed, subs)
  self._restoration = confirmation.new(self._feed, subs, true)
  if select("#", ...) > 0 then self:_subscribe("channel", 3, ...) end
  return self
end

-- waiting -------------------------------------------------------------------------------------------------

--- Subscribes now; returns the receiver when the server has confirmed.
---@return redio.Receiver
--- Raises OverflowError when the confirmation lies behind more messages than the mailboxes may hold.
function Receiver:connect()
  if not task.can_wait() then return task.block(self.client.transport, self.connect, self) end
  self:_check_open(2)
  self._feed.waiters:await(self._confirmation)
  return self
end

function Receiver:_deliver(message)
  if not message then return nil end
  local value, decoder = message.payload, self._decoder
  if decoder and type(value) == "string" then value = decoder(value) end
  if self._with_channel then return message.channel, value end
  return value
end

--- The next message; nil after close(), or when nothing is subscribed any more.
---@return any message with `with_channel`: the channel's name, then the message
--- Raises ConnectionClosedError when the connection is lost (see resubscribe). Raises ChannelClosedError when the
--- server has ended a subscription.
function Receiver:await()
  if not task.can_wait() then return task.block(self.client.transport, self.await, self) end
  return self:_deliver(self._messages:next())
end

--- Makes the receiver its own iterator.
function Receiver:__call()
  return self:await()
end

--- An iterator. On Lua 5.4 the receiver is closed when the loop ends, also by a break or an error.
function Receiver:messages()
  return function()
    return self:await()
  end, nil, nil, self
end

--- A view of one channel or pattern. Messages of that name go to the view.
---@param name string
---@return redio.Channel
function Receiver:channel(name)
  local view, subs = self._views[name], self._subscriptions
  if not view then
    local own = mailbox.new(self._feed, function()
      return not self.closed and subs:wants(name)
    end)
    view = channel.new(self, name, own, subs)
    self._views[name], self._mailboxes[name] = view, own
  end
  return view
end

--- Closes the connection, which ends all subscriptions. Messages that were received and not taken are dropped.
function Receiver:close()
  if self.closed then return end
  self.closed, self.in_pubsub = true, false
  self._messages:clear()
  for _, own in pairs(self._mailboxes) do
    own:clear()
  end
  self._subscriptions:clear()
  self._subscriptions:lose()
  self._feed:close()
end

Receiver.__close = Receiver.close

function Receiver:__tostring()
  return ("redio.Receiver(%s%s)"):format(self.client.settings.address, self.closed and ", closed" or "")
end

return M
