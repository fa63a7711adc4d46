-- SPDX-License-Identifier: MIT
-- Promise 35, any server: logins of every kind succeed, or fail closed, on servers of every generation and on every
-- host, and what is asked behind them is answered to whoever asked. (Luvit and Neovim: in their own specs.)

local redio = require "redio"
local check = require "spec.support.check"
local generations = require "spec.support.generations"
local login_walk = require "spec.support.login_walk"
local logins = require "spec.support.logins"
local nginx = require "spec.support.nginx"

local uv = require "luv"

local ROOT = uv.cwd()

local function on_every_server(walk)
  for _, generation in ipairs(generations.list) do
    it(generation.name, function()
      walk(generation)
    end)
  end
end

describe("Promise 35, any server, in plain Lua:", function()
  local function try(url, options)
    return logins.try(redio, url, options)
  end

  for _, part in ipairs(login_walk.parts) do
    describe(part.name .. ":", function()
      on_every_server(function(generation)
        assert.same({}, check.within(60, part.walk, generation, try))
      end)
    end)
  end
end)

-- In nginx a client may be asked of by many requests, and by each that comes a connection is opened: each login is one.
local IN_NGINX = [[
  local logins = dofile "%s/spec/support/logins.lua"
  local options = ngx.req.get_uri_args()
  local url = options.url
  options.url = nil
  for name, value in pairs(options) do
    if value == "false" then options[name] = false
    elseif name ~= "password" then options[name] = tonumber(value) or value end
  end
  ngx.print(logins.try(redio, url, options))]]

describe("Promise 35, any server, in nginx:", function()
  local is_there, reason = nginx.available()
  if not is_there then
    return pending("there is no nginx: " .. tostring(reason))
  end

  local function query_of(url, options)
    local parts = { "url=" .. url }
    for name, value in pairs(options) do
      parts[#parts + 1] = ("%s=%s"):format(name, tostring(value))
    end
    return table.concat(parts, "&")
  end

  -- A worker that spins answers nobody any more: that is said once, of the request that it happened to.
  local function asking(web)
    local lost = false
    return function(url, options)
      if lost then return "(nginx answers nobody)" end
      local ok, status, body = pcall(redio.with_timeout, 10, web.get, web, "/?" .. query_of(url, options))
      if ok and status == 200 then return body end
      lost = not ok
      return ("status %s"):format(tostring(status))
    end
  end

  for _, part in ipairs(login_walk.parts) do
    describe(part.name .. ":", function()
      on_every_server(function(generation)
        local web = nginx.start { locations = { ["/"] = IN_NGINX:format(ROOT) } }
        local ok, lines = pcall(check.within, 60, part.walk, generation, asking(web))
        local errors = web:errors()
        web:stop()
        assert.is_true(ok, tostring(lines))
        assert.same({}, lines)
        assert.same({}, errors)
      end)
    end)
  end
end)
