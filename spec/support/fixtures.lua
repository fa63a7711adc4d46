-- SPDX-License-Identifier: MIT
-- The clients, servers, proxies and fakes of one test: made on request, and taken down after it, newest first.

local uv = require "luv"
local redio = require "redio"
local fake = require "spec.support.fake"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"

local Fixtures = {}
Fixtures.__index = Fixtures

local names = 0

function Fixtures.new()
  return setmetatable({}, Fixtures)
end

--- Has `fn` called at the end.
function Fixtures:finally(fn)
  self[#self + 1] = fn
end

--- A client with a name of its own, closed at the end.
function Fixtures:client(url, options)
  options = options or {}
  names = names + 1
  options.client_name = options.client_name or ("spec-%d-%d"):format(uv.os_getpid(), names)
  local redis = redio.Redis(url, options)
  self:finally(function()
    redis:close { drain = 0 }
  end)
  return redis, options.client_name
end

local function stopped(self, one)
  self:finally(function()
    one:stop()
  end)
  return one
end

--- A server of this test's own.
function Fixtures:server(options)
  return stopped(self, server.start(options))
end

--- A proxy before `target`; without one, before the server that all specs share.
function Fixtures:proxy(target)
  return stopped(self, proxy.start(target or server.shared()))
end

--- See spec.support.fake.
function Fixtures:fake(handler, options)
  return stopped(self, fake.start(handler, options))
end

--- Takes everything down. May be called again.
function Fixtures:clear()
  while #self > 0 do
    table.remove(self)()
  end
end

--- Seconds that `fn` takes; then what it returned.
function Fixtures.time(fn, ...)
  local before = uv.hrtime()
  local function after(...)
    return (uv.hrtime() - before) / 1e9, ...
  end
  return after(fn(...))
end

return Fixtures
