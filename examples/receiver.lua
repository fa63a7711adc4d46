-- SPDX-License-Identifier: MIT
-- A receiver of messages, and a publisher beside it. Both use the same client.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")

local function publish()
  local db = redis()
  db:publish("example:news", "first")
  db:publish("example:news", { title = "second", tags = { "a", "b" } })
  db:publish("example:weather", 21.5)
  db:publish("example:news", "bye")
  return db:await() -- the number of receivers of each message
end

redio.run(function()
  local receiver = redis:pubsub("example:news"):psubscribe("example:wea*"):with_channel():autodecode()
  receiver:connect() -- waits until the server has confirmed, so that no message is missed
  local publisher = redio.spawn(publish)

  for channel, message in receiver do
    if type(message) == "table" then
      print(channel, message.title, table.concat(message.tags, ","))
    else
      print(channel, message)
    end
    if message == "bye" then
      break
    end
  end
  receiver:close()
  print("receivers of each:", publisher:await())
end)

redis:close()
