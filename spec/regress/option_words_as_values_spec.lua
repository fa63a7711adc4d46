-- SPDX-License-Identifier: MIT
-- The shape of some replies depends on a word among the options: WITHSCORES, GET, INCR ... A key, member, value or
-- pattern that reads like such a word is none: of a key named "withscores" ZUNION had the members paired with one
-- another.

local check = require "spec.support.check"
local commands = require "redio.command.table"
local redio = require "redio"
local server = require "spec.support.server"
local trailing = require "redio.command.trailing"

local function pack(...)
  return { n = select("#", ...), ... }
end

describe("a word of an option", function()
  check.protocols(function(protocol)
    describe("under RESP" .. protocol, function()
      local redis, db

      setup(function()
        redis = redio.Redis(server.shared().url, { protocol = protocol, database = 9 })
      end)

      before_each(function()
        db = redis()
        db:flushall():await()
      end)

      teardown(function()
        redis():flushall():await()
        redis:close()
      end)

      local function says(expected, handle)
        assert.same(expected, pack(handle:await()))
      end

      it("is a key of a union, an intersection, a difference", function()
        db:zadd("withscores", { a = 1, b = 2 }):zadd("z", { c = 3, d = 4 }):await()
        db:zadd("some", { a = 1, b = 2, c = 3 }):await()
        says({ n = 3, { "a", "b", "c", "d" }, { "a", "b" }, { "a", "b" } },
          db:zunion(2, "z", "withscores"):zinter(2, "some", "withscores"):zdiff(2, "withscores", "z"))
        says({ n = 2, { "a", "b", "c", "d" }, { "a", "b" } },
          db:zunion({ "z", "withscores" }):zunion("1", "withscores", "WEIGHTS", 1))
        says({ n = 2, { { "a", 1 }, { "b", 2 }, { "c", 3 }, { "d", 4 } }, { { "a", 1 }, { "b", 2 } } },
          db:zunion(2, "z", "withscores", "withscores"):zdiff({ "withscores", "z" }, { withscores = true }))
      end)

      it("is a value", function()
        says({ n = 2, "get", "Nx" }, db:set("k", "get"):get("k"):set("k", "Nx"):get("k"))
        says({ n = 1, "Nx" }, db:set("k", "get", "GET"))
        says({ n = 3, nil, nil, true }, db:set("k", "xx", "NX"):set("none", "nx", "xx"):set("k", "get", "xx"))
        says({ n = 1, "get" }, db:set("k", "v", "EX", 100, "NX", "GET"))
      end)

      it("is a member", function()
        says({ n = 2, 1, 2 }, db:zadd("z", 1, "incr"):zadd("z", "CH", 2, "incr", 3, "INCR"))
        says({ n = 2, 1, 2.5 }, db:zadd("z", 1, "nx"):zadd("z", "incr", 1.5, "nx"))
        db:geoadd("g", 13.361389, 38.115556, "withdist"):await()
        says({ n = 2, { "withdist" }, { "withdist" } }, db:georadiusbymember("g", "withdist", 5, "km")
          :geosearch("g", "BYRADIUS", 5, "km", "FROMMEMBER", "withdist"))
        local with = db:geosearch("g", "BYRADIUS", 5, "km", "FROMMEMBER", "withdist", "WITHDIST"):await()
        assert.equal("withdist", with[1][1])
      end)

      it("is a pattern, or where results are stored", function()
        db:hset("h", { novalues = 1, a = 2 }):await()
        says({ n = 1, { "0", { "novalues", 1 } } }, db:hscan("h", 0, "MATCH", "novalues"):autodecode())
        db:geoadd("g", 13.361389, 38.115556, "m"):await()
        says({ n = 2, 1, { "m" } },
          db:georadius("g", 13.36, 38.11, 50, "km", "STORE", "withdist"):zrange("withdist", 0, -1))
      end)
    end)
  end)

  it("is looked for only where an option of its command can stand", function()
    local zunion = trailing.variants(commands.ZUNION)
    assert.equal(1, zunion.numkeys)
    assert.equal(2, zunion.from)
    assert.equal(1, trailing.variants(commands.ZADD).leading)
    for name, entry in pairs(commands) do
      local variants = trailing.variants(entry)
      for _, variant in ipairs(entry.variants or {}) do
        -- A token without options to say what the others take: of these there are three.
        local exempt = name:find "^SENTINEL " ~= nil or name == "ACL LOG"
        assert.is_true(not variant.token or entry.options ~= nil or exempt, name)
      end
      for i = 1, variants and variants.shaped or 0 do
        assert.is_string(variants[i].reply, name)
      end
    end
  end)
end)
