-- SPDX-License-Identifier: MIT
-- The connection by which messages come unasked: a receiver's or a monitor's. While a coroutine waits, the connection
-- holds the owner, and with it all that waits; else it holds nothing.

local errors = require "redio.base.errors"
local queue = require "redio.base.queue"
local task = require "redio.task"
local waiters = require "redio.receive.waiters"

local M = {}

---@class redio.Feed
---@field conn redio.Connection? the last one, which may be lost
---@field waiters redio.Waiters
---@field held integer messages in all mailboxes
---@field held_bytes integer
---@field paused boolean nothing is read, for so much is held
---@field lost_at number? since when messages may have been missed, until that was told
---@field unsent boolean? there is something to be sent to the server
---@field expecting boolean? an answer of the server's is due
---@field closed boolean
local Feed = {}
Feed.__index = Feed

--- `owner` has the methods _restore(waiter): err?, _receive(...), _lose(err), _overflow().
---@param is_monitor boolean? what comes are lines
function M.new(owner, client, is_monitor)
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
    _lines = is_monitor,
    _touched = queue.new(), -- places with something for those at them
  }, Feed)
  self.waiters = waiters.new(self)
  return self
end

-- for waiters.lua -----------------------------------------------------------------------------------------

function Feed:is_up()
  local conn = self.conn
  return conn ~= nil and not conn.lost
end

--- True when something is to be done about the connection.
function Feed:needs_care()
  return not self.closed and (not self:is_up() or self.lost_at ~= nil or self.unsent) or false
end

--- Does it.
---@return table? err for all that wait
function Feed:care(waiter)
  return self.owner:_restore(waiter)
end

--- The connection holds the owner while something waits.
function Feed:hold(is_needed)
  local conn = self.conn
  if not conn or conn.lost or is_needed ~= not conn.hold then return end
  conn:keep(is_needed and self.owner)
  if is_needed and self.expecting then conn.liveness:busy() end
end

-- what has come -------------------------------------------------------------------------------------------

--- There is something for those at `place`.
function Feed:touch(place)
  if place.is_touched then return end
  place.is_touched = true
  self._touched:push(place)
end

--- Lets all of them have it: after a read, so that a coroutine finds all its messages and need not wait for each.
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

--- Reads while there is room: to be called when `held` or `held_bytes` have changed to where it may matter. An answer
--- that is due lies behind messages: so while one is, only their bytes count.
function Feed:regulate()
  if not self:is_up() then return end
  if self:_is_full() then
    if not self.paused then
      self.paused = true
      self.conn:read_stop()
    end
    if self.expecting then self.owner:_overflow() end
  elseif self.paused and self:_has_room() then
    self.paused = false
    self.conn:read_start()
  end
end

--- From now on an answer is due, or none is any more: a message may take for ever, an answer not.
---@param is_due boolean
function Feed:expect(is_due)
  self.expecting = is_due
  if not self:is_up() then return end
  local liveness = self.conn.liveness
  liveness:set_patience(is_due and self.client.settings.read_timeout or false)
  if is_due then liveness:busy() end
  self:regulate()
end

--- The error for a wait for an answer that cannot be read; nil when it can.
function Feed:overflow()
  if not (self.paused and self.expecting) then return nil end
  return errors.new("OverflowError",
    ("the server's confirmation cannot be read: %d messages wait to be taken before it (max_queued_bytes = %d); take "
      .. "messages first"):format(self.held, self.most_bytes), { address = self.client.settings.address })
end

-- the connection ------------------------------------------------------------------------------------------

-- They refer to the feed weakly: an idle connection must not keep it alive.
local function hooks_of(self)
  local weak = setmetatable({ feed = self, owner = self.owner }, { __mode = "v" })
  return {
    lines = self._lines,
    on_open = function(conn)
      local feed = weak.feed
      if feed then feed._coming = conn end
    end,
    on_push = function(_, what, a, b, c) -- (no push that means something has more)
      local owner = weak.owner
      if owner then owner:_receive(what, a, b, c) end
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
  if conn ~= self.conn then return self.waiters:call() end -- the thread that opened it may have been ended with it
  self.paused, self.expecting = false, false
  self:deliver()
  self.owner:_lose(err)
end

-- Takes a connection that is ready.
function Feed:_adopt(conn)
  if self.closed then return conn.home:release(conn, false) end
  conn.liveness:set_patience(false)
  self.conn, self.paused, self.expecting = conn, false, false
  self._guard = conn.home:guard(conn)
  self:hold(not self.waiters:is_empty())
  if self.client.transport.request then self.waiters:wake_all() end -- each is to wait at this one
end

local PASSING = { "ConnectionError", "ProtocolError", "LoadingError", "MaxClientsError", "BusyError",
  "MasterDownError", "ClusterDownError", "TryAgainError" }

--- True when the next connection may fare better.
function M.passes(err)
  if err.permanent then return false end
  for _, kind in ipairs(PASSING) do
    if errors.is(err, kind) then return true end
  end
  return false
end

-- Where `retry` is off the client keeps no distance between attempts; a feed does.
local DISTANCE = 0.5

--- Connects; `again`: until it succeeds, or fails in a way that does not pass.
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

--- Ends everything: the connection, and all waits.
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
