-- SPDX-License-Identifier: MIT
-- Connects to the first address of a name that answers ("happy eyeballs", RFC 8305). Each next address is tried a
-- little later, beside those before it, or at once when one has failed. The first that connects wins. The others are
-- closed.

local M = {}

local DELAY = 0.25 -- seconds, as RFC 8305 (5) recommends

---@class redio.Race
local Race = {}
Race.__index = Race

local function is_ip6(address)
  return address:find(":", 1, true) ~= nil
end

--- Sorts addresses so that the families alternate, beginning with the first address's. Within a family the order is
--- kept (RFC 8305, 4).
---@param addresses string[]
---@return string[]
function M.interleave(addresses)
  local first, other, order = {}, {}, {}
  for _, address in ipairs(addresses) do
    local family = is_ip6(address) == is_ip6(addresses[1]) and first or other
    family[#family + 1] = address
  end
  for i = 1, math.max(#first, #other) do
    order[#order + 1] = first[i]
    order[#order + 1] = other[i]
  end
  return order
end

local function stop_timer(self)
  if self._timer then self._host.stop_timer(self._timer) end
  self._timer = nil
end

local function finish(self, handle, err)
  stop_timer(self)
  for other in pairs(self._running) do
    if other ~= handle then self._host.close(other) end
  end
  self._running, self._addresses = {}, {}
  self._done(handle, err)
end

local try_next

local function settle(self, handle, err)
  if not self._running[handle] then return end -- another address has won, or the race was cancelled
  if not err then return finish(self, handle) end
  self._running[handle] = nil
  self._host.close(handle)
  self._error = err
  try_next(self)
end

function try_next(self)
  stop_timer(self)
  local address = table.remove(self._addresses, 1)
  if not address then
    if next(self._running) == nil then finish(self, nil, self._error) end
    return
  end
  local ok, handle, err = pcall(self._open, address, function(...)
    settle(self, ...)
  end)
  if not ok then
    self._error = tostring(handle)
    return try_next(self)
  end
  self._running[handle] = true
  if err then return settle(self, handle, err) end
  if self._addresses[1] then
    self._timer = self._host.start_timer(self._delay, function()
      self._timer = nil
      try_next(self)
    end)
  end
end

--- Cancels the race: closes all handles, and `done` is not called.
function Race:cancel()
  self._done = function() end
  finish(self)
end

--- Starts a race.
---@param host table start_timer(seconds, fn), stop_timer(timer), close(handle)
---@param addresses string[] at least one
---@param within number? seconds in which all addresses are to be tried; shortens the delay between them
---@param open fun(address: string, settled: fun(handle: any, err: string?)): any, string? starts to connect. Returns
--- the handle, with which it calls `settled` later, or the handle and a reason if that failed at once.
---@param done fun(handle: any, err: string?) called once, with the connected handle, or with nil and the last reason
---@return redio.Race
function M.start(host, addresses, within, open, done)
  local self = setmetatable({
    _host = host,
    _addresses = M.interleave(addresses),
    _delay = math.min(DELAY, (within or math.huge) / (2 * #addresses)),
    _open = open,
    _done = done,
    _running = {},
  }, Race)
  try_next(self)
  return self
end

return M
