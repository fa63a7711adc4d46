-- SPDX-License-Identifier: MIT
-- What is known of the connections that the host keeps under one name, and of those that are in use: one for all pools
-- of a worker whose connections may take each other's place, so that together they are held to one bound.

local identity = require "redio.identity"

local M = {}

local QUEUE = 100000 -- callers that may wait for a place

---@class redio.Stock
---@field options table {pool=, pool_size=, backlog=}, as the transport's `open` takes it
---@field new_options table likewise, where none is ever kept
---@field receiver_options table likewise, for receivers
---@field kept integer at most so many lie in the host's pool
---@field using integer at most so many are in use
local Stock = {}
Stock.__index = Stock

-- Where it leads to can be read, the rest is in a digest: who it is, with which secret, how it is spoken to, and how
-- many there may be.
local function name_of(settings, transport)
  local tls = settings.tls or {}
  local all = identity.of_all(settings.path, settings.host, settings.port, settings.database, settings.username,
    settings.password, settings.client_name, settings.protocol, settings.tls and true, tls.server_name, tls.verify,
    tls.cert, tls.key, settings.on_connect, settings.max_connections, settings.max_receivers,
    settings.pool_timeout == 0)
  return ("redio %s %s"):format(settings.address, transport.digest(all))
end

local function new(name, settings, transport)
  local backlog = settings.pool_timeout == 0 and 0 or QUEUE
  local function options(pool_name)
    return { pool = pool_name, pool_size = settings.max_connections, backlog = backlog }
  end
  return setmetatable({
    transport = transport,
    most = settings.max_connections,
    name = name,
    generation = 0,
    options = options(name),
    new_options = options(name .. " shared"),
    -- (the host counts them: with no backlog, one too many fails at once)
    receiver_options = { pool = name .. " receivers", pool_size = settings.max_receivers, backlog = 0 },
    kept = 0,
    using = 0,
    -- Weak: a request that is aborted takes its own along. Attempts to connect are among them, by number, with the time
    -- until which they may last.
    in_use = setmetatable({}, { __mode = "k" }),
    attempts = 0,
    receiving = setmetatable({}, { __mode = "k" }), -- connections of receivers and monitors, none of those in use
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

local function count(set, now)
  local using = 0
  for entry, until_ in pairs(set) do
    if is_there(entry, until_, now) then using = using + 1 else set[entry] = nil end
  end
  return using
end

--- How many are in use.
function Stock:count()
  self.using = count(self.in_use, self.transport.now())
  return self.using
end

--- How many receivers and monitors have.
function Stock:count_receivers()
  return count(self.receiving, self.transport.now())
end

--- Whether all are in use that may be.
function Stock:is_full()
  return self.using >= self.most and self:count() >= self.most
end

-- connections ---------------------------------------------------------------------------------------------

--- One is about to be had, which takes at most so many seconds.
---@return integer attempt for `has`
function Stock:expect(seconds)
  local attempt = self.attempts + 1
  self.attempts, self.using = attempt, self.using + 1
  self.in_use[attempt] = seconds and self.transport.now() + seconds + 1 or math.huge
  return attempt
end

--- The attempt is over, and has led to this connection, or to none.
---@param conn redio.Pull?
function Stock:has(attempt, conn)
  if self.in_use[attempt] == nil then self.using = self.using + 1 end -- (it took longer than it should)
  self.in_use[attempt] = nil
  if conn then self.in_use[conn] = true else self.using = self.using - 1 end
end

--- It is not in use any more.
function Stock:forget(conn)
  if not self.in_use[conn] then return end
  self.in_use[conn] = nil
  self.using = self.using - 1
end

--- None of those that lie in the host's pool is used from now on: the host closes them in time.
function Stock:start_anew()
  self.generation = self.generation + 1
  self.options.pool = ("%s %d"):format(self.name, self.generation)
  self.kept = 0
end

--- Calls `fn` with each connection in use, those of receivers included.
function Stock:each(fn)
  local list = {}
  for entry, until_ in pairs(self.in_use) do
    if until_ == true then list[#list + 1] = entry end
  end
  for conn in pairs(self.receiving) do
    list[#list + 1] = conn
  end
  for i = 1, #list do
    fn(list[i])
  end
end

return M
