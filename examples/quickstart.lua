-- SPDX-License-Identifier: MIT
-- Chain commands on a handle, await them, use what comes back.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL") -- nil means redis://localhost/; nothing is sent yet

redio.run(function()
  -- Commands queue up on a handle. The await sends them all and returns their results, in order.
  -- The reply of set is always OK, so it has no result.
  local greeting, visits = redis()
    :set("quickstart:greeting", "Hello")
    :set("quickstart:visits", 41)
    :get("quickstart:greeting")
    :incr("quickstart:visits")
    :await()
  print("Got values:", greeting, visits)

  -- The same with a variable; db() is short for db:await().
  local db = redis()
  db:hset("quickstart:ada", { name = "Ada", born = 1815 })
  db:hgetall("quickstart:ada")
  local added, ada = db()
  print("Hash:", added, ada.name, ada.born)

  -- MULTI ... EXEC is one result: a list.
  local both = redis():multi():incr("quickstart:visits"):incr("quickstart:visits"):exec():await()
  print("Transaction:", both[1], both[2])

  redis():del("quickstart:greeting", "quickstart:visits", "quickstart:ada"):await()
end)

redis:close()
