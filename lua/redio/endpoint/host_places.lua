-- SPDX-License-Identifier: MIT
-- Places for connections, where the host keeps the idle ones: one count, and one queue of those that wait, for all
-- pools of a worker whose connections may take each other's place.
--
-- The host has a queue of its own, but of several connections that are closed in one turn (with a request that had them
-- all, or by a collection) it counts only the first, and lets the others' successors wait.

local identity = require "redio.base.identity"
local lua_version = require "redio.base.lua_version"
local queue = require "redio.base.queue"
local task = require "redio.task"

local M = {}

local SHORTEST, LONGEST = 0.01, 1 -- seconds between two looks for connections that were dropped
local GLANCE = 0.05 -- seconds between two looks at what is still there, while others wait

---@class redio.Stock
---@field options table {pool=, pool_size=}, as the transport's `open` takes it
---@field new_options table likewise, where none is ever kept
---@field kept integer at most so many lie in the host's pool
---@field using integer at most so many places are taken
local Stock = {}
Stock.__index = Stock

-- Where it leads to can be read, the rest is in a digest: the user, the secret, how it is spoken to, and how many there
-- may be.
local function name_of(settings, transport)
  local tls = settings.tls or {}
  local all = identity.of_all(settings.path, settings.host, settings.port, settings.database, settings.username,
    settings.password, settings.client_name, settings.protocol, settings.tls and true, tls.server_name, tls.verify,
    tls.cert, tls.key, settings.on_connect, settings.max_connections, settings.max_receivers)
  return ("redio %s %s"):format(settings.address, transport.digest(all))
end

local function new(name, settings, transport)
  return setmetatable({
    transport = transport,
    most = settings.max_connections,
    most_receivers = settings.max_receivers,
    name = name,
    generation = 0,
    options = { pool = name, pool_size = settings.max_connections },
    new_options = { pool = name .. " new", pool_size = 1 },
    kept = 0,
    using = 0,
    -- Connections, and attempts by number with the time until which they may last. Weak: a request that is aborted
    -- takes its own along.
    in_use = setmetatable({}, { __mode = "k" }),
    receiving = setmetatable({}, { __mode = "k" }), -- likewise, of receivers and monitors, which are none of those
    attempts = 0,
    queue = queue.new(), -- waiters
    glance_at = 0, -- when it may be looked at what is still there
    look_at = 0, -- when it may be looked for connections that were dropped
    collect_at = 0, -- and for receivers
    pause = SHORTEST, -- between two looks
    serving = false, -- when a timer is to do so
  }, Stock)
end

local stocks = setmetatable({}, { __mode = "v" })

--- That of these settings: it lives as long as a pool has it.
function M.of(settings, transport)
  local name = name_of(settings, transport)
  local stock = stocks[name]
  if not stock then
    stock = new(name, settings, transport)
    stocks[name] = stock
  end
  return stock
end

-- counting ------------------------------------------------------------------------------------------------

-- A connection whose request is over is closed, and an attempt is over when its time is: of neither is anything told.
local function is_there(entry, until_, now)
  if until_ ~= true then return until_ > now end
  return not entry.lost and not entry:is_gone()
end

local count = lua_version.interpreted(function(set, now)
  local using = 0
  for entry, until_ in pairs(set) do
    if is_there(entry, until_, now) then using = using + 1 else set[entry] = nil end
  end
  return using
end)

--- How many places are taken.
function Stock:count()
  self.using = count(self.in_use, self.transport.now())
  return self.using
end

--- How many receivers and monitors have a connection.
function Stock:count_receivers()
  return count(self.receiving, self.transport.now())
end

-- Whether a collection might free a connection: it is held by something that does not wait for it just now.
local may_be_dropped = lua_version.interpreted(function(self)
  for conn, until_ in pairs(self.in_use) do
    if until_ == true and conn.held and conn:load() == 0 then return true end
  end
  return false
end)

-- Of the time, looks may take a twentieth when they are in vain, and then a collection is tried ever more rarely; else
-- a fifth.
local IN_VAIN, OF_USE = 20, 5

-- Looks for connections whose holders were dropped and are not collected yet: when all wait for each other, nothing
-- else makes the collector run.
local function look(self)
  local now = self.transport.now()
  if now < self.look_at then return end
  local before, began, found = self.using, os.clock(), false
  if may_be_dropped(self) then
    collectgarbage()
    found = self:count() < before
  end
  local took = os.clock() - began
  self.pause = found and SHORTEST or math.min(self.pause * 2, LONGEST)
  self.look_at = now + took + math.max(self.pause, took * (found and OF_USE or IN_VAIN))
end

-- Whether there is a place.
local function has_place(self)
  if self.using < self.most then return true end
  local now = self.transport.now()
  if now < self.glance_at then return false end
  self.glance_at = now + GLANCE
  if self:count() >= self.most then look(self) end
  return self.using < self.most
end

-- places --------------------------------------------------------------------------------------------------

local function new_attempt(self, set, seconds)
  local attempt = self.attempts + 1
  self.attempts = attempt
  set[attempt] = seconds and self.transport.now() + seconds + 1 or math.huge
  return attempt
end

local function take(self)
  self.using = self.using + 1
  return new_attempt(self, self.in_use, LONGEST)
end

-- Its request was aborted: nothing waits on its semaphore any more.
local function is_gone(waiter)
  return waiter.semaphore and waiter.semaphore:count() >= 0
end

-- Gives those that wait what has become free, first come first served.
local function serve(self)
  while self.queue:count() > 0 and has_place(self) do
    local waiter = self.queue:pop()
    if is_gone(waiter) then
      waiter.is_out = true
    else
      task.wake(waiter, take(self))
    end
  end
end

-- While any waits, for of what has become free nothing may tell.
local function serve_later(self)
  local now = self.transport.now()
  if self.serving and now < self.serving + LONGEST then return end
  self.serving = now + GLANCE
  local ok = pcall(self.transport.start_timer, GLANCE, function()
    self.serving = false
    serve(self)
    if self.queue:count() > 0 then serve_later(self) end
  end)
  if not ok then self.serving = false end
end

local function leave_queue(waiter)
  waiter.stock.queue:leave(waiter)
end

local function wait(self, waiter, until_)
  local now = self.transport.now
  task.begin(waiter)
  while not waiter.values do
    local left = until_ - now()
    if left <= 0.0005 then
      leave_queue(waiter)
      task.leave(waiter)
      return nil
    end
    task.idle(waiter, math.min(left, LONGEST))
    if not waiter.values then
      if waiter.is_out then -- it was only about to look
        waiter.is_out = nil
        self.queue:enter(waiter)
      end
      serve(self)
    end
  end
  return task.woken(waiter)
end

--- A place for one more connection; waits for so many seconds until there is one.
---@param pool table the one that asks: see `dismiss`
---@return integer? attempt for `expect` and `has`; nil when there was no place
function Stock:place(pool, seconds)
  if self.queue:count() == 0 and has_place(self) then return take(self) end
  if seconds <= 0 then return nil end
  if not self.transport.may_wait() then error(self.transport.cannot_wait(), 0) end
  local waiter = { stage = "waiting for one of the pool", stock = self, pool = pool, abandon = leave_queue }
  self.queue:enter(waiter)
  serve_later(self)
  return wait(self, waiter, self.transport.now() + seconds)
end

--- Tells those of a pool that wait for a place that there will be none.
function Stock:dismiss(pool)
  self.queue:drain(function(waiter)
    if waiter.pool == pool then task.wake(waiter) else self.queue:enter(waiter) end
  end)
end

--- The attempt takes so many seconds at most.
function Stock:expect(attempt, seconds)
  self.in_use[attempt] = seconds and self.transport.now() + seconds + 1 or math.huge
end

--- The attempt is over, and has led to this connection, or to none.
---@param conn redio.Pull?
function Stock:has(attempt, conn)
  if self.in_use[attempt] == nil then self.using = self.using + 1 end -- (it took longer than it should)
  self.in_use[attempt] = nil
  if conn then
    self.in_use[conn] = true
  else
    self.using = self.using - 1
    serve(self)
  end
end

--- It is not in use any more.
function Stock:forget(conn)
  if not self.in_use[conn] then return end
  self.in_use[conn] = nil
  self.using = self.using - 1
  serve(self)
end

--- A place for one more receiver or monitor; it is not waited for.
---@param seconds number? how long the attempt may take
---@return integer? attempt nil when there is no place
function Stock:place_to_receive(seconds)
  local now = self.transport.now()
  if self:count_receivers() >= self.most_receivers and now >= self.collect_at then
    collectgarbage()
    self.collect_at = self:count_receivers() < self.most_receivers and 0 or now + LONGEST
  end
  return self:count_receivers() < self.most_receivers and new_attempt(self, self.receiving, seconds) or nil
end

--- None of those that lie in the host's pool is used from now on: the host closes them in time.
function Stock:start_anew()
  self.generation = self.generation + 1
  self.options.pool = ("%s %d"):format(self.name, self.generation)
  self.kept = 0
end

local add_connections = lua_version.interpreted(function(list, set)
  for conn, until_ in pairs(set) do
    if until_ == true then list[#list + 1] = conn end
  end
end)

--- Calls `fn` with each connection in use, those of receivers included.
function Stock:each(fn)
  local list = {}
  add_connections(list, self.in_use)
  add_connections(list, self.receiving)
  for i = 1, #list do
    fn(list[i])
  end
end

return M
