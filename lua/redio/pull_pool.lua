-- SPDX-License-Identifier: MIT
-- Private connections where the host keeps the idle ones: its pool is named by all that makes one connection different
-- from another. The methods are those of pool.lua.

local errors = require "redio.errors"
local pool = require "redio.pool"
local pull = require "redio.pull"
local task = require "redio.task"

local M = {}

local IDLE = 60 -- seconds that a connection may lie idle
local QUEUE = 100000 -- callers that may wait for a place

---@class redio.PullPool
local Pool = {}
Pool.__index = Pool

-- Functions have no names; who shares one may share its connections.
local greeters, greeters_count = setmetatable({}, { __mode = "k" }), 0

local function number_of(fn)
  if not fn then return 0 end
  if not greeters[fn] then
    greeters_count = greeters_count + 1
    greeters[fn] = greeters_count
  end
  return greeters[fn]
end

-- Each part with its length: no two lists of parts read alike.
local function joined(...)
  local list = {}
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    part = type(part) .. ":" .. tostring(part)
    list[i] = #part .. ":" .. part
  end
  return table.concat(list, ",")
end

-- Where it leads to can be read, the rest is in a digest: who it is, with which secret, and how it is spoken to.
local function name_of(settings, transport)
  local tls = settings.tls or {}
  local identity = joined(settings.path, settings.host, settings.port, settings.database, settings.username,
    settings.password, settings.client_name, settings.protocol, settings.tls and true, tls.server_name, tls.verify,
    tls.cert, tls.key, number_of(settings.on_connect))
  return ("redio %s %s"):format(settings.address, transport.digest(identity))
end

function M.new(settings, transport, hooks)
  local name = name_of(settings, transport)
  local backlog = settings.pool_timeout == 0 and 0 or QUEUE
  local function options(pool_name)
    return { pool = pool_name, pool_size = settings.max_connections, backlog = backlog }
  end
  return setmetatable({
    settings = settings,
    transport = transport,
    hooks = hooks, -- on_connect?, on_lost(conn), delay(): seconds to wait before connecting
    options = options(name),
    new_options = options(name .. " shared"), -- where none is ever kept
    -- (nor here; nginx itself counts them: with no backlog, one too many fails at once)
    receiver_options = { pool = name .. " receivers", pool_size = settings.max_receivers, backlog = 0 },
    receiving = setmetatable({}, { __mode = "k" }), -- connections of receivers and monitors, none of which is in `all`
    kept = 0, -- at most so many lie in the host's pool
    spare = {}, -- connections without socket
    all = setmetatable({}, { __mode = "k" }), -- in use; weak: a request that is aborted takes its own along
    using = 0, -- at most so many are
    born = setmetatable({ transport.request() }, { __mode = "v" }),
    closed = false,
  }, Pool)
end

local function count(self)
  local using = 0
  for conn in pairs(self.all) do
    using = using + (conn.lost and 0 or 1)
  end
  self.using = using
  return using
end

--- Whether a connection that all share is worth having while somebody else is at work (`using`): the client is not one
--- that a request has made for itself.
function Pool:is_shared()
  self.outlives = self.outlives or self.born[1] == nil or self.born[1] ~= self.transport.request()
  return self.outlives
end

--- In use and idle, idle, waiting for one: as far as is known.
function Pool:counts()
  local kept = self.kept
  return count(self) + kept, kept, 0
end

local function closed_error(self)
  return errors.new("PoolClosedError", "the client is closed", { address = self.settings.address, sent = "no" })
end

local function full_error(self, seconds)
  local message = "every connection is in use (max_connections = %d), and none came free within %g s (pool_timeout)"
  return errors.new("TimeoutError", message:format(self.settings.max_connections, seconds),
    { address = self.settings.address, sent = "no" })
end

function Pool:_new()
  local hooks = { on_connect = self.hooks.on_connect }
  function hooks.on_lost(conn)
    self.kept = 0 -- what befell this one may have befallen them
    self.using = self.using - 1
    self.all[conn] = nil
    self.hooks.on_lost(conn)
  end
  return pull.new(self.settings, self.transport, hooks)
end

-- Where nobody waits it is not the network's fault.
local function cannot_wait(self)
  error(self.transport.cannot_wait(), 0)
end

-- A connection that got no socket.
local function refuse(self, conn, why, permanent, seconds, is_full)
  if why:find("too many waiting", 1, true) then return conn:fail(full_error(self, 0)) end
  if why == "timeout" and is_full then return conn:fail(full_error(self, seconds)) end
  conn:refuse(why, permanent)
end

-- How long the way to a socket may take: where all are in use, that is the wait for a place.
local function patience(self, record)
  local seconds = self.settings.connect_timeout
  local is_full = self.using >= self.settings.max_connections and count(self) >= self.settings.max_connections
  if is_full then seconds = self.settings.pool_timeout or math.huge end
  local left = record and record:_left()
  return seconds, left and (not seconds or left < seconds) and math.max(left, 0.001) or seconds, is_full
end

-- Stands for a connection until there is one: the task may be ended there, too.
local opening = { close = function() end }

-- Takes a socket of the host's pool, or connects; the connection is ready, or lost.
local function open(self, record)
  local seconds, limit, is_full = patience(self, record)
  local started = self.transport.now()
  local stage = is_full and "waiting for one of the pool" or "connecting"
  self.using = self.using + 1
  if record then record._conn = opening end
  local ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, self.options, limit)
  if record then record._conn = nil end
  if not ok then
    self.using = self.using - 1
    cannot_wait(self)
  end
  local spare = socket and socket.reused and table.remove(self.spare)
  local conn = spare or self:_new()
  self.all[conn] = true
  conn.stage = at or stage
  if not socket then
    refuse(self, conn, why, permanent, seconds, is_full)
    return conn
  end
  conn:attach(socket)
  if socket.reused then
    self.kept = math.max(0, self.kept - 1)
    conn.proved = true
    if not spare then conn:established() end
  else
    self.kept = 0
    conn:greet(is_full and self.transport.now() or started)
  end
  return conn
end

-- The connection if it is ready; when the task's own time was up that is raised.
local function outcome(conn, record)
  if not conn.lost then return conn end
  local err = record and record:_overdue(conn.stage)
  if err then error(err, 0) end
  return nil, conn.lost
end

--- A connection that is ready, for the caller alone until `release`.
---@return redio.Pull? conn
---@return table? err
function Pool:acquire()
  if self.closed then return nil, closed_error(self) end
  local delay = self.kept == 0 and self.hooks.delay() or 0
  if delay > 0 then task.sleep(delay) end
  local record = task.current()
  return outcome(open(self, record), record)
end

-- receivers -----------------------------------------------------------------------------------------------

--- How many connections receivers and monitors have.
function Pool:count_receivers()
  local receivers = 0
  for conn in pairs(self.receiving) do
    receivers = receivers + (conn.lost and 0 or 1)
  end
  return receivers
end

function Pool:_new_receiver(extra)
  return pull.new(self.settings, self.transport, {
    receiver = true,
    lines = extra.lines,
    on_connect = self.hooks.on_connect,
    on_push = extra.on_push,
    after_read = extra.after_read,
    on_lost = function(conn, err)
      self.receiving[conn] = nil
      self.hooks.on_lost(conn)
      extra.on_lost(conn, err)
    end,
  })
end

local function open_receiver(self, extra, record)
  local started, limit = self.transport.now(), self.settings.connect_timeout
  local left = record and record:_left()
  if left and (not limit or left < limit) then limit = math.max(left, 0.001) end
  local conn = self:_new_receiver(extra)
  conn.stage = "connecting"
  if record then record._conn = conn end
  local ok, socket, why, permanent, at = pcall(self.transport.open, self.settings, self.receiver_options, limit)
  if record then record._conn = nil end
  if not ok then cannot_wait(self) end
  conn.stage = at or conn.stage
  if not socket and why:find("too many waiting", 1, true) then
    conn:fail(pool.receivers_error(self.settings))
  elseif not socket then
    conn:refuse(why, permanent)
  else
    self.receiving[conn] = true
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
  local delay = self.hooks.delay()
  if delay > 0 then task.sleep(delay) end
  local record = task.current()
  return outcome(open_receiver(self, extra, record), record)
end

--- Gives a connection back; one whose session is not as it was in the beginning is closed.
---@param clean boolean?
function Pool:release(conn, clean)
  if conn.lost then return end
  if conn.hooks.receiver then return conn:close() end
  local socket = clean and not self.closed and conn.ready and conn:detach()
  if not socket then return conn:close() end
  self.all[conn] = nil
  self.using = self.using - 1
  if not socket:keep(IDLE) then return end
  self.kept = self.kept + 1
  local spare = self.spare
  if #spare < self.settings.max_connections then spare[#spare + 1] = conn end
end

--- The request that holds a connection closes it when it ends.
function Pool.guard(_, conn)
  return { held = { conn = conn } }
end

--- Connections are made by those who need them.
function Pool.warm() end

--- From now on none of those that are idle is used: the host closes them in time.
function Pool:close_idle()
  self.generation = (self.generation or 0) + 1
  self.base = self.base or self.options.pool
  self.options.pool = ("%s %d"):format(self.base, self.generation)
  self.kept = 0
end

function Pool:each(fn)
  local list = {}
  for conn in pairs(self.all) do
    list[#list + 1] = conn
  end
  for conn in pairs(self.receiving) do
    list[#list + 1] = conn
  end
  for i = 1, #list do
    fn(list[i])
  end
end

--- No new work from now on.
function Pool:stop()
  self.closed = true
end

return M
