-- SPDX-License-Identifier: MIT
-- The connection that delivers unasked messages to its owner, a receiver or a monitor. While a coroutine waits, the
-- connection holds the owner. Otherwise it holds nothing, and an owner that the program has dropped is collected.
-- Specs: promises/10, promises/14, regress/receiver_holds_loop

local errors = require "redio.base.errors"
local queue = require "redio.base.queue"
local task = require "redio.task"
local waiters = require "redio.receive.waiters"

local M = {}

---@class redio.Feed
---@field conn redio.Connection? the current one, or the one that was lost last
---@field waiters redio.Waiters
---@field held integer messages in all mailboxes
---@field held_bytes integer
---@field paused boolean reading has stopped because the mailboxes are full
---@field lost_at number? time of the loss, until the gap is reported
---@field unsent boolean? commands wait to be sent
---@field expecting boolean? a reply of the server is due
---@field closed boolean

---@class redio.FeedHandlers functions of the owner, which is their first argument
---@field restore fun(owner: table, waiter: redio.Waiter): table? connects and subscribes; returns an error for all
---@field on_push fun(owner: table, ...)
---@field on_lost fun(owner: table, err: table)
---@field on_overflow (fun(owner: table))? a reply is due and the mailboxes are full
local Feed = {}
Feed.__index = Feed

---@param owner table
---@param client redio.Client
---@param handlers redio.FeedHandlers
---@param is_monitor boolean? messages are lines
function M.new(owner, client, handlers, is_monitor)
  local settings = client.settings
  local self = setmetatable({
    owner = owner,
    client = client,
    closed = false,
    paused = false,
    held = 0,
    held_bytes = 0,
    most = settings.queue_limit,
    most_bytes = settings.max_queued_bytes,
    _handlers = handlers,
    _lines = is_monitor,
    _touched = queue.new(), -- places that `deliver` is to serve
  }, Feed)
  self.waiters = waiters.new(self)
  return self
end

-- called by waiters.lua -----------------------------------------------------------------------------------

function Feed:is_up()
  local conn = self.conn
  return conn ~= nil and not conn.lost
end

--- True when the connection is to be opened or restored, or has commands to send.
function Feed:needs_care()
  return not self.closed and (not self:is_up() or self.lost_at ~= nil or self.unsent) or false
end

--- Opens or restores the connection, and sends its commands.
---@return table? err for all waiters
function Feed:care(waiter)
  return self._handlers.restore(self.owner, waiter)
end

--- Makes the connection hold the owner, or let go of it.
function Feed:hold(is_needed)
  local conn = self.conn
  if not conn or conn.lost or is_needed ~= not conn.hold then return end
  conn:keep(is_needed and self.owner)
end

-- messages ------------------------------------------------------------------------------------------------

--- Marks a place for `deliver`: it has something for its waiters.
function Feed:touch(place)
  if place.is_touched then return end
  place.is_touched = true
  self._touched:push(place)
end

--- Serves the marked places. It runs after a whole read, so that a coroutine finds all its messages at once.
function Feed:deliver()
  local touched = self._touched
  for _ = 1, touched:count() do
    local place = touched:pop()
    if not place then return end
    place.is_touched = false
    place:serve()
  end
end

function Feed:_is_full()
  return self.held_bytes >= self.most_bytes or (self.held >= self.most and not self.expecting)
end

function Feed:_has_room()
  if self.expecting then return not self:_is_full() end
  return self.held <= self.most / 2 and self.held_bytes <= self.most_bytes / 2
end

--- Stops or resumes reading by `held` and `held_bytes`. A reply that is due lies behind messages, so until it has
--- arrived the limit of their number does not apply.
function Feed:regulate()
  if not self:is_up() then return end
  if self:_is_full() then
    if not self.paused then
      self.paused = true
      self.conn:read_stop()
    end
    local on_overflow = self._handlers.on_overflow
    if self.expecting and on_overflow then on_overflow(self.owner) end
  elseif self.paused and self:_has_room() then
    self.paused = false
    self.conn:read_start()
  end
end

--- Starts or ends the wait for a reply. Only replies have a timeout: the next message may be hours away.
---@param is_due boolean
function Feed:expect(is_due)
  self.expecting = is_due
  if not self:is_up() then return end
  self.conn:within(is_due and self.client.settings.read_timeout or false)
  self:regulate()
end

--- The error of a wait for a reply behind full mailboxes; nil when reading goes on.
function Feed:overflow()
  if not (self.paused and self.expecting) then return nil end
  return errors.new("OverflowError",
    ("the server's confirmation cannot be read: %d messages wait to be taken before it (max_queued_bytes = %d); take "
      .. "messages first"):format(self.held, self.most_bytes), { address = self.conn.address })
end

-- the connection ------------------------------------------------------------------------------------------

-- The hooks refer to the feed weakly, because an idle connection must not keep it alive.
local function hooks_of(self)
  local weak = setmetatable({ feed = self, owner = self.owner }, { __mode = "v" })
  local on_push = self._handlers.on_push
  return {
    lines = self._lines,
    on_open = function(conn)
      local feed = weak.feed
      if feed then feed._coming = conn end
    end,
    on_push = function(_, what, a, b, c) -- (known pushes have at most four elements)
      local owner = weak.owner
      if owner then on_push(owner, what, a, b, c) end
    end,
    after_read = function()
      local feed = weak.feed
      if not feed then return end
      feed:deliver()
      feed.waiters:call()
    end,
    on_lost = function(conn, err)
      local feed = weak.feed
      if feed then feed:_lose(conn, err) end
    end,
  }
end

function Feed:_lose(conn, err)
  if self.closed then return end
  if conn ~= self.conn then return self.waiters:call() end -- still opening: its thread may have ended, too
  self.paused, self.expecting = false, false
  self:deliver()
  self._handlers.on_lost(self.owner, err)
end

-- Makes a ready connection the current one.
function Feed:_adopt(conn)
  if self.closed then return conn.home:release(conn, false) end
  conn:within(false)
  self.conn, self.paused, self.expecting = conn, false, false
  self._guard = conn.home:guard(conn)
  self:hold(not self.waiters:is_empty())
  if self.client.transport.request then self.waiters:wake_all() end -- each waiter parks again, at this connection
end

local PASSING = { "ConnectionError", "ProtocolError", "LoadingError", "MaxClientsError", "BusyError",
  "MasterDownError", "ClusterDownError", "TryAgainError" }

--- True when another connection may succeed where this one failed.
function M.passes(err)
  if err.permanent then return false end
  for _, kind in ipairs(PASSING) do
    if errors.is(err, kind) then return true end
  end
  return false
end

-- Seconds between attempts. Without `retry` the client has no pause of its own.
local DISTANCE = 0.5

--- Connects. With `again` it repeats this until it succeeds, or fails with an error that does not pass.
---@return table? err
function Feed:open(again)
  local client = self.client
  while not self.closed do
    local conn
    local home, err = client.topology:pick()
    if home then conn, err = home:receive(client, hooks_of(self)) end
    self._coming = nil
    if conn then return self:_adopt(conn) end
    if self.closed then return nil end
    if not again or not M.passes(err) then return err end
    if not client.settings.retry then task.sleep(DISTANCE) end
  end
end

--- Closes the connection and ends all waits.
function Feed:close()
  self.closed = true
  self.held, self.held_bytes, self.paused = 0, 0, false
  if self._guard then self._guard.held.conn = nil end
  if self.conn then self.conn.home:release(self.conn, false) end
  if self._coming then self._coming:close() end
  self.waiters:tell_all()
  self.client.transport.flush()
end

return M
