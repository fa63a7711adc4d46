-- SPDX-License-Identifier: MIT
-- The connection by which messages come unasked, and the coroutines that wait at it: for receivers and monitors.
--
-- A coroutine waits in the line of a place (a mailbox, or a confirmation) until it is told something. While at least
-- one waits, the connection holds the feed's owner, and with it all that waits; without any it holds nothing. When
-- there is something to be done about the connection (to open it, to restore what was lost with it), one of those that
-- wait does it, in its own coroutine and without losing its place: it has the turn. When it ends before it is done,
-- the next takes over.

local errors = require "redio.errors"
local line = require "redio.line"
local queue = require "redio.queue"
local task = require "redio.task"

local running, status = coroutine.running, coroutine.status

local M = {}

---@class redio.Feed
---@field conn redio.Connection? the last one, which may be lost
---@field waiters redio.Line all that wait, at whatever place
---@field lost_at number? since when messages may have been missed, until that was told
---@field unsent boolean? there is something to be sent to the server
---@field expecting boolean? an answer of the server's is due
---@field closed boolean
local Feed = {}
Feed.__index = Feed

--- `owner` has the methods _restore(waiter): err?, _receive(...), _lose(err), _overflow().
function M.new(owner, client, is_monitor)
  local settings = client.settings
  return setmetatable({
    owner = owner,
    client = client,
    closed = false,
    waiters = line.new(),
    turn = false, -- the waiter that sees to the connection
    paused = false,
    held = 0, -- messages in all mailboxes, and their bytes
    held_bytes = 0,
    most = settings.queue_limit,
    most_bytes = settings.max_queued_bytes,
    _lines = is_monitor,
    _touched = queue.new(), -- places with something for those at them
  }, Feed)
end

function Feed:is_up()
  local conn = self.conn
  return conn ~= nil and not conn.lost
end

-- waiting -------------------------------------------------------------------------------------------------

---@class redio.Waiter
local Waiter = {}
Waiter.__index = Waiter

--- Ends its wait, in whatever way; more than once does nothing.
function Waiter:leave()
  local feed = self.feed
  if feed.waiters:leave(self) then
    self.place.line:leave(self)
    feed:_hold()
  end
  if feed.turn == self then
    feed.turn = false
    feed:_stop_opening()
  elseif self.told then
    return
  end
  feed:call_for_care() -- it had the turn, or was woken to take it
end

Waiter.abandon, Waiter.__close = Waiter.leave, Waiter.leave

-- Its coroutine has ended, or is about to.
local function is_dead(waiter)
  local state = status(waiter.thread)
  return state == "dead" or state == "zombie"
end

--- Whether nothing can be handed to it any more.
function Feed.is_gone(_, waiter)
  return waiter.parked and not waiter.co or is_dead(waiter)
end

--- Whether a coroutine sees to the connection just now.
function Feed:is_cared_for()
  return self.turn and not is_dead(self.turn) or false
end

-- The connection that was on its way for one that has ended.
function Feed:_stop_opening()
  local conn = self._coming
  self._coming = nil
  if conn then conn:close() end
end

local function needs_care(self)
  return not self.closed and (not self:is_up() or self.lost_at ~= nil or self.unsent) or false
end

-- The connection holds the owner while somebody waits.
function Feed:_hold()
  if not self:is_up() then return end
  local conn, somebody = self.conn, self.waiters.count > 0
  if somebody == not conn.hold then
    conn:keep(somebody and self.owner)
    if somebody and self.expecting then conn.liveness:busy() end
  end
end

--- Ends a wait: with a message, with an error, or with nothing.
function Feed:tell(waiter, message, err)
  if not self.waiters:leave(waiter) then return end
  waiter.place.line:leave(waiter)
  waiter.told, waiter.message, waiter.error = true, message, err
  if waiter.parked then
    waiter.parked = false
    task.wake(waiter)
  end
  self:_hold()
end

--- Ends all waits of a line; those that come meanwhile stay.
function Feed:tell_line(waiters, err)
  local list = waiters:list()
  for i = 1, #list do
    self:tell(list[i], nil, err)
  end
end

-- Lets a waiter look again.
local function nudge(waiter)
  waiter.parked = false
  task.wake(waiter)
end

--- Finds somebody to see to the connection, if that is to be done and nobody is at it.
function Feed:call_for_care()
  if not needs_care(self) or self:is_cared_for() then return end
  self.turn = false
  local waiter = self.waiters.first
  while waiter and self:is_gone(waiter) do
    waiter:leave()
    waiter = self.waiters.first
  end
  if waiter and waiter.parked then nudge(waiter) end
end

function Feed:_park(waiter)
  waiter.parked, waiter.values = true, nil
  if self:is_up() then return self.conn:park(waiter) end
  task.wait(waiter)
end

-- Ends the wait here when its task is to end: it may have been cancelled between being woken and running.
local function check_cancelled(waiter)
  if task.cancelling == 0 then return end
  local ok, err = pcall(task.check_cancelled, waiter.thread)
  if ok then return end
  waiter:leave()
  error(err, 0)
end

function Feed:_care(waiter)
  check_cancelled(waiter)
  self.turn = waiter
  local ok, err = pcall(self.owner._restore, self.owner, waiter)
  if not ok then
    waiter:leave()
    error(err, 0)
  end
  if self.turn == waiter then self.turn = false end
  if err then self:tell_line(self.waiters, err) else self:deliver() end
end

function Feed:_stay(waiter)
  while not waiter.told do
    waiter.place:look(waiter)
    if waiter.told then return end
    if waiter.place.is_patient or not needs_care(self) or self:is_cared_for() then
      self:_park(waiter)
    else
      self:_care(waiter)
    end
  end
end

local function once(_, done)
  if not done then return true end
end

--- Waits in the line of `place` until told. `place:look(waiter)` tells it what can be told at once; one that
--- `is_patient` leaves the connection to others.
---@param only_looks boolean? no message is taken: `true` stands for it
---@return any message
--- Raises what it was told, and whatever ended the wait.
function Feed:await(place, only_looks)
  local thread = running()
  if task.cancelling > 0 then task.check_cancelled(thread) end
  local waiter = setmetatable({
    feed = self, place = place, only_looks = only_looks, thread = thread, told = false, parked = false,
  }, Waiter)
  self:enter(waiter)
  -- (the fourth value is closed however the loop is left, also by coroutine.close, where Lua knows that)
  for _ in once, nil, nil, waiter do
    self:_stay(waiter)
  end
  local message, err = waiter.message, waiter.error
  waiter.message = nil -- a task keeps its last waiter
  waiter:leave()
  if err then error(err, 0) end
  return message
end

---@param in_front boolean?
function Feed:enter(waiter, in_front)
  self.waiters:enter(waiter, in_front)
  waiter.place.line:enter(waiter, in_front)
  self:_hold()
end

--- Calls a function of the user's for a waiter that has the turn, which is not waiting meanwhile, but keeps its place.
function Feed:call_out(waiter, fn, ...)
  waiter:leave()
  fn(...)
  self:enter(waiter, true)
end

-- what has come -------------------------------------------------------------------------------------------

--- There is something for those at `place`.
function Feed:touch(place)
  if place.is_touched then return end
  place.is_touched = true
  self._touched:push(place)
end

--- Lets all of them have it. After a read, so that who waits finds all its messages and need not wait for each.
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

--- What to raise where an answer is waited for that cannot be read; nil when it can.
function Feed:overflow()
  if not (self.paused and self.expecting) then return nil end
  return errors.new("OverflowError",
    ("the server's confirmation cannot be read: %d messages wait to be taken before it (max_queued_bytes = %d); take "
      .. "messages first"):format(self.held, self.most_bytes), { address = self.client.settings.address })
end

-- the connection ------------------------------------------------------------------------------------------

-- Idle connections are not to keep the feed alive, for then nothing would.
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
      feed:call_for_care()
    end,
    on_lost = function(conn, err)
      local feed = weak.feed
      if feed then feed:_lose(conn, err) end
    end,
  }
end

function Feed:_lose(conn, err)
  if self.closed then return end
  if conn ~= self.conn then return self:call_for_care() end -- who was opening it may have been ended with it
  self.paused, self.expecting = false, false
  self:deliver()
  self.owner:_lose(err)
end

-- Takes a connection that is ready.
function Feed:_adopt(conn)
  local pool = self.client._pool
  if self.closed then return pool:release(conn, false) end
  conn.liveness:set_patience(false)
  self.conn, self.paused, self.expecting = conn, false, false
  self._guard = pool:guard(conn)
  self:_hold()
  if not self.client.transport.pulls then return end
  for _, waiter in ipairs(self.waiters:list()) do -- each is to wait at this one
    if waiter.parked then nudge(waiter) end
  end
end

local PASSING = { "ConnectionError", "ProtocolError", "LoadingError", "MaxClientsError", "BusyError",
  "MasterDownError", "ClusterDownError", "TryAgainError" }

--- Whether the next connection may fare better.
function M.passes(err)
  if err.permanent then return false end
  for _, kind in ipairs(PASSING) do
    if errors.is(err, kind) then return true end
  end
  return false
end

-- Where `retry` is off the client keeps no distance between attempts, and we do.
local DISTANCE = 0.5

--- Connects; `again`: until it succeeds, or fails in a way that does not pass.
---@return table? err
function Feed:open(again)
  local client = self.client
  while not self.closed do
    local conn, err = client._pool:receive(hooks_of(self))
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
  if self.conn then self.client._pool:release(self.conn, false) end
  self:_stop_opening()
  self:tell_line(self.waiters)
  self.client.transport.flush()
end

return M
