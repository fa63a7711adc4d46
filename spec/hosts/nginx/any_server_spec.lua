-- SPDX-License-Identifier: MIT
-- Promise 35, any server, in nginx: logins of every kind succeed, or fail closed, on servers of every generation.

local redio = require "redio"
local check = require "spec.support.check"
local generations = require "spec.support.generations"
local login_walk = require "spec.support.login_walk"
local nginx = require "spec.support.nginx"

local uv = require "luv"

local ROOT = uv.cwd()

local PROGRAM = ([[
  local logins = dofile "%s/spec/support/logins.lua"
  local options = ngx.req.get_uri_args()
  local url = options.url
  options.url = nil
  for name, value in pairs(options) do
    if value == "true" or value == "false" then options[name] = value == "true"
    elseif name ~= "password" then options[name] = tonumber(value) or value end
  end
  ngx.print(logins.try(redio, url, options))]]):format(ROOT)

local function query_of(url, options)
  local parts = { "url=" .. url }
  for name, value in pairs(options) do
    parts[#parts + 1] = ("%s=%s"):format(name, tostring(value))
  end
  return table.concat(parts, "&")
end

-- Logs in by a request. A worker that spins answers no request any more. Only the request that made it spin is
-- reported as lost.
local function asking(web)
  local lost = false
  return function(url, options)
    if lost then return "(nginx does not answer)" end
    local ok, status, body = pcall(redio.with_timeout, 10, web.get, web, "/?" .. query_of(url, options))
    if ok and status == 200 then return body end
    lost = not ok
    return ("status %s"):format(tostring(status))
  end
end

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  for _, part in ipairs(login_walk.parts) do
    describe(part.name .. ", on a server of every generation:", function()
      for _, generation in ipairs(generations.list) do
        it(generation.name, function()
          local web = nginx.start { locations = { ["/"] = PROGRAM } }
          local ok, lines = pcall(check.within, 60, part.walk, generation, asking(web))
          local errors = web:errors()
          web:stop()
          assert.is_true(ok, tostring(lines))
          assert.same({}, lines)
          assert.same({}, errors)
        end)
      end
    end)
  end
end)
