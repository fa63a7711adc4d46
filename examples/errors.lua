-- SPDX-License-Identifier: MIT
-- What goes wrong raises an error object. What the caller does wrong raises a plain Lua error.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local errors = redio.errors

redio.run(function()
  -- The server says no. The other commands of the chain were executed, their results are in replies.
  local db = redis():set("example:text", "abc"):incr("example:text"):get("example:text")
  local _, err = pcall(db.await, db)
  print(err.kind, err.code, err.message)
  print("", err.command, "number " .. err.index, "sent: " .. err.sent, err.replies[2])

  -- Kinds form a tree, and errors.is knows it.
  _, err = pcall(redis().await, redis():lpush("example:text", "x"))
  print(err.kind, errors.is(err, "ReplyError"), errors.is(err, "ConnectionError"))

  -- Nobody there. sent says whether the server may have executed the commands.
  local nowhere = redio.Redis "redis://127.0.0.1:1/"
  _, err = pcall(function()
    nowhere():get("example:text"):await()
  end)
  print(err)
  print("", errors.is(err, "ConnectionError"), "sent: " .. err.sent)

  -- Too slow. A timeout is a kind of ConnectionError.
  _, err = pcall(function()
    redis():blpop("example:empty", 0):timeout(0.05):await()
  end)
  print(err.kind, err.message, "sent: " .. err.sent)

  -- Misuse: an unknown option, a value nobody can send.
  print(pcall(redio.Redis, nil, { timeuot = 3 }))
  print(pcall(redis().set, redis(), "example:text", nil))

  redis():del("example:text"):await()
end)

redis:close()
