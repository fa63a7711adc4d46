-- SPDX-License-Identifier: MIT
-- The private connections of an endpoint, on a host that keeps idle sockets. The methods are those of pool.lua. Several
-- clients may use one pool.
-- Specs: hosts/nginx/connections, hosts/nginx/max_connections, hosts/nginx/state

local caller = require "redio.connection.caller"
local host_places = require "redio.endpoint.host_places"
local refusals = require "redio.endpoint.refusals"
local task = require "redio.task"

local M = {}

local IDLE = 60 -- seconds that a socket may be idle

---@class redio.HostPool
---@field home redio.Endpoint
---@field places redio.Places
---@field new_options table for the transport's `open`: a socket that is never kept
local Pool = {}
Pool.__index = Pool

--- The pool of an endpoint.
---@param home redio.Endpoint
---@return redio.HostPool
function M.new(home)
  local settings, transport = home.settings, home.transport
  local places = host_places.of(settings, transport)
  return setmetatable({
    home = home,
    settings = settings,
    transport = transport,
    new_options = places.new_options,
    places = places,
    _spare = {}, -- connections without socket
    _born = setmetatable({ transport.request() }, { __mode = "v" }), -- in this request
    _outlives = false, -- it has seen another request
  }, Pool)
end

--- True when its connections may serve other requests than the one that has made it: it has seen two.
---@return boolean
function Pool:outlives_request()
  if not self._outlives then
    local born = self._born[1]
    self._outlives = born == nil or born ~= self.transport.request()
  end
  return self._outlives
end

--- True when a connection that requests share would be of use: another is at work.
---@return boolean
function Pool:wants_shared()
  return self:outlives_request() and self.places:count() > 0
end

--- In use and idle, idle, and callers that wait for one, as far as is known.
function Pool:counts()
  local places = self.places
  return places:count() + places.kept, places.kept, places:count_waiting()
end

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  return self.places:count_receivers()
end

-- connecting ----------------------------------------------------------------------------------------------

local function connect(self, hooks)
  local home = self.home
  hooks.home, hooks.on_connect = home, home.on_connect
  local conn = caller.new(self.settings, self.transport, hooks)
  conn.home = home
  return conn
end

local function new(self)
  local home, places = self.home, self.places
  return connect(self, {
    on_lost = function(conn)
      places.kept = 0 -- connections in the host's pool may be lost for the same reason
      places:leave(conn)
      home:lost(conn)
    end,
  })
end

-- How long the way to a socket may take: no longer than the task's own deadline allows.
local function limit_of(self, record)
  local seconds = self.settings.connect_timeout
  local left = record and record:left()
  return left and (not seconds or left < seconds) and math.max(left, 0.001) or seconds
end

-- Stands for a connection until there is one: closing it ends the attempt.
local Opening = {}
Opening.__index = Opening

function Opening:close()
  self.places:settle(self.attempt, nil)
end

-- Calls the transport's `open` in a task; the first result is false when the host cannot wait here. While the task
-- waits in it, closing `stand_in` ends the attempt.
local function open_in_task(self, record, stand_in, options)
  record.conn = stand_in
  local ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, options, limit_of(self, record))
  record.conn = nil
  return ok, socket, why, permanent, at
end

-- Misuse, and not the network's fault.
local function cannot_wait(self)
  error(self.transport.cannot_wait(), 0)
end

-- Takes a new socket and logs in, or is refused.
local function greet(conn, started, socket, why, permanent, at)
  conn.stage = at or "connecting"
  if not socket then return conn:refuse(why, permanent) end
  conn:attach(socket)
  conn:greet(started)
end

-- Takes a socket of the host's pool, or connects. The connection is ready, or lost.
local function open(self, client, record, attempt)
  local places, settings, open_socket, started = self.places, self.settings, self.transport.open, self.transport.now()
  local ok, socket, why, permanent, at
  if record then
    local stand_in = setmetatable({ places = places, attempt = attempt }, Opening)
    ok, socket, why, permanent, at = open_in_task(self, record, stand_in, places.options)
  else
    ok, socket, why, permanent, at = pcall(open_socket, settings, places.options, settings.connect_timeout)
  end
  if not ok then
    places:settle(attempt, nil)
    cannot_wait(self)
  end
  local is_reused = socket and socket.reused
  local conn = is_reused and table.remove(self._spare) or new(self)
  places:settle(attempt, conn)
  conn.client = client
  if not is_reused then
    places.kept = 0
    greet(conn, started, socket, why, permanent, at)
    return conn
  end
  places.kept = math.max(0, places.kept - 1)
  conn:attach(socket)
  conn.proved = true
  if not conn.ready then conn:established() end
  return conn
end

-- The connection, or why it is lost. Raises when it is the task's own time that is up. (No function that waits has the
-- connection in a local variable: LuaJIT's collector takes the one of an earlier call, in a slot that is not written
-- yet, for one that is in use.)
local function outcome(conn, record)
  if not conn.lost then return conn end
  local err = record and record:overdue(conn.stage)
  if err then error(err, 0) end
  return nil, conn.lost
end

--- A connection that is ready, for the caller alone until `release`.
---@param client redio.Client
---@return redio.CallerConnection? conn
---@return table? err
function Pool:acquire(client)
  if client.closed then return nil, refusals.closed(self.settings) end
  local record, places, settings = task.current(), self.places, self.settings
  if record then task.check_cancelled() end
  if places.kept == 0 then self:_pause() end
  local attempt = places:take(client, settings.pool_timeout or math.huge, settings.connect_timeout)
  if client.closed then
    if attempt then places:settle(attempt, nil) end
    return nil, refusals.closed(settings)
  end
  if not attempt then return nil, refusals.full(settings, settings.pool_timeout) end
  return outcome(open(self, client, record, attempt), record)
end

-- Keeps the distance between attempts to connect.
function Pool:_pause()
  local delay = self.home.backoff:delay()
  if delay > 0 then task.sleep(delay) end
end

-- receivers -----------------------------------------------------------------------------------------------

local function new_receiver(self, extra)
  local home, places = self.home, self.places
  return connect(self, {
    receiver = true,
    lines = extra.lines,
    on_push = extra.on_push,
    after_read = extra.after_read,
    on_lost = function(lost, err)
      places:leave_receiver(lost)
      home:lost(lost)
      extra.on_lost(lost, err)
    end,
  })
end

--- A new connection for a receiver or a monitor, ready. It counts apart from the others.
---@param client redio.Client
---@param extra table {lines=, on_push(conn, ...), after_read(), on_lost(conn, err)}
---@return redio.CallerConnection? conn
---@return table? err
function Pool:receive(client, extra)
  if client.closed then return nil, refusals.closed(self.settings) end
  local record, places = task.current(), self.places
  if record then task.check_cancelled() end
  self:_pause()
  local attempt = places:take_receiver(limit_of(self, record))
  if not attempt then return nil, refusals.too_many_receivers(self.settings) end
  local started, conn = self.transport.now(), new_receiver(self, extra)
  conn.stage, conn.client = "connecting", client
  local ok, socket, why, permanent, at
  if record then
    ok, socket, why, permanent, at = open_in_task(self, record, conn, places.new_options)
  else
    ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, places.new_options,
      self.settings.connect_timeout)
  end
  places:settle_receiver(attempt, ok and socket and conn)
  if not ok then cannot_wait(self) end
  greet(conn, started, socket, why, permanent, at)
  return outcome(conn, record)
end

-- giving back ---------------------------------------------------------------------------------------------

-- A program that makes a new on_connect for each request makes connections that no second request can use, and would
-- fill the host's pool with them. So until a second request has come with the same function, few sockets are kept, and
-- not for long.
local BRIEF, BRIEFS = 1, 16
local briefs, briefs_since = 0, 0

local function seconds_to_keep(self)
  if self:outlives_request() then return IDLE end
  local now = self.transport.now()
  if now - briefs_since > BRIEF then briefs, briefs_since = 0, now end
  briefs = briefs + 1
  return briefs <= BRIEFS and BRIEF or nil
end

--- Takes a connection back: its socket goes to the host's pool. Unless its session is clean, it is closed.
---@param conn redio.CallerConnection
---@param is_clean boolean?
function Pool:release(conn, is_clean)
  if conn.lost then return end
  local places, spare = self.places, self._spare
  local seconds = is_clean and not conn.client.closed and conn.ready and IDLE
  if seconds and self.settings.on_connect then seconds = seconds_to_keep(self) end
  local socket = seconds and conn:detach()
  if not socket then return conn:close() end
  places:leave(conn)
  conn.client, conn.guarded = nil, false
  if not socket:keep(seconds) then return end
  places.kept = places.kept + 1
  if #spare < self.settings.max_connections then spare[#spare + 1] = conn end
end

--- Takes a connection back with a session that is not clean, and closes it: nothing can wait here until the session is
--- undone.
---@param conn redio.CallerConnection
function Pool:restore(conn)
  self:release(conn, false)
end

--- Notes that the connection has a holder. The host closes the socket when the holder is collected, or the request
--- has ended.
---@param conn redio.CallerConnection
function Pool.guard(_, conn)
  conn.guarded = true
  return { held = { conn = conn } }
end

-- all of them ---------------------------------------------------------------------------------------------

--- The idle connections are not used any more.
function Pool:close_idle()
  self.places:start_anew()
end

--- Calls `fn` with each connection of the client, or of all clients; those of receivers included.
---@param fn fun(conn: redio.CallerConnection)
---@param client redio.Client?
function Pool:each(fn, client)
  for _, conn in ipairs(self.places:list(true)) do
    if not client or conn.client == client then fn(conn) end
  end
end

--- Chains in flight on the client's connections, without those of receivers.
---@param client redio.Client
---@return integer
function Pool:in_flight(client)
  local count = 0
  for _, conn in ipairs(self.places:list()) do
    if conn.client == client then count = count + (conn:load()) end
  end
  return count
end

--- Ends the client's waits for a place.
---@param client redio.Client closed already
function Pool:stop(client)
  self.places:dismiss(client)
end

return M
