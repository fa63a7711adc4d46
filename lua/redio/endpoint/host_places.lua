-- SPDX-License-Identifier: MIT
-- Places for connections where the host keeps the idle ones: one count and one FIFO queue for all pools of a worker
-- with connections that may take each other's place.
--
-- The host's own queue does not do: when several connections close in one turn (with a request that had them all, or by
-- a collection) the host counts only the first of them, and those that wait for the others' places wait on.
-- Specs: hosts/nginx/max_connections

local identity = require "redio.base.identity"
local linked_list = require "redio.base.linked_list"
local lua_version = require "redio.base.lua_version"
local pacing = require "redio.endpoint.pacing"
local task = require "redio.task"

local M = {}

local LONGEST = pacing.LONGEST
local GLANCE = 0.05 -- seconds between two counts, while callers wait
local SLACK = 1 -- seconds that an attempt may take longer than it should, and keep its place

---@class redio.Places
---@field options table {pool=, pool_size=}: the host's pool, as the transport's `open` takes it
---@field new_options table the same for connections that are never kept
---@field kept integer connections in the host's pool: at most so many
---@field using integer places that are taken: at most so many
local Places = {}
Places.__index = Places

-- The address is readable. The rest is in a digest: the user, the secret, how the server is spoken to, and the bounds.
local function name_of(settings, transport)
  local tls = settings.tls or {}
  local all = identity.of_all(settings.path, settings.host, settings.port, settings.database, settings.username,
    settings.password, settings.client_name, settings.protocol, settings.tls and true, tls.server_name, tls.verify,
    tls.cert, tls.key, settings.on_connect, settings.max_connections, settings.max_receivers)
  return ("redio %s %s"):format(settings.address, transport.digest(all))
end

local function new(name, settings, transport)
  return setmetatable({
    options = { pool = name, pool_size = settings.max_connections },
    new_options = { pool = name .. " new", pool_size = 1 },
    kept = 0,
    using = 0,
    _transport = transport,
    _name = name,
    _generation = 0,
    _most = settings.max_connections,
    _most_receivers = settings.max_receivers,
    -- Connections (-> true), and numbers of attempts to have one (-> the time until which they may last). Weak: an
    -- aborted request takes its own along.
    _in_use = setmetatable({}, { __mode = "k" }),
    _receiving = setmetatable({}, { __mode = "k" }), -- the same of receivers and monitors
    _attempts = 0,
    _waiters = linked_list.new(),
    _searches = pacing.new(5), -- for dropped connections
    _count_at = 0, -- when a caller without a place may count
    _collect_at = 0, -- when a receiver without a place may collect
    _serve_at = false, -- when the timer that serves is due, if there is one
  }, Places)
end

local by_name = setmetatable({}, { __mode = "v" })

--- The places for connections of these settings. They exist as long as a pool refers to them.
---@param settings table
---@param transport table
---@return redio.Places
function M.of(settings, transport)
  local name = name_of(settings, transport)
  local places = by_name[name]
  if not places then
    places = new(name, settings, transport)
    by_name[name] = places
  end
  return places
end

-- counting ------------------------------------------------------------------------------------------------

-- The end of a request is not announced: its connections are closed, and its attempts run out of time.
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
---@return integer
function Places:count()
  self.using = count(self._in_use, self._transport.now())
  return self.using
end

--- How many connections receivers and monitors have.
---@return integer
function Places:count_receivers()
  return count(self._receiving, self._transport.now())
end

--- How many callers wait for a place.
---@return integer
function Places:count_waiting()
  return self._waiters.count
end

-- True when a collection might free a connection: one has a holder that does not wait for it just now.
local may_be_dropped = lua_version.interpreted(function(self)
  for conn, until_ in pairs(self._in_use) do
    if until_ == true and conn.guarded and conn:load() == 0 then return true end
  end
  return false
end)

-- Collects, so that connections of dropped holders are closed.
local function search(self)
  if not may_be_dropped(self) then return false end
  local before = self.using
  collectgarbage()
  return self:count() < before
end

-- True when there is a place, where it seems that there is none.
local function is_one_free(self)
  local now = self._transport.now()
  if now < self._count_at then return false end
  self._count_at = now + GLANCE
  if self:count() >= self._most then self._searches:run(now, search, self) end
  return self.using < self._most
end

-- places --------------------------------------------------------------------------------------------------

local function new_attempt(self, set, seconds)
  local attempt = self._attempts + 1
  self._attempts = attempt
  set[attempt] = seconds and self._transport.now() + seconds + SLACK or math.huge
  return attempt
end

-- The thread of an aborted request has ended: nothing waits on its semaphore.
local function is_gone(waiter)
  return waiter.semaphore and waiter.semaphore:count() >= 0
end

-- Gives free places to the callers that wait.
local function serve(self)
  local waiters = self._waiters
  while waiters.count > 0 and (self.using < self._most or is_one_free(self)) do
    local waiter = waiters.first
    waiters:leave(waiter)
    if is_gone(waiter) then
      waiter.is_out = true
    else
      self.using = self.using + 1
      task.wake(waiter, new_attempt(self, self._in_use, LONGEST))
    end
  end
end

-- Serves in a timer while callers wait: that a place has become free may not be announced.
local function serve_later(self)
  local now = self._transport.now()
  if self._serve_at and now < self._serve_at + LONGEST then return end
  self._serve_at = now + GLANCE
  local ok = pcall(self._transport.start_timer, GLANCE, function()
    self._serve_at = false
    serve(self)
    if self._waiters.count > 0 then serve_later(self) end
  end)
  if not ok then self._serve_at = false end
end

local function leave_queue(waiter)
  waiter.places._waiters:leave(waiter)
end

-- Waits until the waiter has a place, or until that time.
local function wait(self, waiter, until_)
  local now = self._transport.now
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
      if waiter.is_out then -- it was not gone, and only about to look
        waiter.is_out = nil
        self._waiters:enter(waiter)
      end
      serve(self)
    end
  end
  return task.woken(waiter)
end

local function queue_up(self, client, seconds)
  local transport = self._transport
  if seconds <= 0 then return nil end
  if not transport.may_wait() then error(transport.cannot_wait(), 0) end
  local waiter = { stage = "waiting for one of the pool", places = self, client = client, abandon = leave_queue }
  self._waiters:enter(waiter)
  serve_later(self)
  return wait(self, waiter, transport.now() + seconds)
end

--- Takes a place for one more connection; waits for so many seconds until there is one.
---@param client redio.Client
---@param seconds number
---@param connect_seconds number|false how long the attempt to have a connection may take
---@return integer? attempt for `settle`; nil when there was no place
function Places:take(client, seconds, connect_seconds)
  if self._waiters.count > 0 or self.using >= self._most and not is_one_free(self) then
    local waited = queue_up(self, client, seconds)
    if not waited then return nil end
    self._in_use[waited] = nil -- the attempt begins now
  else
    self.using = self.using + 1
  end
  return new_attempt(self, self._in_use, connect_seconds)
end

--- The attempt is over: the place is this connection's, or free.
---@param attempt integer
---@param conn redio.CallerConnection?
function Places:settle(attempt, conn)
  local in_use = self._in_use
  if in_use[attempt] == nil then self.using = self.using + 1 end -- (it took longer than it should)
  in_use[attempt] = nil
  if conn then
    in_use[conn] = true
  else
    self.using = self.using - 1
    serve(self)
  end
end

--- The connection is not in use any more.
---@param conn redio.CallerConnection
function Places:leave(conn)
  if not self._in_use[conn] then return end
  self._in_use[conn] = nil
  self.using = self.using - 1
  if self._waiters.count > 0 then serve(self) end
end

--- Ends the waits of a client's callers: there will be no place for them.
---@param client redio.Client
function Places:dismiss(client)
  local waiters = self._waiters
  for _, waiter in ipairs(waiters:list()) do
    if waiter.client == client and waiters:leave(waiter) then task.wake(waiter) end
  end
end

-- receivers -----------------------------------------------------------------------------------------------

--- Takes a place for one more receiver or monitor; does not wait for one.
---@param seconds number|false how long the attempt may take
---@return integer? attempt for `settle_receiver`; nil when there is no place
function Places:take_receiver(seconds)
  local now = self._transport.now()
  if self:count_receivers() >= self._most_receivers and now >= self._collect_at then
    collectgarbage()
    self._collect_at = self:count_receivers() < self._most_receivers and 0 or now + LONGEST
  end
  return self:count_receivers() < self._most_receivers and new_attempt(self, self._receiving, seconds) or nil
end

--- The attempt is over: the place is this connection's, or free.
---@param attempt integer
---@param conn redio.CallerConnection?
function Places:settle_receiver(attempt, conn)
  self._receiving[attempt] = nil
  if conn then self._receiving[conn] = true end
end

--- The connection is not in use any more.
---@param conn redio.CallerConnection
function Places:leave_receiver(conn)
  self._receiving[conn] = nil
end

-- all of them ---------------------------------------------------------------------------------------------

--- The connections in the host's pool are not used any more: the host closes them in time.
function Places:start_anew()
  self._generation = self._generation + 1
  self.options.pool = ("%s %d"):format(self._name, self._generation)
  self.kept = 0
end

local add_connections = lua_version.interpreted(function(list, set)
  for conn, until_ in pairs(set) do
    if until_ == true then list[#list + 1] = conn end
  end
end)

--- The connections in use.
---@param with_receivers boolean? those of receivers and monitors, too
---@return redio.CallerConnection[]
function Places:list(with_receivers)
  local list = {}
  add_connections(list, self._in_use)
  if with_receivers then add_connections(list, self._receiving) end
  return list
end

return M
