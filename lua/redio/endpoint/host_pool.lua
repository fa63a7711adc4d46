-- SPDX-License-Identifier: MIT
-- Private connections where the host keeps the idle ones. The methods are those of pool.lua.

local errors = require "redio.base.errors"
local host_places = require "redio.endpoint.host_places"
local pool = require "redio.endpoint.pool"
local pull = require "redio.connection.caller"
local task = require "redio.task"

local M = {}

local IDLE = 60 -- seconds that a connection may lie idle

---@class redio.PullPool
local Pool = {}
Pool.__index = Pool

function M.new(settings, transport, hooks)
  return setmetatable({
    settings = settings,
    transport = transport,
    hooks = hooks, -- on_connect?, on_lost(conn), delay(): seconds to wait before connecting
    stock = host_places.of(settings, transport),
    spare = {}, -- connections without socket
    life = { born = setmetatable({ transport.request() }, { __mode = "v" }), outlives = false },
    closed = false,
  }, Pool)
end

--- One that has all in common with this one, but that it can be stopped without it.
function Pool:lease()
  self._lease = self._lease or { __index = self }
  return setmetatable({ closed = false }, self._lease)
end

--- Whether what it has may serve other requests than the one that made it: it has seen two.
function Pool:outlives_request()
  local life = self.life
  life.outlives = life.outlives or life.born[1] == nil or life.born[1] ~= self.transport.request()
  return life.outlives
end

--- Whether another is at work with the same connections.
function Pool:is_busy()
  local stock = self.stock
  return stock.using > 0 and stock:count() > 0
end

--- In use and idle, idle, waiting for one: as far as is known.
function Pool:counts()
  local stock = self.stock
  return stock:count() + stock.kept, stock.kept, stock.queue:count()
end

local function closed_error(self)
  return errors.new("PoolClosedError", "the client is closed", { address = self.settings.address, sent = "no" })
end

local function full_error(self, seconds)
  local message = "every connection is in use (max_connections = %d), and none came free within %g s (pool_timeout)"
  return errors.new("TimeoutError", message:format(self.settings.max_connections, seconds),
    { address = self.settings.address, sent = "no" })
end

-- connecting ----------------------------------------------------------------------------------------------

local function new(self)
  local stock, client_lost = self.stock, self.hooks.on_lost
  return pull.new(self.settings, self.transport, {
    on_connect = self.hooks.on_connect,
    on_lost = function(conn)
      stock.kept = 0 -- what befell this one may have befallen them
      stock:forget(conn)
      client_lost(conn)
    end,
  })
end

-- Where nothing can wait it is not the network's fault.
local function cannot_wait(self)
  error(self.transport.cannot_wait(), 0)
end

-- How long the way to a socket may take.
local function patience(self, record)
  local seconds = self.settings.connect_timeout
  local left = record and record:left()
  return left and (not seconds or left < seconds) and math.max(left, 0.001) or seconds
end

-- Stands for a connection until there is one: the task may be ended there, too.
local Opening = {}
Opening.__index = Opening

function Opening:close()
  self.stock:has(self.attempt, nil)
end

-- The connection for a socket of the host's pool.
local function take(conn, socket)
  conn:attach(socket)
  conn.proved = true
  if not conn.ready then conn:established() end
end

-- Takes a socket of the host's pool, or connects; the connection is ready, or lost.
local function open(self, record, attempt)
  local stock, limit, started = self.stock, patience(self, record), self.transport.now()
  stock:expect(attempt, limit)
  if record then record.conn = setmetatable({ stock = stock, attempt = attempt }, Opening) end
  local ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, stock.options, limit)
  if record then record.conn = nil end
  if not ok then
    stock:has(attempt, nil)
    cannot_wait(self)
  end
  local conn = socket and socket.reused and table.remove(self.spare) or new(self)
  stock:has(attempt, conn)
  conn.pool = self
  if socket and socket.reused then
    stock.kept = math.max(0, stock.kept - 1)
    take(conn, socket)
    return conn
  end
  conn.stage = at or "connecting"
  if not socket then
    conn:refuse(why, permanent)
    return conn
  end
  stock.kept = 0
  conn:attach(socket)
  conn:greet(started)
  return conn
end

-- The connection if it is ready; when the task's own time was up that is raised.
local function outcome(conn, record)
  if not conn.lost then return conn end
  local err = record and record:overdue(conn.stage)
  if err then error(err, 0) end
  return nil, conn.lost
end

--- A connection that is ready, for the caller alone until `release`.
---@return redio.Pull? conn
---@return table? err
function Pool:acquire()
  if self.closed then return nil, closed_error(self) end
  local record, stock = task.current(), self.stock
  if record then task.check_cancelled() end
  local delay = stock.kept == 0 and self.hooks.delay() or 0
  if delay > 0 then task.sleep(delay) end
  local seconds = self.settings.pool_timeout or math.huge
  local attempt = stock:place(self, seconds)
  if self.closed then
    if attempt then stock:has(attempt, nil) end
    return nil, closed_error(self)
  end
  if not attempt then return nil, full_error(self, seconds) end
  return outcome(open(self, record, attempt), record)
end

-- receivers -----------------------------------------------------------------------------------------------

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  return self.stock:count_receivers()
end

local function new_receiver(self, extra)
  local receiving, client_lost = self.stock.receiving, self.hooks.on_lost
  local conn = pull.new(self.settings, self.transport, {
    receiver = true,
    lines = extra.lines,
    on_connect = self.hooks.on_connect,
    on_push = extra.on_push,
    after_read = extra.after_read,
    on_lost = function(lost, err)
      receiving[lost] = nil
      client_lost(lost)
      extra.on_lost(lost, err)
    end,
  })
  conn.pool = self
  return conn
end

local function open_receiver(self, extra, record, attempt)
  local started, receiving = self.transport.now(), self.stock.receiving
  local conn = new_receiver(self, extra)
  conn.stage = "connecting"
  if record then record.conn = conn end
  local ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, self.stock.new_options,
    patience(self, record))
  if record then record.conn = nil end
  receiving[attempt] = nil
  if not ok then cannot_wait(self) end
  conn.stage = at or conn.stage
  if not socket then
    conn:refuse(why, permanent)
  else
    receiving[conn] = true
    conn:attach(socket)
    conn:greet(started)
  end
  return conn
end

--- A connection for what comes unasked, ready. It is always a new one, and counts apart from the others.
---@param extra table {lines=, on_push(conn, ...), after_read(), on_lost(conn, err)}
---@return redio.Pull? conn
---@return table? err
function Pool:receive(extra)
  if self.closed then return nil, closed_error(self) end
  local record = task.current()
  if record then task.check_cancelled() end
  local delay = self.hooks.delay()
  if delay > 0 then task.sleep(delay) end
  local attempt = self.stock:place_to_receive(patience(self, record))
  if not attempt then return nil, pool.receivers_error(self.settings) end
  return outcome(open_receiver(self, extra, record, attempt), record)
end

-- giving back ---------------------------------------------------------------------------------------------

-- Connections that were greeted by a function which no second request has come with are of no use to others: a program
-- that makes such a function for each request would fill the host's pool with them. So few of them are kept, and not
-- long, for the rest of their request.
local BRIEF, BRIEFS = 1, 16
local briefs, briefs_since = 0, 0

local function seconds_to_keep(self)
  if not self.settings.on_connect or self:outlives_request() then return IDLE end
  local now = self.transport.now()
  if now - briefs_since > BRIEF then briefs, briefs_since = 0, now end
  briefs = briefs + 1
  return briefs <= BRIEFS and BRIEF or nil
end

--- Gives a connection back; one whose session is not as it was in the beginning is closed.
---@param clean boolean?
function Pool:release(conn, clean)
  if conn.lost then return end
  if conn.hooks.receiver then return conn:close() end
  local seconds = clean and not self.closed and conn.ready and seconds_to_keep(self)
  local socket = seconds and conn:detach()
  if not socket then return conn:close() end
  local stock, spare = self.stock, self.spare
  stock:forget(conn)
  conn.pool, conn.held = nil, nil
  if not socket:keep(seconds) then return end
  stock.kept = stock.kept + 1
  if #spare < self.settings.max_connections then spare[#spare + 1] = conn end
end

--- Nothing waits where a handle is closed: what it has left is not undone, and the connection closed.
function Pool.restore()
  return false
end

--- The request that holds a connection closes it when it ends; a holder that is collected before, with its socket.
function Pool.guard(_, conn)
  conn.held = true
  return { held = { conn = conn } }
end

--- Connections are made when they are needed.
function Pool.warm() end

--- From now on none of those that are idle is used.
function Pool:close_idle()
  self.stock:start_anew()
end

--- Calls `fn` with each connection that it has given out, or, with `all`, that any pool of the same stock has.
---@param all boolean?
function Pool:each(fn, all)
  self.stock:each(function(conn)
    if all or conn.pool == self then fn(conn) end
  end)
end

--- No new work from now on; those that wait for a place are told.
function Pool:stop()
  self.closed = true
  self.stock:dismiss(self)
end

return M
