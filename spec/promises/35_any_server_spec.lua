-- SPDX-License-Identifier: MIT
-- Promise 35, any server: logins of every kind succeed, or fail closed, on servers of every generation, and the
-- commands behind them get their own answers. (In nginx: hosts/nginx/any_server_spec.lua. In Luvit and Neovim: hosts/.)

local redio = require "redio"
local check = require "spec.support.check"
local generations = require "spec.support.generations"
local login_walk = require "spec.support.login_walk"
local logins = require "spec.support.logins"

local function try(url, options)
  return logins.try(redio, url, options)
end

describe("Promise 35, any server:", function()
  for _, part in ipairs(login_walk.parts) do
    describe(part.name .. ":", function()
      for _, generation in ipairs(generations.list) do
        it(generation.name, function()
          assert.same({}, check.within(60, part.walk, generation, try))
        end)
      end
    end)
  end
end)
