-- SPDX-License-Identifier: MIT
-- Optimistic locking: ten tasks change one key, and no change is lost.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local KEY = "example:watched"

-- Appends a letter. exec returns false when another client has written the key since the watch.
local function append(letter)
  local db = redis()
  repeat
    db:watch(KEY)
    local text = db:get(KEY):await() or ""
    db:multi():set(KEY, text .. letter)
  until db:exec():await()
end

-- The same without a loop. Raises WatchError when no attempt succeeds.
local function append_in_transaction(letter)
  redis:transaction(KEY, function(db)
    local text = db:get(KEY):await() or ""
    db:set(KEY, text .. letter)
  end)
end

redio.run(function()
  local tasks = {}
  for i = 1, 10 do
    local letter = ("abcdefghij"):sub(i, i)
    tasks[i] = redio.spawn(i % 2 == 0 and append or append_in_transaction, letter)
  end
  for _, task in ipairs(tasks) do
    task:await()
  end

  local letters = {}
  for letter in redis():getdel(KEY):await():gmatch "." do
    letters[#letters + 1] = letter
  end
  table.sort(letters)
  print("letters:", table.concat(letters))
end)

redis:close()
