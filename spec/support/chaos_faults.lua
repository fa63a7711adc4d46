-- SPDX-License-Identifier: MIT
-- The faults of the random driver (chaos.lua): on the network, of the server, and of the clients themselves.

local redio = require "redio"
local uv = require "luv"

local M = {}

local faults = {}

local function direction(world, random)
  return random(2) == 1 and world.proxy.up or world.proxy.down
end

-- One thing wrong for a while, in one direction.
local function for_a_while(random, side, name, value)
  side[name] = value
  redio.sleep(0.02 + random() * 0.2)
  side[name] = nil
end

function faults.cut(world, random)
  world.proxy:cut(random(2) == 1 and "rst" or nil)
end

function faults.cut_one(world, random)
  local list = world.proxy.connections
  if #list > 0 then
    list[random(#list)]:close(random(2) == 1 and "rst" or nil)
  end
end

function faults.cut_after(world, random)
  local side = direction(world, random)
  side.how = random(2) == 1 and "rst" or nil
  for_a_while(random, side, "cut", random(5000))
  side.how = nil
end

function faults.delay(world, random)
  for_a_while(random, direction(world, random), "delay", random() * 0.02)
end

function faults.chunk(world, random)
  for_a_while(random, direction(world, random), "chunk", random(2) == 1 and random(8) or random(200))
end

function faults.hold(world, random)
  for_a_while(random, direction(world, random), "hold", true)
  world.proxy:release()
end

-- (A connection that has lost bytes is cut afterwards: TCP loses none.)
function faults.black_hole(world, random)
  local side = direction(world, random)
  side.drop = true
  redio.sleep(random() * 1.5)
  world.proxy:cut("rst")
  side.drop = nil
end

function faults.refuse(world, random)
  for_a_while(random, world.proxy, "refuse", true)
end

function faults.deafen(world, random)
  world.proxy:deafen()
  redio.sleep(random() * 0.2)
  world.proxy:listen()
end

-- Bytes that no server sends, between any two of its own: LF ends no line, and NUL begins no reply. Over TLS they are
-- no record, or spoil the one they fall into.
function faults.garbage(world)
  world.garbage_at = uv.now()
  world.proxy:inject("down", "\n\0")
end

function faults.kill(world, random)
  world.server:kill()
  redio.sleep(random() * 0.2)
  world.server:restart()
end

function faults.pause(world, random)
  world.server:pause()
  redio.sleep(random() * 0.4)
  world.server:resume()
end

function faults.script_flush(world)
  world.server:cli("script", "flush")
end

function faults.client_kill(world)
  world.server:cli("client", "kill", "type", "normal")
end

function faults.client_pause(world, random)
  world.server:cli("client", "pause", tostring(random(200)), random(2) == 1 and "ALL" or "WRITE")
end

function faults.close(world, random)
  local i = random(#world.clients)
  local old = world.clients[i]
  world.reopen(i)
  old:close { drain = random(2) == 1 and 0 or random() * 0.2 }
end

function faults.disconnect(world, random)
  world.clients[random(#world.clients)]:disconnect { idle = random(2) == 1 }
end

-- Without close(): what is in flight on it goes on, and then it is collected.
function faults.drop(world, random)
  world.reopen(random(#world.clients))
  collectgarbage()
end

local names = {}
for name in pairs(faults) do
  names[#names + 1] = name
end
table.sort(names)

--- Makes faults, one after the other, with some peace between them, until the time comes.
function M.make(world, random, deadline)
  while uv.now() < deadline do
    redio.sleep(random() * 0.15)
    local name = names[random(#names)]
    world.report.faults[name] = (world.report.faults[name] or 0) + 1
    faults[name](world, random)
    world.proxy:forget()
  end
end

--- Everything is well from now on.
function M.heal(world)
  for _, side in ipairs { world.proxy.up, world.proxy.down } do
    for name in pairs(side) do
      side[name] = nil
    end
  end
  world.proxy:release()
end

return M
