-- SPDX-License-Identifier: MIT
-- A program for hosts with a luv of their own: walks through logins of every kind to servers of every generation, which
-- live in the same loop, and prints what was wrong, or "well".

local is_luvit, uv = pcall(require, "uv")
if is_luvit then package.loaded.luv = uv end -- the servers ask for it by this name

local redio = require "redio"
local generations = require "spec.support.generations"
local login_walk = require "spec.support.login_walk"
local logins = require "spec.support.logins"

local function try(url, options)
  return logins.try(redio, url, options)
end

local function leave()
  if vim then vim.schedule(function() vim.cmd "qa!" end) end -- luacheck: ignore vim
end

local function walk()
  local count = 0
  for _, generation in ipairs(generations.list) do
    for _, part in ipairs(login_walk.parts) do
      for _, line in ipairs(part.walk(generation, try)) do
        count = count + 1
        io.stdout:write(line, "\n")
      end
    end
  end
  return count == 0 and "well" or count .. " logins went wrong"
end

local task = redio.spawn(function()
  local _, outcome = xpcall(walk, debug.traceback)
  io.stdout:write(outcome, "\n")
  io.stdout:flush()
  leave()
end)
package.loaded["spec.support.login_program"] = task -- (keeps the task: other specs show that a waiting one is kept)
if is_luvit then task:await() end -- as for every program, its end is the end of the loop
