-- SPDX-License-Identifier: MIT
-- command/arguments.lua: the words that tables and booleans among a command's arguments become. Needs no server.

local arguments = require "redio.command.arguments"
local commands = require "redio.command.table"

local function json(value)
  if type(value) == "boolean" then
    return tostring(value)
  end
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = tostring(key)
  end
  table.sort(keys)
  return "<" .. table.concat(keys, ",") .. ">"
end

local function entry_of(name)
  return assert(commands[name] or { name = name })
end

-- "SET k v EX 10": what is sent for SET with these arguments.
local function sent(name, ...)
  local list, other = arguments.expand(entry_of(name), json, select("#", ...), ...)
  local words = { other or name }
  for i = 1, list.n do
    words[#words + 1] = tostring(list[i])
  end
  assert.equal(nil, list[list.n + 1])
  return table.concat(words, " ")
end

local function refused(name, ...)
  local ok, message = pcall(sent, name, ...)
  assert.is_false(ok)
  assert.is_string(message)
  return message
end

local function says(part, message)
  assert.truthy(message:find(part, 1, true), message)
end

describe("values", function()
  it("are JSON when they are tables or booleans", function()
    assert.equal("SET k <a,b>", sent("SET", "k", { a = 1, b = 2 }))
    assert.equal("SET k <1,2>", sent("SET", "k", { 1, 2 }))
    assert.equal("SET k <>", sent("SET", "k", {}))
    assert.equal("SET k true EX 10", sent("SET", "k", true, "EX", 10))
    assert.equal("HSET k f <a>", sent("HSET", "k", "f", { a = 1 }))
    assert.equal("PUBLISH c <1>", sent("PUBLISH", "c", { 1 }))
    assert.equal("JSON.SET k $ <a>", sent("JSON.SET", "k", "$", { a = 1 }))
  end)

  it("of a kind that cannot be sent are refused by command and place", function()
    assert.equal(
      "bad argument #2 to 'SET' (it is nil, which cannot be sent; send \"\" or leave the command out)",
      refused("SET", "k", nil)
    )
    says("#3 to 'RPUSH' (it is a function", refused("RPUSH", "k", { 1 }, print))
    says("NaN", refused("RPUSH", "k", { 0 / 0 }))
    says("#2 to 'RPUSH' (element 2 is a function", refused("RPUSH", "k", { 1, print }))
    local fail = function()
      error("no JSON for this")
    end
    local ok, message = pcall(arguments.expand, commands.SET, fail, 2, "k", {})
    assert.is_false(ok)
    says("#2 to 'SET' (it cannot be written as JSON", message)
  end)
end)

describe("lists", function()
  it("stand for their elements where there may be many", function()
    assert.equal("DEL a b", sent("DEL", { "a", "b" }))
    assert.equal("DEL a b c d", sent("DEL", "a", { "b", "c" }, "d"))
    assert.equal("MGET a 2", sent("MGET", { "a", 2 }))
    assert.equal("EXISTS a", sent("EXISTS", { "a" }))
    assert.equal("HDEL k f g", sent("HDEL", "k", { "f", "g" }))
    assert.equal("HMGET k f g", sent("HMGET", "k", { "f", "g" }))
    assert.equal("SADD k a b", sent("SADD", "k", { "a", "b" }))
    assert.equal("SUNIONSTORE to a b", sent("SUNIONSTORE", "to", { "a", "b" }))
    assert.equal("BLPOP a b 5", sent("BLPOP", { "a", "b" }, 5))
    assert.equal("XACK s g 1-1 1-2", sent("XACK", "s", "g", { "1-1", "1-2" }))
    assert.equal("CONFIG GET a b", sent("CONFIG GET", { "a", "b" }))
    assert.equal("BITOP AND to a b", sent("BITOP", "AND", "to", { "a", "b" }))
  end)

  it("of values hold anything, and a record is one of them", function()
    assert.equal("RPUSH k 1 <a> true x", sent("RPUSH", "k", { 1, { a = 1 }, true, "x" }))
    assert.equal("RPUSH k <a> <b>", sent("RPUSH", "k", { a = 1 }, { b = 1 }))
    assert.equal("RPUSH k a false", sent("RPUSH", "k", { "a" }, false))
  end)

  it("make HMGET of HGET", function()
    assert.equal("HMGET k f g", sent("HGET", "k", { "f", "g" }))
    assert.equal("HMGET k f", sent("HGET", "k", { "f" }))
    assert.equal("HGET k true", sent("HGET", "k", true))
  end)

  it("are refused when they are empty, have holes or are none", function()
    says("#1 to 'DEL' (the table is empty", refused("DEL", {}))
    says("empty", refused("SADD", "k", {}))
    says("element 2 of the list is nil", refused("DEL", { "a", nil, "c" }))
    says("element 1 of the list is nil", refused("SADD", "k", { nil, "b" }))
    says("element 1 is a table", refused("DEL", { { "a" } }))
    says("a record cannot stand here", refused("DEL", { a = 1 }))
    says("both a list and a record", refused("DEL", { "a", b = 1 }))
  end)

  it("count keys where their number goes first", function()
    assert.equal("EVAL return 1 2 a b x <1>", sent("EVAL", "return 1", { "a", "b" }, { "x", { 1 } }))
    assert.equal("EVAL s 0", sent("EVAL", "s", {}, {}))
    assert.equal("EVAL s 1 k x y", sent("EVAL", "s", 1, "k", { "x", "y" }))
    assert.equal("EVALSHA s 0 true", sent("EVALSHA", "s", {}, true))
    assert.equal("ZUNION 2 a b", sent("ZUNION", { "a", "b" }))
    assert.equal("ZUNIONSTORE to 2 a b WEIGHTS 1 2 AGGREGATE MAX",
      sent("ZUNIONSTORE", "to", { "a", "b" }, { weights = { 1, 2 }, aggregate = "MAX" }))
    assert.equal("LMPOP 2 a b LEFT COUNT 3", sent("LMPOP", { "a", "b" }, "LEFT", { count = 3 }))
    assert.equal("BLMPOP 0 1 a LEFT", sent("BLMPOP", 0, { "a" }, "LEFT"))
    says("empty", refused("ZUNION", {}))
  end)

  it("of operations are for BITFIELD", function()
    assert.equal("BITFIELD k GET u8 0 INCRBY u2 1 1",
      sent("BITFIELD", "k", { { "GET", "u8", 0 }, { "INCRBY", "u2", 1, 1 } }))
    assert.equal("BITFIELD k GET u8 0", sent("BITFIELD", "k", { "GET", "u8", 0 }))
  end)
end)

describe("pairs", function()
  it("come from records, always in the same order", function()
    assert.equal("HSET k 1 one a 1 b 2 c 3", sent("HSET", "k", { c = 3, a = 1, b = 2, ["1"] = "one" }))
    assert.equal("HSET k 7 x 10 y a 1", sent("HSET", "k", { a = 1, [10] = "y", [7] = "x" }))
    assert.equal("HSET k x y a 1", sent("HSET", "k", "x", "y", { a = 1 }))
    assert.equal("HSET k a 1 x y", sent("HSET", "k", { a = 1 }, "x", "y"))
    assert.equal("HSET k a <1> b true", sent("HSET", "k", { a = { 1 }, b = true }))
    assert.equal("MSET a 1 b 2", sent("MSET", { b = 2, a = 1 }))
    assert.equal("CONFIG SET a 1", sent("CONFIG SET", { a = 1 }))
    assert.equal("ZADD k 1.5 a 2 b", sent("ZADD", "k", { a = 1.5, b = 2 }))
    assert.equal("XADD k * f v", sent("XADD", "k", "*", { f = "v" }))
    assert.equal("GEOADD k 13.5 38 P", sent("GEOADD", "k", { P = { 13.5, 38 } }))
    assert.equal("SENTINEL CONFIG SET a b", sent("SENTINEL CONFIG", "SET", { a = "b" }))
  end)

  it("come from lists of pairs, in that order", function()
    assert.equal("HSET k b 2 a 1", sent("HSET", "k", { { "b", 2 }, { "a", 1 } }))
    assert.equal("ZADD k 2 b 1 <x>", sent("ZADD", "k", { { 2, "b" }, { 1, { x = 1 } } }))
    assert.equal("XADD k * b 2 a 1", sent("XADD", "k", "*", { { "b", 2 }, { "a", 1 } }))
    assert.equal("GEOADD k 1 2 a 3 4 b", sent("GEOADD", "k", { { 1, 2, "a" }, { 3, 4, "b" } }))
    assert.equal("CLUSTER ADDSLOTSRANGE 1 2 5 6", sent("CLUSTER ADDSLOTSRANGE", { { 1, 2 }, { 5, 6 } }))
  end)

  it("that are none are refused with what would do", function()
    says("{name = value} or {{name, value}, ...}", refused("HSET", "k", { "a", "b" }))
    says("{member = score}", refused("ZADD", "k", { { 1, "a", 2 } }))
    says("{longitude, latitude}", refused("GEOADD", "k", { P = 1 }))
    says("empty", refused("MSET", {}))
    says("'a' is a table", refused("ZADD", "k", { a = {} }))
    says("a boolean cannot be a name", refused("HSET", "k", { [true] = 1 }))
  end)
end)

describe("options", function()
  it("go by their tokens, in the wire's order", function()
    assert.equal("SET k v NX EX 10", sent("SET", "k", "v", { ex = 10, nx = true }))
    assert.equal("SET k <a> GET KEEPTTL", sent("SET", "k", { a = 1 }, { keepttl = true, get = true }))
    assert.equal("SET k v", sent("SET", "k", "v", { nx = false, ex = false }))
    assert.equal("SET k v", sent("SET", "k", "v", {}))
    assert.equal("ZRANGE k 0 -1 BYSCORE REV LIMIT 0 10 WITHSCORES",
      sent("ZRANGE", "k", 0, -1, { byscore = true, limit = { 0, 10 }, rev = true, withscores = true }))
    assert.equal("SCAN 0 MATCH a* COUNT 10", sent("SCAN", 0, { match = "a*", count = 10 }))
    assert.equal("CLIENT KILL ID 5 SKIPME no", sent("CLIENT KILL", { id = 5, skipme = "no" }))
    assert.equal("CLIENT LIST ID 1 2", sent("CLIENT LIST", { id = { 1, 2 } }))
    assert.equal("GEOSEARCH k FROMMEMBER m BYRADIUS 200 km ASC COUNT 3 ANY WITHDIST",
      sent("GEOSEARCH", "k", {
        frommember = "m", byradius = { 200, "km" }, asc = true, count = 3, any = true, withdist = true,
      }))
    assert.equal("SORT k BY w_* LIMIT 0 2 GET # GET n_* DESC STORE to",
      sent("SORT", "k", { by = "w_*", limit = { 0, 2 }, get = { "#", "n_*" }, desc = true, store = "to" }))
    assert.equal("SORT k GET #", sent("SORT", "k", { get = "#" }))
    assert.equal("XCLAIM s g c 0 1-1 1-2 JUSTID", sent("XCLAIM", "s", "g", "c", 0, { "1-1", "1-2" }, { justid = true }))
    assert.equal("XCLAIM s g c 0 1-1 1-2", sent("XCLAIM", "s", "g", "c", 0, { "1-1" }, { "1-2" }))
    assert.equal("MODULE LOADEX path CONFIG a 1 CONFIG b 2 ARGS x y",
      sent("MODULE LOADEX", "path", { config = { b = 2, a = 1 }, args = { "x", "y" } }))
  end)

  it("stand where the command wants them", function()
    assert.equal("ZADD k NX CH 1 a", sent("ZADD", "k", { a = 1 }, { nx = true, ch = true }))
    assert.equal("ZADD k INCR 1 a", sent("ZADD", "k", 1, "a", { incr = true }))
    assert.equal("ZADD k 1 <ch>", sent("ZADD", "k", 1, { ch = true }))
    assert.equal("ZADD k NX 1 a 2 b", sent("ZADD", "k", { a = 1 }, { b = 2 }, { nx = true }))
    assert.equal("XADD k NOMKSTREAM MAXLEN ~ 1000 LIMIT 10 * f v",
      sent("XADD", "k", "*", { f = "v" }, { maxlen = 1000, approx = true, limit = 10, nomkstream = true }))
    assert.equal("XADD k MINID = 5-0 * f v", sent("XADD", "k", "*", "f", "v", { minid = "5-0", exact = true }))
    assert.equal("XTRIM k MAXLEN 5", sent("XTRIM", "k", { maxlen = 5 }))
    assert.equal("XPENDING k g IDLE 5 - + 10", sent("XPENDING", "k", "g", "-", "+", 10, { idle = 5 }))
    assert.equal("FUNCTION LOAD REPLACE code", sent("FUNCTION LOAD", "code", { replace = true }))
    assert.equal("GEOADD k NX 1 2 a", sent("GEOADD", "k", 1, 2, "a", { nx = true }))
  end)

  it("hold the streams to read", function()
    assert.equal("XREAD COUNT 2 BLOCK 100 STREAMS a b 0 5-1",
      sent("XREAD", { streams = { b = "5-1", a = 0 }, count = 2, block = 100 }))
    assert.equal("XREAD STREAMS b a 0 0", sent("XREAD", { streams = { { "b", 0 }, { "a", 0 } } }))
    assert.equal("XREAD COUNT 1 STREAMS a 0", sent("XREAD", "STREAMS", "a", 0, { count = 1 }))
    assert.equal("XREADGROUP GROUP g c NOACK STREAMS s >",
      sent("XREADGROUP", { group = { "g", "c" }, noack = true, streams = { s = ">" } }))
    says("{key = id}", refused("XREAD", { streams = {} }))
  end)

  it("go by the names of their arguments, too", function()
    assert.equal("SET k v EX 10", sent("SET", "k", "v", { seconds = 10 }))
    assert.equal("LPOS k x COUNT 2 MAXLEN 9", sent("LPOS", "k", "x", { num_matches = 2, len = 9 }))
    assert.equal("ZRANGE k 0 1 LIMIT 3 4", sent("ZRANGE", "k", 0, 1, { limit = { offset = 3, count = 4 } }))
    says("twice", refused("SET", "k", "v", { seconds = 10, ex = 9 }))
  end)

  it("take fractions of a second where there is a finer token", function()
    assert.equal("SET k v PX 500", sent("SET", "k", "v", { ex = 0.5 }))
    local list = arguments.expand(commands.GETEX, json, 2, "k", { exat = 1700000000.25 })
    assert.equal("PXAT", list[2])
    assert.equal(1700000000250, list[3])
  end)

  it("that are unknown or wrong are refused, with those that are known", function()
    local message = refused("SET", "k", "v", { exx = 10 })
    says("#3 to 'SET' (unknown option 'exx'; did you mean 'ex'", message)
    says("known are nx, xx, get, ex, px, exat, pxat, keepttl", message)
    says("true or false", refused("SET", "k", "v", { nx = 1 }))
    says("option 'ex' is a boolean", refused("SET", "k", "v", { ex = true }))
    says("a list of 2: {offset, count}", refused("ZRANGE", "k", 0, 1, { limit = 5 }))
    says("options go by name", refused("SET", "k", "v", { "NX" }))
    says("approx", refused("XADD", "k", "*", { f = 1 }, { maxlength = 5 }))
    says("unknown option 'b'", refused("ZADD", "k", { a = 1 }, { b = 2 }))
  end)
end)

describe("rewriting", function()
  local function rewritten(name, ...)
    local other, list = arguments.rewrite(commands[name], select("#", ...), ...)
    if not other then
      return nil
    end
    local words = { other }
    for i = 1, list.n do
      words[#words + 1] = (tostring(list[i]):gsub("%.0$", ""))
    end
    return table.concat(words, " ")
  end

  it("turns fractions of seconds into milliseconds", function()
    assert.equal("PEXPIRE k 500", rewritten("EXPIRE", "k", 0.5))
    assert.equal("PEXPIRE k 290 NX", rewritten("EXPIRE", "k", 0.29, "NX"))
    assert.equal("PEXPIRE k 1", rewritten("EXPIRE", "k", 0.0001))
    local other, list = arguments.rewrite(commands.EXPIREAT, 2, "k", 1700000000.5)
    assert.equal("PEXPIREAT", other)
    assert.equal(1700000000500, list[2])
    assert.equal("PSETEX k 1500 v", rewritten("SETEX", "k", 1.5, "v"))
  end)

  it("leaves everything else alone", function()
    assert.equal(nil, rewritten("EXPIRE", "k", 5))
    assert.equal(nil, rewritten("EXPIRE", "k", 5.0))
    assert.equal(nil, rewritten("EXPIRE", "k", "0.5"))
    assert.equal(nil, rewritten("EXPIRE", "k"))
    assert.equal(nil, rewritten("EXPIRE", "k", 1 / 0))
    assert.equal(nil, rewritten("KEYS", "a*"))
  end)

  it("lists all keys when none are named", function()
    assert.equal("KEYS *", rewritten("KEYS"))
  end)
end)
