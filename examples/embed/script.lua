-- SPDX-License-Identifier: MIT
-- The script that examples/embed runs in each of its Lua states. The program runs the loop, so all waiting happens in
-- tasks.

local redio = require "redio"

local name = ...
local redis = redio.Redis(os.getenv "REDIS_URL")

redio.spawn(function()
  local key = "embed:" .. name
  local receiver = redis:pubsub(key):connect()
  local count
  for _ = 1, 100 do
    count = redis():incr(key):await()
  end
  redis():publish(key, "a message"):await()
  print(name, count, receiver:await())
  receiver:close()
  redis():del(key):await()
  redis:close()
end)
