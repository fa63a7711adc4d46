-- SPDX-License-Identifier: MIT
-- Hashes are tables by field.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local KEY = "example:hash"

redio.run(function()
  local db = redis()

  -- Fields and values, or a table, or both. A value that is a table or a boolean is sent as JSON.
  db:hset(KEY, "name", "Ada", "born", 1815)
  db:hset(KEY, { languages = { "en", "fr" }, alive = false })
  print("new fields:", db:await())

  local as_bytes = db:hgetall(KEY):await()
  print("bytes:", as_bytes.name, as_bytes.born, as_bytes.languages, as_bytes.alive)

  local decoded = db:hgetall(KEY):autodecode():await()
  print("decoded:", decoded.name, decoded.born, decoded.languages[2], decoded.alive)

  -- hget of a list of fields sends HMGET. In its result, false stands for a missing field.
  local list = db:hget(KEY, { "name", "nothing" }):await()
  print("hget:", list[1], list[2])

  -- Predicates are booleans, counts are integers.
  print("exists:", db:hexists(KEY, "name"):hexists(KEY, "nothing"):await())
  print("next year:", db:hincrby(KEY, "born", 1):await())

  -- A large hash is better walked than fetched.
  local fields = {}
  for field in redis:hscan(KEY) do
    fields[#fields + 1] = field
  end
  table.sort(fields)
  print("fields:", table.concat(fields, " "))

  db:del(KEY):await()
end)

redis:close()
