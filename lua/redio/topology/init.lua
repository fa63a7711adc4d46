-- SPDX-License-Identifier: MIT
-- A topology says which endpoint a chain goes to. Here is that of one server, which never changes.
--
-- Each topology has these methods, and alone knows which servers there are:
--   pick(slot or nil, for_reading) -> endpoint | nil, err: the endpoint for a chain. May wait for it to be known.
--   suspect(endpoint, why) -> boolean: the endpoint does not do what it is for ("READONLY"). True when its connections
--     are to be left for new ones, which may find another server.
--   told(kind, slot, address, from): a server has said where a slot is ("MOVED", "ASK"). Only a topology of several
--     endpoints is told: a single server's client has this error raised.
--   each(fn, ...): calls fn(endpoint, ...) for each endpoint.
--   close(client, seconds): ends what the client does, at the latest after so many seconds.
--
-- A topology makes its endpoints, with its hooks: on_connect(conn) is called on each new connection before it is ready,
-- on_shared(conn?) when an endpoint's shared connection is ready, or is no longer to be used (nil).
-- Specs: client/client, client/server_conditions

local endpoint = require "redio.endpoint"

local M = {}

---@class redio.Topology
---@field transport table
---@field is_common boolean several clients may use it
local Topology = {}
Topology.__index = Topology

--- The topology of one server: the first of the settings' seeds.
---@param settings table
---@param transport table
---@param hooks table on_connect(conn)?, on_shared(conn?)?
---@return redio.Topology
function M.new(settings, transport, hooks)
  local only = endpoint.new(settings.seeds[1], settings, transport, hooks)
  return setmetatable({ transport = transport, is_common = only.is_common, _only = only }, Topology)
end

---@return redio.Endpoint
function Topology:pick()
  return self._only
end

--- A server that refuses writes is a replica. Another connection may find the master, and is not tried too often.
---@param suspected redio.Endpoint
---@return boolean leave
function Topology.suspect(_, suspected)
  return suspected.backoff:may_leave_replica()
end

function Topology:each(fn, ...)
  fn(self._only, ...)
end

--- Chains of the client's that are in flight.
---@return integer
function Topology:in_flight(client)
  local count = 0
  self:each(function(one)
    count = count + one:in_flight(client)
  end)
  return count
end

---@param client redio.Client
---@param seconds number for what is in flight; 0: it is cut off
function Topology:close(client, seconds)
  local until_ = self.transport.now() + seconds
  self:each(function(one)
    one:stop(client)
  end)
  if seconds > 0 then
    self:each(function(one)
      one:drain(client, until_)
    end)
  end
  self:each(function(one)
    one:close(client)
  end)
end

return M
