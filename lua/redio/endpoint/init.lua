-- SPDX-License-Identifier: MIT
-- One server: the connection that coroutines share, a pool of private ones, connections of receivers, and the pauses
-- between attempts to connect. Each connection knows its endpoint: `conn.home`.
-- Specs: client/client, promises/11, regress/close_while_connecting

local backoff = require "redio.endpoint.backoff"
local errors = require "redio.base.errors"
local task = require "redio.task"

local M = {}

---@class redio.Endpoint
---@field settings table the client's, with host, port, path and address of this server
---@field transport table
---@field backoff redio.Backoff
---@field pool redio.Pool|redio.HostPool
---@field on_connect fun(conn: redio.Connection)? called on each new connection before it is ready
---@field reconnects integer connections that were lost after they had been ready
---@field is_common boolean several clients use it: each closes only its own connections
--- A connection for a chain that may share one, ready.
---@field shared fun(self: redio.Endpoint, client: redio.Client): redio.Connection?, table?
local Endpoint = {}
Endpoint.__index = Endpoint

-- drivers -------------------------------------------------------------------------------------------------

local function open_shared(self, conn)
  self._shared = conn
  return conn:open(self.backoff:delay())
end

-- Opens the shared connection unless there is one, and waits until it is ready.
local function shared_by_loop(self)
  local conn = self._shared
  if not conn then
    conn = self:_new_shared()
    self.pool:warm()
    open_shared(self, conn)
  end
  local ready, err = conn:wait_ready()
  if not ready then return nil, err end
  return conn
end

-- A private connection until the shared one is ready. The shared one is opened in a timer, once several requests are at
-- work.
local function shared_by_caller(self, client)
  local conn, pool = self._shared, self.pool
  if conn and conn.ready then return conn end
  if not conn and pool.places.using > 0 and pool:wants_shared() and not open_shared(self, self:_new_shared()) then
    self._shared = nil -- no timer was to be had
  end
  return pool:acquire(client)
end

local function pause_by_loop(transport, seconds)
  local waiter = {}
  transport.start_timer(seconds, function()
    task.wake(waiter)
  end)
  task.wait(waiter)
end

local function pause_by_caller(_, seconds)
  task.sleep(seconds)
end

-- By the name of a transport's driver: a loop calls back when there is something to read, or each caller reads for
-- itself. The modules of the other one are not loaded.
local drivers = {
  loop = function()
    return {
      pool = require "redio.endpoint.pool",
      connection = require "redio.connection.loop",
      shared = shared_by_loop,
      pause = pause_by_loop,
      is_common = false,
    }
  end,
  caller = function()
    return {
      pool = require "redio.endpoint.host_pool",
      connection = require "redio.connection.timer",
      shared = shared_by_caller,
      pause = pause_by_caller,
      is_common = true,
    }
  end,
}

local function driver_of(transport)
  return drivers[transport.driver or transport.pulls and "caller" or "loop"]()
end

-- making one ----------------------------------------------------------------------------------------------

-- The client's settings, but for what names the server.
local function settings_of(seed, settings)
  return setmetatable({ host = seed.host, port = seed.port, path = seed.path, address = seed.address },
    { __index = settings })
end

--- The endpoint of one server. No I/O until it is used.
---@param seed table {host, port, path, address}
---@param settings table the client's
---@param transport table
---@param hooks table on_connect(conn)?; on_shared(conn?)?: the shared connection is ready, or is no longer to be used
---@return redio.Endpoint
function M.new(seed, settings, transport, hooks)
  local driver = driver_of(transport)
  local self = setmetatable({
    settings = settings_of(seed, settings),
    transport = transport,
    backoff = backoff.new(settings.retry, transport),
    on_connect = hooks.on_connect,
    reconnects = 0,
    is_common = driver.is_common,
    shared = driver.shared,
    _driver = driver,
    _on_shared = not driver.is_common and hooks.on_shared or false,
    _shared = nil,
  }, Endpoint)
  self.pool = driver.pool.new(self)
  return self
end

--- A connection of this endpoint was lost.
---@param conn redio.Connection
function Endpoint:lost(conn)
  self.backoff:failed(conn)
  if conn.was_ready and not errors.is(conn.lost, "ConnectionForcedCloseError") then
    self.reconnects = self.reconnects + 1
  end
end

-- the shared connection -----------------------------------------------------------------------------------

function Endpoint:_announce(conn)
  if self._on_shared then self._on_shared(conn) end
end

function Endpoint:_new_shared()
  local conn = self._driver.connection.new(self.settings, self.transport, {
    home = self,
    on_connect = self.on_connect,
    on_ready = function(ready)
      self:_announce(ready)
    end,
    on_lost = function(lost)
      if self._shared == lost then
        self._shared = nil
        self:_announce(nil)
      end
      self:lost(lost)
    end,
  }, self.pool.new_options)
  conn.home = self
  return conn
end

--- The next chain takes a new shared connection. This one closes when nothing is in flight; does nothing when it is
--- not the shared one.
---@param conn redio.Connection
function Endpoint:leave(conn)
  if self._shared ~= conn then return end
  self._shared = nil
  self:_announce(nil)
  conn:retire()
end

-- private connections -------------------------------------------------------------------------------------

--- A private connection, ready, until `release`.
---@param client redio.Client
---@return redio.Connection? conn
---@return table? err
function Endpoint:acquire(client)
  return self.pool:acquire(client)
end

--- A new connection for a receiver or a monitor, ready.
---@param client redio.Client
---@param extra table {lines=, on_open(conn), on_push(conn, ...), after_read(), on_lost(conn, err)}
---@return redio.Connection? conn
---@return table? err
function Endpoint:receive(client, extra)
  return self.pool:receive(client, extra)
end

--- Takes a connection back. Unless its session is clean, it is closed.
---@param conn redio.Connection
---@param is_clean boolean?
function Endpoint:release(conn, is_clean)
  self.pool:release(conn, is_clean)
end

--- Takes a connection back with a session that is not clean: undoes what the session has left, or closes it.
---@param conn redio.Connection
---@param session userdata the pipeline that follows the session
function Endpoint:restore(conn, session)
  self.pool:restore(conn, session)
end

--- Has the connection closed if its holder is collected while `guard.held.conn` is set. The holder must refer to the
--- guard, and nothing else may.
---@param conn redio.Connection
---@return table guard
function Endpoint:guard(conn)
  return self.pool:guard(conn)
end

-- all of them ---------------------------------------------------------------------------------------------

--- Adds this endpoint's numbers to those of a client: see redio.Client.stats.
---@param stats table
function Endpoint:add_stats(stats)
  local pool, shared = self.pool, self._shared
  local function add(conn)
    local in_flight, bytes = conn:load()
    stats.in_flight = stats.in_flight + in_flight
    stats.queued_bytes = stats.queued_bytes + bytes
  end
  local connections, idle, waiting = pool:counts()
  pool:each(add)
  if shared then
    add(shared)
    connections = connections + 1
    if shared:load() == 0 then idle = idle + 1 end
    waiting = waiting + shared:waiting_to_open()
  end
  stats.connections = stats.connections + connections
  stats.idle = stats.idle + idle
  stats.waiting = stats.waiting + waiting
  stats.reconnects = stats.reconnects + self.reconnects
  stats.receivers = stats.receivers + pool:count_receivers()
end

local function close_one(conn)
  conn:close()
end

--- Closes idle connections; unless `only_idle`, also the client's others with what is in flight on them. A shared
--- connection that other clients use closes when nothing is in flight.
---@param client redio.Client
---@param only_idle boolean?
function Endpoint:disconnect(client, only_idle)
  local shared = self._shared
  self.pool:close_idle()
  if shared and self.is_common then
    self:leave(shared)
  elseif shared and (not only_idle or shared.ready and shared:load() == 0) then
    shared:close()
  end
  if not only_idle then self.pool:each(close_one, client) end
end

--- How many chains of the client's are in flight. (On a shared connection that other clients use they end in any case.)
---@param client redio.Client
---@return integer
function Endpoint:in_flight(client)
  local shared = not self.is_common and self._shared
  return self.pool:in_flight(client) + (shared and (shared:load()) or 0)
end

--- Ends the client's waits for a connection; it gets no more.
---@param client redio.Client closed already
function Endpoint:stop(client)
  self.pool:stop(client)
end

--- Waits until nothing of the client's is in flight, or until that time.
---@param client redio.Client
---@param until_ number by the transport's clock
function Endpoint:drain(client, until_)
  local transport = self.transport
  local left = until_ - transport.now()
  while left > 0 and self:in_flight(client) > 0 do
    self._driver.pause(transport, math.min(0.005, left))
    left = until_ - transport.now()
  end
end

--- Closes the client's connections, and those that no other client uses.
---@param client redio.Client
function Endpoint:close(client)
  if self.is_common then return self.pool:each(close_one, client) end
  self:disconnect(client)
end

return M
