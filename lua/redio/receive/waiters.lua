-- SPDX-License-Identifier: MIT
-- Coroutines that wait for what comes unasked.
--
-- A coroutine waits in the line of a place (a mailbox, or a confirmation) until it is told something: a message, an
-- error, or that there will be nothing. When the connection needs care (it is to be opened, or restored after a loss),
-- one of those that wait sees to it in its own coroutine, and keeps its place meanwhile: it has the turn. When it ends
-- before that is done, the next one takes over.

local linked_list = require "redio.base.linked_list"
local lua_version = require "redio.base.lua_version"
local task = require "redio.task"

local running = coroutine.running

local M = {}

---@class redio.Waiters
local Waiters = {}
Waiters.__index = Waiters

--- `feed` has the methods needs_care(), care(waiter): err?, is_up(), hold(is_needed), and the field `conn`.
---@param feed redio.Feed
function M.new(feed)
  local pulls = feed.client.transport.pulls or false
  return setmetatable({
    feed = feed,
    all = linked_list.new(),
    turn = false, -- the waiter that sees to the connection
    _pulls = pulls,
    _handed = pulls and linked_list.new(), -- those that were told and have not run yet
    _request = pulls and feed.client.transport.request,
  }, Waiters)
end

-- a waiter ------------------------------------------------------------------------------------------------

---@class redio.Waiter
local Waiter = {}
Waiter.__index = Waiter

--- Ends its wait, in whatever way; more than once does nothing.
function Waiter:leave()
  local waiters = self.waiters
  waiters:_take_out(self)
  if self.told and not self.taken then
    self.taken = true -- it was closed before it ran
    if self.message ~= nil and not self.only_looks then self.place:put_back(self.message) end
  end
  if waiters.turn == self then
    waiters.turn = false
  elseif self.told then
    return
  end
  waiters:call() -- it had the turn, or was woken to take it
end

Waiter.abandon, Waiter.__close = Waiter.leave, Waiter.leave

-- True when its coroutine has ended. (In nginx that can be told of the running request's light threads alone.)
local is_dead = task.is_dead

-- True when nothing can be handed to it any more.
local function is_gone(waiter)
  return waiter.parked and not waiter.co or is_dead(waiter)
end

-- lines ---------------------------------------------------------------------------------------------------

---@param in_front boolean?
function Waiters:_put_in(waiter, in_front)
  self.all:enter(waiter, in_front)
  waiter.place.line:enter(waiter, in_front)
  self.feed:hold(true)
end

function Waiters:_take_out(waiter)
  if not self.all:leave(waiter) then return false end
  waiter.place.line:leave(waiter)
  self.feed:hold(self.all.count > 0)
  return true
end

--- True when nothing waits.
function Waiters:is_empty()
  return self.all.count == 0
end

--- The first in a line that something can be handed to.
---@param waiters redio.Line?
function Waiters:first(waiters)
  waiters = waiters or self.all
  local waiter = waiters.first
  while waiter and is_gone(waiter) do
    waiter:leave()
    waiter = waiters.first
  end
  return waiter
end

-- telling -------------------------------------------------------------------------------------------------

-- Wakes one that is parked.
local function wake(waiter)
  if not waiter.parked then return end
  waiter.parked = false
  task.wake(waiter)
end

--- Ends a wait: with a message, with an error, or with nothing.
function Waiters:tell(waiter, message, err)
  if not self.all:leave(waiter) then return end
  waiter.place.line:leave(waiter)
  waiter.told, waiter.message, waiter.error = true, message, err
  if self._handed then self._handed:enter(waiter) end
  wake(waiter)
  self.feed:hold(self.all.count > 0) -- (only now: it may have come again)
end

--- Ends all waits of a line, by default all there are; those that come meanwhile stay.
---@param waiters redio.Line?
function Waiters:tell_all(err, waiters)
  local list = (waiters or self.all):list()
  for i = 1, #list do
    self:tell(list[i], nil, err)
  end
end

--- Takes back what was handed to light threads that were ended before they ran.
function Waiters:reclaim()
  local handed = self._handed
  if not handed or handed.count == 0 then return end
  for _, waiter in ipairs(handed:list()) do
    if is_dead(waiter) then
      handed:leave(waiter)
      waiter:leave()
    end
  end
end

-- the turn ------------------------------------------------------------------------------------------------

--- True while a coroutine sees to the connection.
function Waiters:is_at_work()
  return self.turn and not is_dead(self.turn) or false
end

--- Has one of those that wait see to the connection, if that is to be done and none is at it.
function Waiters:call()
  if not self.feed:needs_care() or self:is_at_work() then return end
  self.turn = false
  local waiter = self:first()
  if waiter then wake(waiter) end
end

--- Has all look again at where they are to wait.
function Waiters:wake_all()
  for _, waiter in ipairs(self.all:list()) do
    wake(waiter)
  end
end

--- Calls a function of the user's for a waiter that has the turn. It does not wait meanwhile, but keeps its place.
function Waiters:call_out(waiter, fn, ...)
  self:_take_out(waiter)
  self.turn = false
  self:call()
  fn(...)
  self:_put_in(waiter, true)
end

function Waiters:_work(waiter)
  self.turn = waiter
  local err = self.feed:care(waiter)
  if self.turn == waiter then self.turn = false end
  if err then self:tell_all(err) else self.feed:deliver() end
end

-- waiting -------------------------------------------------------------------------------------------------

-- Seconds between two looks at whether the one that has the turn still lives: a program can end a light thread
-- wherever it waits (ngx.thread.kill), and nothing is told.
local GLANCE = 1

-- Where there is no connection to wait at.
function Waiters:_park_apart(waiter)
  if not self._pulls then return task.wait(waiter) end
  task.begin(waiter)
  repeat
    task.idle(waiter, GLANCE)
    if waiter.values then return task.woken(waiter) end
  until not self:is_at_work()
  task.leave(waiter)
end

function Waiters:_park(waiter)
  waiter.parked, waiter.values = true, nil
  if self.feed:is_up() then self.feed.conn:park(waiter) else self:_park_apart(waiter) end
  waiter.parked = false
end

function Waiters:_stay(waiter)
  waiter.place:look(waiter)
  while not waiter.told do
    if waiter.place.is_patient or not self.feed:needs_care() or self:is_at_work() then
      self:_park(waiter)
    else
      self:_work(waiter)
    end
    if not waiter.told then waiter.place:look(waiter) end
  end
  waiter.taken = true
end

--- Waits in the line of `place` until told. `place:look(waiter)` tells it what can be told at once; at one that
--- `is_patient` the connection is left to others.
---@param only_looks boolean? no message is taken: `true` stands for it
---@return any message
--- Raises what it was told, and whatever ended the wait.
function Waiters:await(place, only_looks)
  local request = self._request
  local waiter = setmetatable({
    waiters = self, place = place, only_looks = only_looks, thread = running(), request = request and request(),
    told = false, taken = false, parked = false,
  }, Waiter)
  self:_put_in(waiter)
  lua_version.with_close(waiter, self._stay, self, waiter)
  if self._handed then self._handed:leave(waiter) end
  local message, err = waiter.message, waiter.error
  waiter.message = nil -- (a task keeps its last waiter)
  if err then error(err, 0) end
  return message
end

return M
