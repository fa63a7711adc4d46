-- SPDX-License-Identifier: MIT
-- Failures of the network and errors of the server raise an error object. Misuse raises a plain Lua error.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local errors = redio.errors

redio.run(function()
  -- An error reply. The other commands of the chain were executed, and their results are in replies.
  local db = redis():set("example:text", "abc"):incr("example:text"):get("example:text")
  local _, err = pcall(db.await, db)
  print(err.kind, err.code, err.message)
  print("", err.command, "number " .. err.index, "sent: " .. err.sent, err.replies[2])

  -- Kinds form a tree, which errors.is follows.
  _, err = pcall(redis().await, redis():lpush("example:text", "x"))
  print(err.kind, errors.is(err, "ReplyError"), errors.is(err, "ConnectionError"))

  -- No server. sent says whether the server may have executed the commands.
  local nowhere = redio.Redis "redis://127.0.0.1:1/"
  _, err = pcall(function()
    nowhere():get("example:text"):await()
  end)
  print(err)
  print("", errors.is(err, "ConnectionError"), "sent: " .. err.sent)

  -- A timeout, which is a kind of ConnectionError.
  _, err = pcall(function()
    redis():blpop("example:empty", 0):timeout(0.05):await()
  end)
  print(err.kind, err.message, "sent: " .. err.sent)

  -- Misuse: an unknown option, a value that cannot be sent.
  print(pcall(redio.Redis, nil, { timeuot = 3 }))
  print(pcall(redis().set, redis(), "example:text", nil))

  redis():del("example:text"):await()
end)

redis:close()
