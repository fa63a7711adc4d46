-- SPDX-License-Identifier: MIT
-- Receivers: messages of the channels that one connection has subscribed to, in the order in which they came.
--
-- What is wanted (`_wanted`) and what the server has confirmed (`_confirmed`) are kept apart: a subscription is
-- sent with the next wait, and again by a receiver that survives a lost connection.

local channel = require "redio.channel"
local check = require "redio.check"
local compat = require "redio.compat"
local core = require "redio.core"
local decode = require "redio.decode"
local errors = require "redio.errors"
local queue = require "redio.queue"
local task = require "redio.task"

local OWN = core.OWN

local M = {}

---@class redio.Receiver
---@field closed boolean
---@field in_pubsub boolean
---@field pubsub_channels table<string, boolean> confirmed ones
---@field pubsub_patterns table<string, boolean>
local Receiver = {}
Receiver.__index = Receiver
Receiver.__name = "redio.Receiver"

-- kind of subscription -> the words for it
local KINDS = {
  channel = { on = "SUBSCRIBE", off = "UNSUBSCRIBE" },
  pattern = { on = "PSUBSCRIBE", off = "PUNSUBSCRIBE" },
  shard = { on = "SSUBSCRIBE", off = "SUNSUBSCRIBE" },
}
local ORDER = { "channel", "pattern", "shard" }

-- Their replies come as messages, however many.
for _, words in pairs(KINDS) do
  words.on_command = core.command { name = words.on, silent = true }
  words.off_command = core.command { name = words.off, silent = true }
end

--- A receiver; nothing is sent before the first wait.
function M.new(client, ...)
  local self = setmetatable({
    client = client,
    address = client.settings.address,
    db = client.settings.database,
    closed = false,
    in_pubsub = false,
    pubsub_channels = {},
    pubsub_patterns = {},
    _shards = {},
    _wanted = { channel = {}, pattern = {}, shard = {} },
    _unconfirmed = 0,
    _outgoing = core.pipeline(true), -- what is wanted is kept in _wanted
    _messages = queue.new(),
    _held = 0, -- messages in all queues
    _waiters = queue.new(),
    _views = {},
    _with_channel = false,
    _decoder = decode.of_mode(client.settings.decode, client.json_decode),
  }, Receiver)
  self._confirmed = { channel = self.pubsub_channels, pattern = self.pubsub_patterns, shard = self._shards }
  client.receivers[self] = true
  if select("#", ...) > 0 then self:_subscribe("channel", 3, ...) end
  return self
end

-- subscribing ---------------------------------------------------------------------------------------------

local function names_of(level, method, ...)
  local names = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
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

function Receiver:_send(kind, off, names)
  local words = KINDS[kind]
  local ok, why = core.encode(self._outgoing, off and words.off_command or words.on_command, compat.unpack(names))
  if not ok then error(why, 0) end
  self._unconfirmed = self._unconfirmed + #names
  -- a coroutine is waiting for messages already: it would not come by to send this
  if self._waiters:count() > 0 and self.conn and self.conn.ready then self:_flush() end
end

function Receiver:_check_open(level)
  if self.closed then error("this receiver is closed", level + 1) end
end

function Receiver:_subscribe(kind, level, ...)
  self:_check_open(level + 1)
  local names = names_of(level + 1, KINDS[kind].on:lower(), ...)
  if #names == 0 then
    error(("'%s' needs a channel's name"):format(KINDS[kind].on:lower()), level + 1)
  end
  for _, name in ipairs(names) do
    self._wanted[kind][name] = true
  end
  self:_send(kind, false, names)
  return self
end

-- Without a name: all of that kind.
function Receiver:_unsubscribe(kind, level, ...)
  self:_check_open(level + 1)
  local names = names_of(level + 1, KINDS[kind].off:lower(), ...)
  if select("#", ...) == 0 then
    for name in pairs(self._wanted[kind]) do
      names[#names + 1] = name
    end
    table.sort(names)
  end
  if #names == 0 then return self end
  for _, name in ipairs(names) do
    self._wanted[kind][name] = nil
  end
  self:_send(kind, true, names)
  return self
end

function Receiver:subscribe(...) return self:_subscribe("channel", 2, ...) end
function Receiver:psubscribe(...) return self:_subscribe("pattern", 2, ...) end
function Receiver:ssubscribe(...) return self:_subscribe("shard", 2, ...) end
function Receiver:unsubscribe(...) return self:_unsubscribe("channel", 2, ...) end
function Receiver:punsubscribe(...) return self:_unsubscribe("pattern", 2, ...) end
function Receiver:sunsubscribe(...) return self:_unsubscribe("shard", 2, ...) end

function Receiver:_subscribed()
  return next(self._wanted.channel) or next(self._wanted.pattern) or next(self._wanted.shard)
end

-- modifiers, which persist --------------------------------------------------------------------------------

--- The channel's name comes before each message.
function Receiver:with_channel()
  self._with_channel = true
  return self
end

--- Messages as text: see handle:strdecode.
function Receiver:strdecode()
  self._decoder = decode.of_mode("str")
  return self
end

--- Messages as JSON and numbers where they parse as such.
function Receiver:autodecode()
  self._decoder = decode.of_mode("auto", self.client.json_decode)
  return self
end

--- Messages through a function of one's own.
---@param fn fun(bytes: string): any
function Receiver:decoder(fn)
  check.callable(fn, 1, "decoder", 2)
  self._decoder = fn
  return self
end

--- Survives a lost connection: subscribes again, then calls `fn` with the seconds during which messages may have
--- been missed.
---@param fn fun(gap: number)?
function Receiver:resubscribe(fn)
  if fn ~= nil then check.callable(fn, 1, "resubscribe", 2) end
  self._resubscribe = fn or function() end
  return self
end

-- messages from the connection ----------------------------------------------------------------------------

local CONFIRMATIONS = {
  subscribe = "channel", psubscribe = "pattern", ssubscribe = "shard",
  unsubscribe = "channel", punsubscribe = "pattern", sunsubscribe = "shard",
}

function Receiver:_confirm(kind, name)
  local family = CONFIRMATIONS[kind]
  local is_off = kind:find("unsubscribe", 1, true)
  if name then self._confirmed[family][name] = not is_off or nil end
  if self._unconfirmed > 0 then self._unconfirmed = self._unconfirmed - 1 end
  self.in_pubsub = next(self.pubsub_channels) ~= nil or next(self.pubsub_patterns) ~= nil or next(self._shards) ~= nil
  local view = is_off and self._views[name]
  if view then view:_wake() end
  if self._unconfirmed == 0 then
    self.conn.liveness:set_patience(false)
    self:_wake_all()
  end
end

function Receiver:_hold()
  self._held = self._held + 1
  if self._held >= self.client.settings.queue_limit and not self._paused and self.conn.socket then
    self._paused = true
    self.conn:read_stop()
  end
end

--- One message was taken out of a queue.
function Receiver:_release()
  self._held = self._held - 1
  if self._paused and self._held <= self.client.settings.queue_limit / 2 then
    self._paused = false
    if self.conn and not self.conn.lost then self.conn:read_start() end
  end
end

function Receiver:_message(name, channel_name, payload)
  local view = self._views[name]
  local message = { channel = channel_name, payload = payload }
  if view then
    view:_push(message)
    return self:_hold()
  end
  self._messages:push(message)
  self:_hold()
end

-- After a read, so that who waits finds all its messages and need not wait for each.
function Receiver:_deliver()
  for _ = 1, self._waiters:count() do
    if self._messages:count() == 0 then return end
    task.wake(self._waiters:pop())
  end
end

function Receiver:_push(kind, a, b, c)
  if kind == "message" or kind == "smessage" then
    self:_message(a, a, b)
  elseif kind == "pmessage" then
    self:_message(a, b, c)
  elseif CONFIRMATIONS[kind] then
    self:_confirm(kind, a)
  end
end

--- Those who wait look again at how things are.
function Receiver:_wake_all()
  self._waiters:drain(task.wake)
end

-- the connection ------------------------------------------------------------------------------------------

function Receiver:_flush()
  local count = self._outgoing:count()
  if count == 0 then return end
  local slot, why = self.conn:submit(self._outgoing, OWN)
  if slot == nil then error("cannot subscribe: " .. why, 0) end
  self._outgoing:reset()
  -- a message may take for ever, a confirmation not
  local liveness = self.conn.liveness
  liveness:set_patience(self.client.settings.read_timeout)
  liveness:busy()
end

function Receiver:_lost(err)
  self._lost_at = self._lost_at or self.client.transport.now()
  self._error = err
  self.in_pubsub = false
  for _, family in ipairs(ORDER) do
    local confirmed = self._confirmed[family]
    for name in pairs(confirmed) do
      confirmed[name] = nil
    end
  end
  self:_wake_all()
  for _, view in pairs(self._views) do
    view:_wake()
  end
end

-- Everything that is wanted, from the beginning.
function Receiver:_send_all()
  self._outgoing:reset()
  self._unconfirmed = 0
  for _, kind in ipairs(ORDER) do
    local names = {}
    for name in pairs(self._wanted[kind]) do
      names[#names + 1] = name
    end
    table.sort(names)
    if #names > 0 then self:_send(kind, false, names) end
  end
end

function Receiver:_open()
  local weak = setmetatable({ self = self }, { __mode = "v" })
  local conn, err = self.client._pool:acquire {
    receiver = true,
    on_push = function(_, ...)
      local receiver = weak.self
      if receiver then receiver:_push(...) end
    end,
    after_read = function()
      local receiver = weak.self
      if receiver then receiver:_deliver() end
    end,
  }
  if not conn then
    self._outgoing:reset() -- it is all in _wanted
    error(err, 0)
  end
  if self.closed then
    self.client._pool:release(conn, false)
    return
  end
  conn.liveness:set_patience(false)
  conn.on_lost = function(lost, reason)
    local receiver = weak.self
    if receiver and receiver.conn == lost then receiver:_lost(reason) end
  end
  self.conn, self._error, self._paused = conn, nil, false
  self._guard = self.client._pool:guard(conn)
  self:_send_all()
  self:_flush()
end

-- Waits for the next change: a message, a confirmation, or the end.
function Receiver:_wait()
  local waiter = {}
  self._waiters:enter(waiter)
  waiter.abandon = function()
    self._waiters:leave(waiter)
    if self.conn and self._waiters:count() == 0 then self.conn:keep(false) end
  end
  self.conn:keep(true)
  self.conn:park(waiter)
  if self.conn and self._waiters:count() == 0 then self.conn:keep(false) end
end

-- Where `retry` is off the client keeps no distance between attempts, and we do.
local DISTANCE = 0.5

function Receiver:_reopen()
  while not self.closed do
    local ok, err = pcall(self._open, self)
    if ok then break end
    if not errors.is(err, "ConnectionError") and not errors.is(err, "LoadingError") then error(err, 0) end
    if not self.client.settings.retry then task.sleep(DISTANCE) end
  end
end

-- Connected, with all subscriptions on their way; raises when it is lost and may not come back.
function Receiver:_ready()
  if self._opening then
    while self._opening do
      task.sleep(0.001)
    end
    return
  end
  if self.conn and not self.conn.lost then return self:_flush() end
  if self.conn and not self._resubscribe then error(self._error, 0) end
  self._opening = true
  local again = self.conn ~= nil
  local ok, err = pcall(again and self._reopen or self._open, self)
  self._opening = nil
  if not ok then error(err, 0) end
  if again and not self.closed then self:_tell_gap() end
end

function Receiver:_tell_gap()
  while self._unconfirmed > 0 and not self.closed and self.conn and not self.conn.lost do
    self:_wait()
  end
  if self.closed or self.conn.lost then return end
  local gap = self.client.transport.now() - self._lost_at
  self._lost_at = nil
  self._resubscribe(gap)
end

-- waiting -------------------------------------------------------------------------------------------------

--- Subscribes now; returns the receiver when the server has confirmed.
---@return redio.Receiver
function Receiver:connect()
  if not task.can_wait() then return task.block(self.client.transport, self.connect, self) end
  self:_check_open(2)
  self:_ready()
  while self._unconfirmed > 0 and not self.closed do
    self:_ready()
    self:_wait()
  end
  return self
end

-- The next message, or nil when there will be none.
function Receiver:_next()
  local message = self._messages:pop()
  if message then
    self:_release()
    return message
  end
  while not self.closed and (self:_subscribed() or self._unconfirmed > 0) do
    self:_ready()
    message = self._messages:pop()
    if message then
      self:_release()
      return message
    end
    if self.closed then break end
    if not self.conn.lost and (self:_subscribed() or self._unconfirmed > 0) then self:_wait() end
  end
end

local function deliver(self, message)
  if not message then return nil end
  local value = message.payload
  local decoder = self._decoder
  if decoder then value = decoder(value) end
  if self._with_channel then return message.channel, value end
  return value
end

--- The next message; nil after close(), or when nothing is subscribed any more.
---@return any message with `with_channel`: the channel's name, then the message
--- Raises ConnectionClosedError when the connection is lost (see resubscribe).
function Receiver:await()
  if not task.can_wait() then return task.block(self.client.transport, self.await, self) end
  return deliver(self, self:_next())
end

--- So that the receiver is its own iterator.
function Receiver:__call()
  return self:await()
end

--- An iterator that closes the receiver when the loop is left, by its end, a break or an error (Lua 5.4).
function Receiver:messages()
  return function()
    return self:await()
  end, nil, nil, self
end

--- A view of one channel: its messages go there.
---@param name string
---@return redio.Channel
function Receiver:channel(name)
  local view = self._views[name]
  if not view then
    view = channel.new(self, name)
    self._views[name] = view
  end
  return view
end

--- Ends all subscriptions by closing the connection. What was received and not taken is dropped.
function Receiver:close()
  if self.closed then return end
  self.closed = true
  self._messages = queue.new()
  self._held = 0
  for _, kind in ipairs(ORDER) do
    self._wanted[kind] = {}
  end
  local conn = self.conn
  if conn then
    self._guard.held.conn = nil
    self.client._pool:release(conn, false)
  end
  self._outgoing:reset()
  self:_lost(nil)
  self.client.transport.flush()
end

Receiver.__close = Receiver.close

function Receiver:__tostring()
  return ("redio.Receiver(%s%s)"):format(self.client.settings.address, self.closed and ", closed" or "")
end

return M
