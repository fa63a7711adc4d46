-- SPDX-License-Identifier: MIT
-- The Lua forms of commands, against a real server under both protocols: options, pairs and lists as tables, fractions
-- of seconds, predicates, and the parts of replies that decoding modes leave alone. Contract: docs, "Values".

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"

local unpack = table.unpack or unpack -- luacheck: ignore
local math_type = math.type or type
local FLOAT = math_type(0.5)

local function pack(...)
  return { n = select("#", ...), ... }
end

for _, protocol in ipairs { 2, 3 } do
  describe("Under RESP" .. protocol .. ",", function()
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

    -- The handle's results are exactly these, nil included.
    local function says(expected, handle)
      assert.same(expected, pack(handle:await()))
    end

    local function sorted(list)
      table.sort(list)
      return list
    end

    -- The key has between `low` and `high` milliseconds left.
    local function expires(key, low, high)
      local left = redis():pttl(key):await()
      assert.is_true(left > low and left <= high, key .. ": " .. tostring(left))
    end

    describe("strings:", function()
      it("set takes its options as words and as a table", function()
        says({ n = 0 }, db:set("s", "1", "EX", 100))
        says({ n = 0 }, db:set("s", "1", { ex = 100 }))
        expires("s", 99000, 100000)
        says({ n = 2, nil, true }, db:set("s", "2", { nx = true }):set("new", "2", { nx = true }))
        says({ n = 2, true, nil }, db:set("s", "2", { xx = true, ex = 10 }):set("none", "2", { xx = true }))
        says({ n = 2, "2", nil }, db:set("s", "3", { get = true }):set("none", "3", { get = true }))
        says({ n = 2, "3", "3" }, db:set("none", "4", { nx = true, get = true }):get("none"))
        says({ n = 0 }, db:set("s", "5", { px = 5000, nx = false }))
        says({ n = 0 }, db:set("s", "5", { keepttl = true }))
        expires("s", 4000, 5000)
        says({ n = 0 }, db:set("s", "6"):set("s", "7", {}))
        says({ n = 2, "7", -1 }, db:get("s"):pttl("s"))
      end)

      it("set takes fractions of seconds", function()
        says({ n = 0 }, db:set("s", "1", { ex = 1.5 }):set("at", "1", { exat = 4000000000.25 }))
        expires("s", 1000, 1500)
        says({ n = 1, 4000000000250 }, db:pexpiretime("at"))
      end)

      it("set makes JSON of tables and booleans", function()
        db:set("a", { 1, { x = "y" } }):set("b", true):set("c", false):set("d", { ex = 1 }):await()
        says({ n = 4, '[1,{"x":"y"}]', "true", "false", '{"ex":1}' }, db:get("a"):get("b"):get("c"):get("d"))
      end)

      it("setex, psetex and getex", function()
        says({ n = 0 }, db:setex("s", 1.5, "v"):setex("t", 100, { 1 }):psetex("p", 5000, "v"))
        expires("s", 1000, 1500)
        expires("t", 99000, 100000)
        expires("p", 4000, 5000)
        says({ n = 1, "[1]" }, db:getex("t", { ex = 2.5 }))
        expires("t", 2000, 2500)
        says({ n = 2, "[1]", -1 }, db:getex("t", { persist = true }):ttl("t"))
      end)

      it("mset, msetnx and mget", function()
        says({ n = 0 }, db:mset({ a = 1, b = "two" }):mset({ { "c", 3 }, { "d", { 4 } } }):mset("e", 5, "f", true))
        says({ n = 1, { "1", "two", false } }, db:mget({ "a", "b", "none" }))
        says({ n = 1, { "3", "[4]", "5", "true" } }, db:mget("c", { "d", "e" }, "f"))
        says({ n = 2, false, true }, db:msetnx({ a = 2, x = 2 }):msetnx({ x = 2, y = 3 }))
      end)

      it("lcs", function()
        db:mset({ a = "ohmytext", b = "mynewtext" }):await()
        says({ n = 3, "mytext", 6, { matches = { { { 4, 7 }, { 5, 8 } } }, len = 6 } },
          db:lcs("a", "b"):lcs("a", "b", { len = true }):lcs("a", "b", { idx = true, minmatchlen = 4 }))
      end)

      it("bitfield, bitcount and bitop", function()
        says({ n = 1, { 0, 5 } }, db:bitfield("b", { { "SET", "u8", 0, 5 }, { "GET", "u8", 0 } }))
        says({ n = 1, { 5 } }, db:bitfield_ro("b", { "GET", "u8", 0 }))
        says({ n = 3, 2, 1, 2 },
          db:bitcount("b"):bitcount("b", 0, 5, { bit = true }):bitcount("b", 0, 0, { byte = true }))
        says({ n = 1, 1 }, db:bitop("AND", "to", { "b", "b" }))
      end)
    end)

    describe("keys:", function()
      before_each(function()
        db:mset({ a = 1, b = 2, c = 3, d = 4 }):await()
      end)

      it("del, delete, unlink, touch and exists take lists", function()
        says({ n = 5, 2, 3, true, false, 2 },
          db:touch({ "a", "b" }):exists("a", "b", "c"):exists("a"):exists("none"):exists({ "a", "b" }))
        says({ n = 4, 2, 1, 1, 0 }, db:del({ "a", "b" }):delete("c"):unlink({ "d" }):delete("d"))
      end)

      it("keys() means all of them", function()
        assert.same({ "a", "b", "c", "d" }, sorted(db:keys():await()))
        says({ n = 2, { "a" }, {} }, db:keys("[a]"):keys("none*"))
      end)

      it("expire and its kind take fractions, and words", function()
        says({ n = 3, true, true, false }, db:expire("a", 0.5):expire("b", 100):expire("none", 0.5))
        expires("a", 100, 500)
        expires("b", 99000, 100000)
        says({ n = 3, true, false, true },
          db:expire("c", 50, { nx = true }):expire("c", 10.5, { gt = true }):expire("c", 99.5, "GT"))
        expires("c", 98000, 99500)
        says({ n = 3, true, 4000000000250, 4000000000 },
          db:expireat("d", 4000000000.25):pexpiretime("d"):expiretime("d"))
        says({ n = 3, true, true, 4000000000001 },
          db:pexpire("d", 1000, { lt = true }):pexpireat("d", 4000000000001):pexpiretime("d"))
      end)

      it("an expiry in no time deletes, and a tiny one does not at once", function()
        says({ n = 2, true, false }, db:expire("a", 0):exists("a"))
        says({ n = 1, true }, db:expire("b", 0.0001))
      end)

      it("ttl answers seconds and their fractions, -1 and -2 stay", function()
        says({ n = 1, true }, db:expire("a", 1.75))
        local left, none, missing = db:ttl("a"):ttl("b"):ttl("none"):await()
        assert.is_true(left > 1 and left <= 1.75, tostring(left))
        assert.same({ -1, -2 }, { none, missing })
        assert.equal(math_type(1), math_type(none))
        says({ n = 2, -1, -2 }, db:pttl("b"):pttl("none"))
        says({ n = 4, true, 100, -1, -2 }, db:expire("a", 100):call("TTL", "a"):call("TTL", "b"):call("ttl", "none"))
      end)

      it("copy, restore and scan have options", function()
        says({ n = 3, true, false, true }, db:copy("a", "e"):copy("b", "e"):copy("b", "e", { replace = true }))
        local dump = db:dump("e"):await()
        says({ n = 0 }, db:restore("e", 5000, dump, { replace = true }))
        expires("e", 4000, 5000)
        local found = db:scan(0, { match = "[ab]", count = 1000, type = "string" }):await()
        assert.same({ "0", { "a", "b" } }, { found[1], sorted(found[2]) })
      end)
    end)

    describe("hashes:", function()
      it("hset mixes records, lists of pairs and words", function()
        says({ n = 3, 2, 1, 1 }, db:hset("h", { a = 1, b = "x" }):hset("h", "c", 2.5):hset("h", { { "d", { 1 } } }))
        says({ n = 1, 3 }, db:hset("h", "e", true, { f = 6 }, "g", 7))
        says({ n = 1, { a = "1", b = "x", c = "2.5", d = "[1]", e = "true", f = "6", g = "7" } }, db:hgetall("h"))
        says({ n = 2, {}, 0 }, db:hgetall("none"):hset("h", "a", { x = 1 }))
        says({ n = 1, '{"x":1}' }, db:hget("h", "a"))
      end)

      it("hget with a list is hmget", function()
        db:hmset("h", { a = 1, b = 2 }):await()
        says({ n = 5, "1", { "1", "2" }, { "2" }, { "1", false }, { "1", "2" } },
          db:hget("h", "a"):hget("h", { "a", "b" }):hget("h", { "b" }):hget("h", { "a", "none" })
            :hmget("h", { "a", "b" }))
        says({ n = 2, nil, 2 }, db:hget("h", "none"):hdel("h", { "a", "b", "none" }))
      end)

      it("hrandfield with values is a list of pairs, hscan a flat list", function()
        db:hset("h", { a = 1 }):await()
        says({ n = 4, "a", { "a" }, { { "a", "1" } }, { { "a", "1" } } },
          db:hrandfield("h"):hrandfield("h", 2):hrandfield("h", 2, { withvalues = true })
            :hrandfield("h", 1, "withvalues"))
        says({ n = 1, { "0", { "a", "1" } } }, db:hscan("h", 0, { match = "a*", count = 10 }))
      end)
    end)

    describe("lists:", function()
      before_each(function()
        db:rpush("l", { "a", "b", { x = 1 }, true, 5 }):await()
      end)

      it("push what lists hold, JSON included", function()
        says({ n = 2, { "a", "b", '{"x":1}', "true", "5" }, 7 }, db:lrange("l", 0, -1):lpush("l", { y = 2 }, { "z" }))
        says({ n = 1, { "z", '{"y":2}' } }, db:lrange("l", 0, 1))
      end)

      it("lpos, lmpop and blmpop have options and lists of keys", function()
        says({ n = 4, 1, { 1 }, nil, {} },
          db:lpos("l", "b"):lpos("l", "b", { count = 0 }):lpos("l", "none")
            :lpos("l", "none", { count = 1, maxlen = 9 }))
        says({ n = 2, { "l", { "a", "b" } }, { "l", { "5" } } },
          db:lmpop({ "none", "l" }, "LEFT", { count = 2 }):blmpop(1, { "l" }, "RIGHT"))
        says({ n = 2, { "l", "true" }, { "l", '{"x":1}' } }, db:brpop({ "none", "l" }, 1):blpop("none", "l", 1))
        says({ n = 2, nil, nil }, db:lmpop({ "none" }, "LEFT"):lpop("none"))
      end)

      it("sort has options", function()
        db:rpush("s", { 3, 1, 2 }):mset({ w_1 = 9, w_2 = 8, w_3 = 7, n_1 = "one" }):await()
        says({ n = 2, { "1", "2", "3" }, { "3", "2" } }, db:sort("s"):sort("s", { desc = true, limit = { 0, 2 } }))
        says({ n = 1, { "3", false, "2", false, "1", "one" } }, db:sort("s", { by = "w_*", get = { "#", "n_*" } }))
        says({ n = 2, 3, { "1", "2", "3" } }, db:sort("s", { alpha = true, store = "to" }):lrange("to", 0, -1))
        says({ n = 1, { "2" } }, db:sort_ro("s", { asc = true, limit = { offset = 1, count = 1 } }))
      end)
    end)

    describe("sets:", function()
      it("take lists of members and of keys", function()
        says({ n = 3, 3, 2, 1 }, db:sadd("a", { "x", "y", { 1 } }):sadd("b", "y", "z"):srem("a", { "[1]", "none" }))
        says({ n = 3, { true, false }, { "y" }, { "x" } },
          db:smismember("a", { "x", "none" }):sinter({ "a", "b" }):sdiff("a", { "b" }))
        assert.same({ "x", "y", "z" }, sorted(db:sunion({ "a", "b" }):await()))
        says({ n = 3, 1, 1, 3 },
          db:sinterstore("to", { "a", "b" }):sintercard({ "a", "b" }, { limit = 5 }):sunionstore("to", { "a", "b" }))
      end)
    end)

    describe("sorted sets:", function()
      before_each(function()
        db:zadd("z", { one = 1, half = 0.5, two = 2 }):await()
      end)

      it("zadd takes records, lists of pairs, words, and options", function()
        says({ n = 3, 2, 1, 2 },
          db:zadd("y", { { 1, "a" }, { 2.5, { "b" } } }):zadd("y", 3, "c"):zadd("y", { e = 1 / 0 }, 4, "d"))
        says({ n = 1, { { "a", 1.0 }, { '["b"]', 2.5 }, { "c", 3.0 }, { "d", 4.0 }, { "e", 1 / 0 } } },
          db:zrange("y", 0, -1, { withscores = true }))
        says({ n = 4, 0, 1, 7.5, nil },
          db:zadd("y", { a = 9 }, { nx = true }):zadd("y", { a = 2, f = 2 }, { xx = true, ch = true })
            :zadd("y", 3.5, "d", { incr = true }):zadd("y", 1, "d", { incr = true, nx = true }))
        says({ n = 1, 3.0 }, db:zadd("y", "INCR", 1, "a"))
      end)

      it("scores are floats", function()
        local score, scores, more =
          db:zscore("z", "one"):zmscore("z", { "half", "none" }):zincrby("z", 1, "two"):await()
        assert.same({ 1.0, { 0.5, false }, 3.0 }, { score, scores, more })
        assert.same({ FLOAT, FLOAT, FLOAT }, { math_type(score), math_type(scores[1]), math_type(more) })
        says({ n = 1, nil }, db:zscore("z", "none"))
      end)

      it("zrange and its kind give lists of {member, score}", function()
        says({ n = 2, { "half", "one", "two" }, { { "half", 0.5 }, { "one", 1.0 } } },
          db:zrange("z", 0, -1):zrange("z", 0, 1, "WITHSCORES"))
        local options = { byscore = true, rev = true, limit = { 0, 1 }, withscores = true }
        says({ n = 2, { { "two", 2.0 } }, {} }, db:zrange("z", "+inf", 1, options):zrange("none", 0, -1, "withscores"))
        says({ n = 3, { "half" }, { { "one", 1.0 } }, { { "two", 2.0 } } },
          db:zrangebyscore("z", 0, 0.7):zrangebyscore("z", 0, 9, { withscores = true, limit = { 1, 1 } })
            :zrevrangebyscore("z", 9, 0, { limit = { offset = 0, count = 1 }, withscores = true }))
        says({ n = 2, { { "two", 2.0 } }, 2 },
          db:zrevrange("z", 0, 0, { withscores = true }):zrangestore("to", "z", 0, 1, { rev = true }))
        says({ n = 1, { { "half", 0.5 }, { "one", 1.0 }, { "two", 2.0 } } },
          db:zrange("z", 0, -1, { withscores = true }):strdecode())
      end)

      it("zunion and its kind take lists of keys", function()
        db:zadd("y", { one = 2 }):await()
        says({ n = 3, { "one" }, { { "one", 12.0 } }, { "half", "two" } },
          db:zinter({ "z", "y" }):zinter({ "z", "y" }, { weights = { 2, 5 }, withscores = true }):zdiff({ "z", "y" }))
        says({ n = 1, { { "half", 0.5 }, { "one", 2.0 }, { "two", 2.0 } } },
          db:zunion({ "z", "y" }, { aggregate = "MAX", withscores = true }))
        says({ n = 4, 3, 1, 2, 1 },
          db:zunionstore("to", { "z", "y" }, { weights = { 1, 2 } }):zinterstore("to", { "z", "y" })
            :zdiffstore("to", { "z", "y" }):zintercard({ "z", "y" }, { limit = 3 }))
      end)

      it("pops give members and scores", function()
        says({ n = 2, { "half", 0.5 }, { { "two", 2.0 } } }, db:zpopmin("z"):zpopmax("z", 1))
        says({ n = 2, {}, {} }, db:zpopmin("none"):zpopmin("none", 2))
        db:zadd("z", { a = 1, b = 2, c = 3, d = 4 }):await()
        says({ n = 3, { "z", { { "a", 1.0 }, { "one", 1.0 } } }, { "z", "b", 2.0 }, { "z", { { "d", 4.0 } } } },
          db:zmpop({ "none", "z" }, "MIN", { count = 2 }):bzpopmin({ "none", "z" }, 1):bzmpop(1, { "z" }, "MAX"))
        says({ n = 2, { { "c", 3.0 } }, { "c" } }, db:zrandmember("z", 5, { withscores = true }):zrandmember("z", 5))
      end)
    end)

    describe("places:", function()
      it("geoadd and geosearch take tables", function()
        says({ n = 2, 1, 1 },
          db:geoadd("g", { Palermo = { 13.361389, 38.115556 } }):geoadd("g", { { 15.087269, 37.502669, "Catania" } }))
        says({ n = 2, 0, 1 }, db:geoadd("g", 13.4, 38.1, "Palermo", { nx = true })
          :geoadd("g", { Palermo = { 13.361389, 38.115556 }, Etna = { 14.99, 37.75 } }, { ch = true }))
        local near = { fromlonlat = { 15, 37 }, byradius = { 200, "km" }, asc = true }
        says({ n = 1, { "Catania", "Etna", "Palermo" } }, db:geosearch("g", near))
        near.count, near.withdist, near.withcoord, near.withhash = 1, true, true, true
        local place = db:geosearch("g", near):await()[1]
        assert.same({ "Catania", "56.4413", 3479447370796909 }, { place[1], place[2], place[3] })
        assert.is_true(math.abs(place[4][1] - 15.087269) < 1e-5 and math.abs(place[4][2] - 37.502669) < 1e-5)
        local box = { frommember = "Catania", bybox = { width = 100, height = 100, unit = "km" }, desc = true }
        says({ n = 2, { "Etna", "Catania" }, 2 }, db:geosearch("g", box):geosearchstore("to", "g", box))
        local positions = db:geopos("g", { "Palermo", "none" }):await()
        assert.is_true(math.abs(positions[1][1] - 13.361389) < 1e-5)
        assert.is_false(positions[2])
      end)
    end)

    describe("streams:", function()
      it("xadd takes records, lists of pairs, words, and options", function()
        says({ n = 3, "1-1", "1-2", "1-3" },
          db:xadd("x", "1-1", { f = "v" }):xadd("x", "1-2", { { "b", 2 }, { "a", { 1 } } }):xadd("x", "1-3", "c", 3))
        says({ n = 2, nil, "2-1" }, db:xadd("none", "1-1", { f = 1 }, { nomkstream = true })
          :xadd("x", "2-1", "d", 4, { maxlen = 3, exact = true }))
        says({ n = 1, { { "1-2", { "b", "2", "a", "[1]" } }, { "1-3", { "c", "3" } }, { "2-1", { "d", "4" } } } },
          db:xrange("x", "-", "+"))
        says({ n = 2, { { "1-2", { "b", "2", "a", "[1]" } } }, { { "2-1", { "d", "4" } } } },
          db:xrange("x", "-", "+", { count = 1 }):xrevrange("x", "+", "-", { count = 1 }))
        says({ n = 2, 2, 0 },
          db:xtrim("x", { minid = "2-0", exact = true }):xtrim("x", { maxlen = 100, approx = true }))
      end)

      it("xread takes its streams as a table, and gives a table by stream", function()
        db:xadd("x", "1-1", { f = 1 }):xadd("y", "2-1", { g = 2 }):await()
        local x, y = { { "1-1", { "f", "1" } } }, { { "2-1", { "g", "2" } } }
        says({ n = 1, { x = x, y = y } }, db:xread({ streams = { x = 0, y = 0 }, count = 5 }))
        says({ n = 1, { y = y } }, db:xread({ streams = { { "y", "2-0" }, { "x", "1-1" } } }))
        says({ n = 2, { x = x }, nil }, db:xread("COUNT", 1, "STREAMS", "x", 0):xread("STREAMS", "x", "1-1"))
        says({ n = 1, nil }, db:xread({ streams = { x = "$" }, block = 10 }))
      end)

      it("groups read, claim and acknowledge", function()
        db:xadd("x", "1-1", { f = 1 }):xadd("x", "1-2", { f = 2 }):await()
        says({ n = 2, true, false },
          db:xgroup_create("x", "g", 0):xgroup_create("made", "g", "$", { mkstream = true })
            :xgroup_createconsumer("x", "g", "c"):xgroup_createconsumer("x", "g", "c"))
        local first, second = { "1-1", { "f", "1" } }, { "1-2", { "f", "2" } }
        says({ n = 1, { x = { first, second } } }, db:xreadgroup({ group = { "g", "c" }, streams = { x = ">" } }))
        says({ n = 2, { x = { first } }, nil },
          db:xreadgroup({ group = { group = "g", consumer = "c" }, count = 1, streams = { { "x", 0 } } })
            :xreadgroup("GROUP", "g", "c", "BLOCK", 10, "STREAMS", "x", ">"))
        says({ n = 2, { first, second }, { "1-1" } },
          db:xclaim("x", "g", "d", 0, { "1-1", "1-2" }):xclaim("x", "g", "d", 0, { "1-1" }, { justid = true }))
        says({ n = 2, { "0-0", { first, second }, {} }, { "0-0", { "1-1", "1-2" }, {} } },
          db:xautoclaim("x", "g", "e", 0, 0):xautoclaim("x", "g", "e", 0, 0, { count = 5, justid = true }))
        local pending, summary = db:xpending("x", "g", "-", "+", 10, { idle = 0 }):xpending("x", "g"):await()
        assert.same({ "1-1", "e" }, { pending[1][1], pending[1][2] })
        assert.same({ 2, "1-1", "1-2", { { "e", "2" } } }, summary)
        local info = db:xinfo_stream("x", { full = true, count = 1 }):await()
        assert.same({ first }, info.entries)
        assert.same({ "g", "c" }, { info.groups[1].name, info.groups[1].consumers[1].name })
        says({ n = 2, 2, 1 }, db:xack("x", "g", { "1-1", "1-2", "9-9" }):xdel("x", { "1-1", "9-9" }))
        assert.equal("g", db:xinfo_groups("x"):await()[1].name)
      end)
    end)

    describe("scripts:", function()
      it("eval takes lists of keys and arguments", function()
        local source = "return {#KEYS, KEYS[1] or false, #ARGV, ARGV[1] or false}"
        says({ n = 4, { 2, "a", 1, "[1]" }, { 0, false, 0, false }, { 1, "k", 2, "x" }, { 0, false, 1, "true" } },
          db:eval(source, { "a", "b" }, { { 1 } }):eval(source, {}, {}):eval(source, 1, "k", { "x", "y" })
            :eval(source, {}, true))
        local sha = db:script_load(source):await()
        says({ n = 3, { 1, "a", 0, false }, { 1, "a", 1, "b" }, { true, false } },
          db:evalsha(sha, { "a" }):evalsha_ro(sha, { "a" }, { "b" }):script_exists({ sha, ("0"):rep(40) }))
      end)

      it("functions are loaded, listed and called with tables", function()
        local source = "#!lua name=forms\nredis.register_function{function_name='forms_echo', flags={'no-writes'}, "
          .. "callback=function(keys, args) return {keys[1], args[1]} end}"
        says({ n = 1, "forms" }, db:function_load(source, { replace = true }))
        says({ n = 2, { "k", "a" }, { "k", "a" } },
          db:fcall("forms_echo", { "k" }, { "a" }):fcall_ro("forms_echo", { "k" }, { "a" }))
        local library = db:function_list({ libraryname = "forms", withcode = true }):await()[1]
        assert.same({ "forms", source, "forms_echo", { "no-writes" } }, {
          library.library_name, library.library_code, library.functions[1].name, library.functions[1].flags,
        })
        says({ n = 0 }, db:function_delete("forms"))
      end)
    end)

    describe("containers:", function()
      it("go by one method, by two words and by call", function()
        local expected = { ["maxmemory-samples"] = "5" }
        says({ n = 6, expected, expected, expected, expected, expected, expected },
          db:config_get("maxmemory-samples"):config("GET", "maxmemory-samples"):config("get", "maxmemory-samples")
            :call("CONFIG GET", "maxmemory-samples"):call("config", "get", "maxmemory-samples")
            :call(" config  get ", { "maxmemory-samples" }))
        db:rpush("l", "1"):await()
        local encoding = db:object_encoding("l"):await()
        says({ n = 2, encoding, encoding }, db:object("encoding", "l"):call("object encoding", "l"))
        says({ n = 1, true },
          db:xgroup("CREATE", "x", "g", "$", { mkstream = true }):xgroup("CREATECONSUMER", "x", "g", "c"))
      end)

      it("config takes pairs and lists", function()
        says({ n = 1, { ["lfu-decay-time"] = "2", ["lfu-log-factor"] = "11" } },
          db:config_set({ ["lfu-decay-time"] = 2, ["lfu-log-factor"] = 11 })
            :config_get({ "lfu-decay-time", "lfu-log-*" }))
        says({ n = 0 }, db:config("SET", { ["lfu-decay-time"] = 1, ["lfu-log-factor"] = 10 }))
      end)

      it("command, client, acl and memory", function()
        assert.is_true(db:command("COUNT"):await() > 200)
        assert.equal("get", db:command_info({ "get", "set" }):await()[1][1])
        assert.equal("1.0.0", db:command_docs({ "get" }):await().get.since)
        local id = db:client_id():await()
        assert.matches("^id=" .. id .. " ", (db:client_list({ id = { id } }):await()))
        says({ n = 1, 0 }, db:client_kill({ type = "pubsub", skipme = "yes" }))
        db:acl_setuser("forms", { "on", "nopass", "~f*", "+get" }):await()
        local user, dry =
          db:acl_getuser("forms"):acl_dryrun("forms", "GET", { "fine" }):acl_deluser({ "forms" }):await()
        assert.same({ "~f*", "-@all +get", "OK" }, { user.keys, user.commands, dry })
        assert.is_true(db:rpush("l", 1):memory_usage("l", { samples = 0 }):replies()[2] > 0)
      end)
    end)

    it("call has the forms and the replies of the methods", function()
      says({ n = 2, 1, nil }, db:call("SET", "k", { 1 }, { ex = 100 }):call("HSET", "h", { a = 1 }):call("get", "none"))
      says({ n = 5, "[1]", true, { a = "1" }, { "1", false }, true },
        db:call("get", "k"):call("EXISTS", { "k" }):call("HGETALL", "h"):call("HGET", "h", { "a", "b" })
          :call("EXPIRE", "k", 0.5))
      says({ n = 2, { "h", "k" }, 1.5 },
        db:call("EVAL", "return KEYS", { "h", "k" }):call("zadd", "z", { m = 1.5 }, { incr = true }))
    end)

    it("tables that mean nothing raise at the call, and nothing is queued", function()
      for _, wrong in ipairs {
        { "set", "k", "v", { expires = 5 } }, { "set", "k", "v", { ex = {} } }, { "hset", "h", {} },
        { "hset", "h", { "a", "b" } }, { "del", {} }, { "del", { a = 1 } }, { "zadd", "z", { { 1 } } },
        { "zrange", "z", 0, -1, { limit = 5 } }, { "xread", { streams = {} } }, { "geoadd", "g", { P = 1 } },
        { "expire", "k", print }, { "zunion", {} }, { "mset", { a = print } }, { "rpush", "l", { 1, nil, 3 } },
      } do
        local handle, name = db, wrong[1]
        local text = check.misuse(function()
          handle[name](handle, unpack(wrong, 2))
        end)
        assert.matches(" '" .. name:upper() .. "' ", text)
        assert.equal(0, db:queued())
      end
    end)

    it("predicates are booleans", function()
      db:hset("h", "f", 1):sadd("s", "m"):mset({ a = 1, b = 2, c = 3 }):await()
      says({ n = 6, true, false, false, true, true, false },
        db:hexists("h", "f"):hexists("h", "none"):hsetnx("h", "f", 2):hsetnx("h", "g", 2)
          :sismember("s", "m"):sismember("s", "none"))
      says({ n = 6, false, true, true, false, true, false },
        db:setnx("a", 2):setnx("d", 2):exists("a"):exists("none"):msetnx("e", 1):msetnx("e", 1))
      says({ n = 8, true, false, true, false, true, false, true, false },
        db:expire("a", 100):expire("none", 100):pexpire("a", 100000):pexpire("none", 1)
          :expireat("a", 4000000000):expireat("none", 1):pexpireat("a", 4000000000000):pexpireat("none", 1))
      says({ n = 6, true, false, false, true, true, false },
        db:persist("a"):persist("a"):renamenx("a", "b"):renamenx("a", "new"):copy("new", "copy"):copy("new", "copy"))
      says({ n = 2, true, false }, db:move("c", 8):move("c", 8))
      says({ n = 6, true, false, true, false, { true, false }, { false } },
        db:smove("s", "t", "m"):smove("s", "t", "m"):pfadd("p", "x"):pfadd("p", "x")
          :smismember("t", "m", "none"):script_exists(("0"):rep(40)))
      says({ n = 4, true, false, true, false },
        db:xgroup_create("x", "g", "$", "MKSTREAM"):xgroup_createconsumer("x", "g", "c")
          :xgroup_createconsumer("x", "g", "c"):xgroup_destroy("x", "g"):xgroup_destroy("x", "g"))
      says({ n = 1, false }, db:client_unblock(999999999))
    end)

    describe("decoding modes", function()
      -- All names and all values are "7", so that only the mode tells which is which.
      local function decoded(handle)
        return handle:autodecode()
      end

      before_each(function()
        db:set("7", "7"):hset("7h", "7", "7"):rpush("7l", "7", "7", "7"):sadd("7s", "7"):zadd("7z", 7, "7")
          :xadd("7x", "7-7", "7", "7"):geoadd("7g", 7, 7, "7"):await()
      end)

      it("touch values", function()
        says({ n = 6, 7, { 7, false }, 7, 7, { 7 }, { 7 } },
          decoded(db:get("7"):mget("7", "none"):getrange("7", 0, 0):hget("7h", "7"):hmget("7h", "7"):hvals("7h")))
        says({ n = 5, { 7, 7, 7 }, { 7 }, 7, { 7 }, 7 },
          decoded(db:lrange("7l", 0, -1):smembers("7s"):srandmember("7s"):zrange("7z", 0, -1):lpop("7l")))
        says({ n = 4, { { 7, 7.0 } }, { 7, 7.0 }, { 7, { 7 } }, 7 },
          decoded(db:zrange("7z", 0, -1, { withscores = true }):zpopmin("7z")
            :eval("return {ARGV[1], {KEYS[1]}}", { "7" }, { "7" }):echo("7")))
        says({ n = 3, 7, 7, nil }, decoded(db:ping("7"):getdel("7"):get("7")))
      end)

      it("touch values beside names", function()
        says({ n = 2, { ["7"] = 7 }, { { "7", 7 } } }, decoded(db:hgetall("7h"):hrandfield("7h", 1, "WITHVALUES")))
        says({ n = 1, { "0", { "7", 7 } } }, decoded(db:hscan("7h", 0)))
        says({ n = 2, { { "7-7", { "7", 7 } } }, { ["7x"] = { { "7-7", { "7", 7 } } } } },
          decoded(db:xrange("7x", "-", "+"):xread("STREAMS", "7x", 0)))
        db:rename("7l", "77"):rename("7z", "777"):await()
        says({ n = 2, { "77", 7 }, { "77", { 7 } } }, decoded(db:blpop("77", 1):lmpop({ "77" }, "LEFT")))
        says({ n = 2, { "777", { { 7, 7.0 } } }, nil }, decoded(db:zmpop({ "777" }, "MIN"):bzpopmin("777", 0.01)))
      end)

      it("leave names, keys, ids and the server's own words alone", function()
        says({ n = 5, { "7" }, { "0", { "7" } }, { "7" }, "7", "7-8" },
          decoded(db:keys("7"):scan(0, { match = "7", count = 1000 }):hkeys("7h"):hrandfield("7h")
            :xadd("7x", "7-8", "7", "7")))
        db:xgroup_create("7x", "7", 0):xreadgroup("GROUP", "7", "7", "COUNT", 1, "STREAMS", "7x", ">"):await()
        says({ n = 2, { "7-7" }, { 1, "7-7", "7-7", { { "7", "1" } } } },
          decoded(db:xclaim("7x", "7", "7", 0, "7-7", { justid = true }):xpending("7x", "7")))
        assert.equal("7", decoded(db:xinfo_groups("7x")):await()[1].name)
        says({ n = 3, "string", "int", { ["maxmemory-samples"] = "5" } },
          decoded(db:type("7"):object_encoding("7"):config_get("maxmemory-samples")))
        says({ n = 2, { "7", 0 }, { "7" } }, decoded(db:pubsub_numsub("7"):command_getkeys("GET", "7")))
        assert.is_string(decoded(db:geohash("7g", "7")):await()[1])
        says({ n = 1, "7" }, decoded(db:eval("return redis.status_reply('7')", 0)))
        local time, name = decoded(db:time():client_setname("7"):client_getname()):await()
        assert.same({ "string", "7" }, { type(time[1]), name })
      end)

      it("leave bytes of names alone", function()
        db:flushdb():set("\255", "\255"):hset("h", "\255", "\255"):await()
        local text = "\237\179\191" -- U+DCFF
        says({ n = 5, text, { "\255" }, { ["\255"] = text }, { { "\255", text } }, text },
          db:get("\255"):hkeys("h"):hgetall("h"):hrandfield("h", 1, { withvalues = true }):hget("h", "\255")
            :strdecode())
        assert.same({ "h", "\255" }, sorted((db:keys():strdecode():await())))
        local function bracket(bytes)
          return "<" .. bytes .. ">"
        end
        says({ n = 3, "<\255>", { "\255" }, { ["\255"] = "<\255>" } },
          db:get("\255"):hkeys("h"):hgetall("h"):decoder(bracket))
      end)
    end)
  end)
end
