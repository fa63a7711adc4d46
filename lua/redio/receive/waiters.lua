-- SPDX-License-Identifier: MIT
-- Coroutines that wait for unasked messages.
--
-- A coroutine waits in the line of a place (a mailbox or a confirmation) until it is told a message, an error, or that
-- nothing will come. When the connection is to be opened or restored, one of the waiters does it in its own coroutine
-- and keeps its place in the line: it has the turn. If it ends before the work is done, the next waiter takes over.
-- Specs: regress/receiver_several_waiters, regress/receiver_waiting_collected, regress/receiver_many

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
  local request = feed.client.transport.request or false -- where a request may end, with its threads, unannounced
  return setmetatable({
    feed = feed,
    all = linked_list.new(),
    turn = false, -- the waiter that opens or restores the connection
    _handed = request and linked_list.new(), -- waiters that were told and have not run yet
    _request = request,
  }, Waiters)
end

-- a waiter ------------------------------------------------------------------------------------------------

---@class redio.Waiter
local Waiter = {}
Waiter.__index = Waiter

--- Takes the waiter out of its lines. It is also called when the coroutine is closed. Further calls do nothing.
function Waiter:leave()
  local waiters = self.waiters
  waiters:_take_out(self)
  if self.told and not self.taken then
    self.taken = true -- closed before it ran
    if self.message ~= nil and not self.only_looks then self.place:put_back(self.message) end
  end
  if waiters.turn == self then
    waiters.turn = false
  elseif self.told then
    return
  end
  waiters:call() -- this one had the turn, or was woken to take it
end

Waiter.abandon, Waiter.__close = Waiter.leave, Waiter.leave

-- True when the waiter's coroutine has ended. (nginx knows this only for light threads of the running request.)
local is_dead = task.is_dead

-- True when the waiter cannot take a message any more.
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

--- True when there is no waiter.
function Waiters:is_empty()
  return self.all.count == 0
end

--- The first waiter in a line that can take a message.
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

-- Resumes the waiter if it is parked.
local function wake(waiter)
  if not waiter.parked then return end
  waiter.parked = false
  task.wake(waiter)
end

--- Ends a wait, with a message, an error or nothing.
function Waiters:tell(waiter, message, err)
  if not self.all:leave(waiter) then return end
  waiter.place.line:leave(waiter)
  waiter.told, waiter.message, waiter.error = true, message, err
  if self._handed then self._handed:enter(waiter) end
  wake(waiter)
  self.feed:hold(self.all.count > 0) -- (after the wake: the same coroutine may wait again)
end

--- Ends all waits of a line, or of all lines. Waiters that enter meanwhile stay.
---@param waiters redio.Line?
function Waiters:tell_all(err, waiters)
  local list = (waiters or self.all):list()
  for i = 1, #list do
    self:tell(list[i], nil, err)
  end
end

--- Takes messages back from light threads that were told and ended before they ran.
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

--- True while a waiter opens or restores the connection.
function Waiters:is_at_work()
  return self.turn and not is_dead(self.turn) or false
end

--- Wakes a waiter to open or restore the connection, if that is due and none is at work.
function Waiters:call()
  if not self.feed:needs_care() or self:is_at_work() then return end
  self.turn = false
  local waiter = self:first()
  if waiter then wake(waiter) end
end

--- Wakes all waiters, each of which parks again.
function Waiters:wake_all()
  for _, waiter in ipairs(self.all:list()) do
    wake(waiter)
  end
end

--- Calls a function of the user's in the coroutine that has the turn. Its waiter gives up the turn, leaves the lines
--- during the call, and enters at the front afterwards.
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

-- Seconds between two checks that the waiter with the turn is alive. (ngx.thread.kill ends a light thread unnoticed.)
local GLANCE = 1

-- Parks without a connection.
function Waiters:_park_apart(waiter)
  if not self._request then return task.wait(waiter) end
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

--- Waits in the line of `place` until told. `place:look(waiter)` tells the waiter at once if it can. At a place that
--- `is_patient` a waiter never takes the turn.
---@param only_looks boolean? returns true instead of a message, which stays
---@return any message
--- Raises the error that ended the wait.
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
  waiter.message = nil -- (a task keeps its last waiter, and would keep the message)
  if err then error(err, 0) end
  return message
end

return M
