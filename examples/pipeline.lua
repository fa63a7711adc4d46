-- SPDX-License-Identifier: MIT
-- Ten thousand commands in one round trip. replies() returns the results as one list, and leaves
-- error replies in their places: the server does not stop at an error.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local LIST, TEXT = "example:list", "example:text"

redio.run(function()
  local db = redis():set(TEXT, "no number")
  for i = 1, 10000 do
    if i == 5000 then
      db:incr(TEXT) -- fails
    else
      db:rpush(LIST, i)
    end
  end
  print("queued:", db:queued())

  local replies = db:replies()
  print("replies:", #replies)
  print("first and last:", replies[1], replies[#replies])
  for i, reply in ipairs(replies) do
    if redio.errors.is(reply) then
      print("error:", i, reply.command, reply.message)
    end
  end

  local length, values = db:llen(LIST):lrange(LIST, 0, 2):await()
  print("list:", length, table.concat(values, " "))
  db:del(LIST, TEXT):await()
end)

redis:close()
