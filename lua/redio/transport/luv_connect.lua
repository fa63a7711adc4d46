-- SPDX-License-Identifier: MIT
-- Connecting by luv: to the addresses of a name, or to a path.
-- Specs: regress/second_address, regress/lookups, regress/long_socket_path

local race = require "redio.transport.race"

-- luv, and functions of redio.transport.luv: new_socket, guard, close, reason, defer, start_timer and stop_timer.
local uv, luv

---@class redio.luv.Attempt a connection that is being made
local Attempt = {}
Attempt.__index = Attempt

function Attempt:_finish(socket, err)
  local done = self._done
  self._done = nil
  if done then done(socket, err) elseif socket then socket:close() end
end

--- Cancels the attempt. `done` is not called any more.
function Attempt:cancel()
  self._done = nil
  if self._race then self._race:cancel() end
end

-- Calls `connect`. Returns the handle, and the reason if that failed at once.
local function begin(handle, connect, ...)
  luv.guard(handle)
  local called, ok, err = pcall(connect, handle, ...)
  if not called then return handle, tostring(ok) end
  return handle, err and luv.reason(err) or nil
end

local function open_path(path, settled)
  local handle = uv.new_pipe(false)
  return begin(handle, handle.connect, path, function(err)
    settled(handle, err and luv.reason(err))
  end)
end

local function open_address(port)
  return function(address, settled)
    local handle = uv.new_tcp()
    return begin(handle, handle.connect, address, port, function(err)
      if not err then
        handle:nodelay(true)
        handle:keepalive(true, 60)
      end
      settled(handle, err and luv.reason(err))
    end)
  end
end

function Attempt:_try(addresses, open)
  self._race = race.start(luv, addresses, self._within, open, function(handle, err)
    self:_finish(handle and luv.new_socket(handle), err)
  end)
end

local function is_number(host)
  return host:find(":", 1, true) or host:find "^%d+%.%d+%.%d+%.%d+$"
end

-- The list of addresses from a result of getaddrinfo; nil and the reason when there is none.
local function addresses_of(host, err, found)
  -- (RFC 6761, 6.3: localhost is the loopback address, also without a hosts file)
  if err and host:lower() == "localhost" then return { "127.0.0.1", "::1" } end
  if err then return nil, luv.reason(err) end
  local addresses = {}
  for i = 1, #found do
    addresses[i] = found[i].addr
  end
  return addresses[1] and addresses, "name has no address"
end

-- host -> the functions that wait for its addresses. All attempts share one lookup of a name. While a name server is
-- silent, a lookup holds one of libuv's four threads, which the file I/O of the process needs, too.
local lookups = {}

local function look_up(host, found)
  local waiting = lookups[host]
  if waiting then
    waiting[#waiting + 1] = found
    return
  end
  waiting = { found }
  lookups[host] = waiting
  local function tell(...)
    lookups[host] = nil
    for i = 1, #waiting do
      waiting[i](...)
    end
  end
  local _, err = uv.getaddrinfo(host, nil, { socktype = "stream" }, tell)
  if err then tell(err) end
end

function Attempt:_resolve(host, port)
  if is_number(host) then return self:_try({ host }, open_address(port)) end
  look_up(host, function(...)
    if not self._done then return end
    local addresses, why = addresses_of(host, ...)
    if not addresses then return self:_finish(nil, why) end
    self:_try(addresses, open_address(port))
  end)
end

--- Connects to `{host=, port=}`, by the address of the name that answers first, or to `{path=}`. `connect_timeout` only
--- spreads the attempts at several addresses. The caller enforces it.
---@param address table
---@param done fun(socket: redio.luv.Socket?, reason: string?) called once, never before this returns
---@return redio.luv.Attempt
local function connect(address, done)
  local attempt = setmetatable({ _done = done, _within = address.connect_timeout or nil }, Attempt)
  luv.defer(function()
    if not attempt._done then return end
    if address.path then return attempt:_try({ address.path }, open_path) end
    local ok, err = pcall(attempt._resolve, attempt, address.host, address.port)
    if not ok then attempt:_finish(nil, tostring(err)) end
  end)
  return attempt
end

return function(module, transport)
  uv, luv = module, transport
  return connect
end
