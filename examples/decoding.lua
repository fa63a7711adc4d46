-- SPDX-License-Identifier: MIT
-- Decoding of values: none, as text, as JSON and numbers, or by a function.
-- A mode holds for the next await. Keys, field names and channel names are never decoded.

local redio = require "redio"

local redis = redio.Redis(os.getenv "REDIS_URL")
local BINARY, NUMBER, JSON = "example:binary", "example:number", "example:json"

redio.run(function()
  local db = redis():set(BINARY, "\128\0\255"):set(NUMBER, 10):set(JSON, { foo = "bar" })
  db:await()

  local function get_all()
    return db:get(BINARY):get(NUMBER):get(JSON)
  end

  local binary, number, json = get_all():await()
  print("none:", #binary, number, json)

  -- Text: each byte that is no UTF-8 becomes a surrogate of three bytes, and strencode undoes that.
  binary, number, json = get_all():strdecode():await()
  print("strdecode:", #binary, number, json)
  print("strencode:", redio.strencode(binary) == "\128\0\255")

  binary, number, json = get_all():autodecode():await()
  print("autodecode:", #binary, number + 1, json.foo)

  binary, number, json = get_all():decoder(string.upper):await()
  print("decoder:", #binary, number, json)

  -- The mode held for one await.
  print("none again:", type((db:get(NUMBER):await())))

  db:del(BINARY, NUMBER, JSON):await()
end)

redis:close()
