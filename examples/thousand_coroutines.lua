-- SPDX-License-Identifier: MIT
-- A thousand coroutines, each with a handle of its own and a GET of its own key. They share one
-- connection, and all commands of one turn of the loop leave in one write.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local COUNT = 1000

local function key(i)
  return "example:coroutine:" .. i
end

redio.run(function()
  local db = redis()
  for i = 1, COUNT do
    db:set(key(i), "value of " .. i)
  end
  db:await()

  local tasks = {}
  for i = 1, COUNT do
    tasks[i] = redio.spawn(function()
      return redis():get(key(i)):await() == "value of " .. i
    end)
  end
  local right = 0
  for _, task in ipairs(tasks) do
    if task:await() then
      right = right + 1
    end
  end
  print("right answers:", right)
  print("connections:", redis:stats().connections)

  for i = 1, COUNT do
    db:del(key(i))
  end
  db:replies()
end)

redis:close()
