-- SPDX-License-Identifier: MIT
-- A table of options beside options that are words, or in another place than the last, is sent as the command wants
-- it or refused at the call. xreadgroup("GROUP", group, consumer, {streams = ...}) had its streams in front.

local arguments = require "redio.command.arguments"
local commands = require "redio.command.table"
local redio = require "redio"
local server = require "spec.support.server"

local unpack = table.unpack or unpack -- luacheck: ignore

local function json(value)
  return type(value) == "table" and "<json>" or tostring(value)
end

local function expand(name, ...)
  local list, other = arguments.expand(commands[name], json, select("#", ...), ...)
  local words = { other or name }
  for i = 1, list.n do
    words[#words + 1] = tostring(list[i])
  end
  return table.concat(words, " ")
end

local function refused(part, name, ...)
  local ok, message = pcall(expand, name, ...)
  assert.is_false(ok, not ok or message)
  assert.truthy(message:find(part, 1, true), message)
end

describe("a table of options", function()
  it("goes in front of the words or behind them, as the command has it", function()
    assert.equal("XREADGROUP GROUP g c STREAMS s >", expand("XREADGROUP", "GROUP", "g", "c", { streams = { s = ">" } }))
    assert.equal("XREADGROUP NOACK GROUP g c COUNT 1 STREAMS s >",
      expand("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, { streams = { s = ">" }, noack = true }))
    assert.equal("XREADGROUP COUNT 1 GROUP g c STREAMS s >",
      expand("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">", { count = 1 }))
    assert.equal("XREAD COUNT 1 STREAMS a b 0 1", expand("XREAD", "COUNT", 1, { streams = { a = 0, b = 1 } }))
    assert.equal("XREAD BLOCK 5 COUNT 1 STREAMS s 0", expand("XREAD", "COUNT", 1, "STREAMS", "s", 0, { block = 5 }))
    assert.equal("MIGRATE h 1  0 10 COPY KEYS a b",
      expand("MIGRATE", "h", 1, "", 0, 10, "KEYS", "a", "b", { copy = true }))
    assert.equal("MIGRATE h 1  0 10 REPLACE COPY KEYS a b",
      expand("MIGRATE", "h", 1, "", 0, 10, "COPY", { keys = { "a", "b" }, replace = true }))
    assert.equal("MODULE LOADEX p CONFIG a 1 ARGS x", expand("MODULE LOADEX", "p", "ARGS", "x", { config = { a = 1 } }))
    assert.equal("SET k v NX EX 5", expand("SET", "k", "v", "NX", { ex = 5 }))
    assert.equal("ZUNION 2 a b AGGREGATE MAX WITHSCORES",
      expand("ZUNION", 2, "a", "b", "AGGREGATE", "MAX", { withscores = true }))
    assert.equal("FUNCTION LOAD REPLACE code", expand("FUNCTION LOAD", "REPLACE", "code"))
    assert.equal("XPENDING k g IDLE 5 - + 10", expand("XPENDING", "k", "g", "IDLE", 5, "-", "+", 10, {}))
  end)

  it("is told from pairs and values that words have pushed back", function()
    assert.equal("ZADD k NX 1 a", expand("ZADD", "k", "NX", { a = 1 }))
    assert.equal("ZADD k CH NX GT 1 a 2 b", expand("ZADD", "k", "NX", "GT", { a = 1 }, 2, "b", { ch = true }))
    assert.equal("ZADD k NX 1 <json>", expand("ZADD", "k", "NX", 1, { 1 }))
    assert.equal("XADD k NOMKSTREAM * f v", expand("XADD", "k", "NOMKSTREAM", "*", { f = "v" }))
    assert.equal("XADD k MAXLEN ~ 5 LIMIT 9 * f v", expand("XADD", "k", "MAXLEN", "~", 5, "LIMIT", 9, "*", { f = "v" }))
    assert.equal("XADD k NOMKSTREAM MAXLEN 5 * f v",
      expand("XADD", "k", "MAXLEN", 5, "*", { f = "v" }, { nomkstream = true }))
    assert.equal("GEOADD k NX 1 2 a", expand("GEOADD", "k", "NX", { a = { 1, 2 } }))
    assert.equal("GEOSEARCH k FROMMEMBER <json> BYRADIUS 1 km ASC",
      expand("GEOSEARCH", "k", "FROMMEMBER", { 1 }, { byradius = { 1, "km" }, asc = true }))
  end)

  it("cannot say again what a word has said", function()
    refused("option 'ex' is there twice, in the table and as argument #3", "SET", "k", "v", "EX", 5, { ex = 10 })
    refused("option 'streams' is there twice", "XREAD", "STREAMS", "s", 0, { streams = { s = 0 } })
    refused("option 'keys' is there twice", "MIGRATE", "h", 1, "", 0, 10, "KEYS", "a", { keys = "b" })
    refused("option 'count' is there twice", "XREAD", "count", 1, { streams = { s = 0 }, count = 2 })
    assert.equal("SORT k GET # GET n_*", expand("SORT", "k", "GET", "#", { get = "n_*" }))
    assert.equal("SET k ex EX 10", expand("SET", "k", "ex", { ex = 10 }))
    assert.equal("SORT k BY limit LIMIT 0 1", expand("SORT", "k", "BY", "limit", { limit = { 0, 1 } }))
  end)

  it("in any place but the last is refused, with where it belongs", function()
    refused("#1 to 'XREAD' (a table cannot stand here; options are words, or a table behind all other arguments, as "
      .. "{count = ...})", "XREAD", { count = 1 }, "STREAMS", "s", 0)
    refused("behind all other arguments", "SET", "k", { ex = 10 }, "v")
    refused("behind all other arguments", "SET", "k", "v", { ex = 10 }, "NX")
    refused("behind all other arguments", "ZADD", "k", { nx = true }, 1, "a")
    refused("behind all of it", "ZADD", "k", 1, { nx = true }, "a")
    refused("behind all other arguments", "ZRANGE", "k", { withscores = true }, 0, -1)
    refused("behind all other arguments", "XADD", "k", { maxlen = 5 }, "*", { f = 1 })
    refused("a boolean cannot stand here", "EXPIRE", "k", 5, true)
    assert.equal("SET k <json>", expand("SET", "k", { ex = 10 }))
    assert.equal("SET k <json> NX", expand("SET", "k", { ex = 10 }, { nx = true }))
    assert.equal("SET k <json> NX", expand("SET", "k", { ex = 10 }, "NX"))
    assert.equal("GEORADIUSBYMEMBER k <json> 5 km", expand("GEORADIUSBYMEMBER", "k", { count = 1 }, 5, "km"))
  end)

  -- In a record's place a record is taken for one, and among values for JSON: the fields of an entry, the members of
  -- a set.
  local fields = { XADD = 3, ZADD = 3 }

  it("is so for every command that has options", function()
    local names = {}
    for name, entry in pairs(commands) do
      if entry.options then
        names[#names + 1] = name
      end
    end
    for _, name in ipairs(names) do
      local entry = commands[name]
      local key, value = entry.options[1]:match "^(%w+)[~+]?(=?)"
      local table_of_options = { [key:lower()] = value == "" and true or 1 }
      local plain = {}
      for i = 1, math.max(entry.options.after, 1) + 2 do
        plain[i] = "a" .. i
      end
      if entry.args and entry.args.numkeys then
        plain[entry.args.numkeys] = 1
      end
      for place = 1, #plain do
        local given = { unpack(plain) }
        table.insert(given, place, table_of_options)
        local ok, sent = pcall(expand, name, unpack(given, 1, #given))
        assert.is_true(not ok or place >= (fields[name] or 99), name .. " at " .. place .. ": " .. tostring(sent))
      end
    end
    assert.is_true(#names > 60)
  end)
end)

describe("a key", function()
  it("is never JSON", function()
    refused("#1 to 'GET' (a key is a string or a number, not a table)", "GET", { "a", "b" })
    refused("#1 to 'SET' (a key is a string or a number, not a table)", "SET", { id = 7 }, "x")
    refused("not a boolean", "DEL", true)
    refused("not a boolean", "DEL", "a", false)
    refused("not a table", "RENAME", "a", {})
    refused("#3 to 'ZUNION'", "ZUNION", 2, "a", { "b" })
    refused("#3 to 'EVAL'", "EVAL", "return 1", 1, { id = 7 })
    refused("#3 to 'BZMPOP'", "BZMPOP", 0, 1, { 1 }, "MIN")
    refused("not a table", "BITOP", "AND", { "to" }, "a")
    refused("not a boolean", "MSET", "a", 1, true, 2)
    assert.equal("EVAL s 2 a b <json>", expand("EVAL", "s", 2, { "a", "b" }, { id = 7 }))
    assert.equal("MSET a <json>", expand("MSET", "a", { 1 }))
    assert.equal("BLPOP a b 5", expand("BLPOP", { "a", "b" }, 5))
  end)
end)

describe("with a server", function()
  local redis = redio.Redis(server.shared().url)

  before_each(function()
    redis():flushall():await()
  end)

  teardown(function()
    redis():flushall():await()
    redis:close()
  end)

  it("streams are read by words and a table", function()
    redis():xadd("s", "1-1", { f = "v" }):xgroup_create("s", "g", 0):await()
    local read = redis():xreadgroup("GROUP", "g", "c", { streams = { s = ">" } }):await()
    assert.equal("1-1", read.s[1][1])
    assert.equal("1-1", redis():xread("COUNT", 1, { streams = { s = 0 } }):await().s[1][1])
  end)

  it("misuse is told at the caller's line", function()
    local db = redis()
    local function misuse()
      db:xread({ count = 1 }, "STREAMS", "s", 0)
      return nil
    end
    local ok, message = pcall(misuse)
    assert.is_false(ok)
    local line = debug.getinfo(misuse, "S").linedefined + 1
    assert.matches("odd_places_spec.lua:" .. line .. ": bad argument #1 to 'XREAD' %(a table cannot", message)
    assert.equal(0, db:queued())
  end)

  -- "block" is a group here, and its consumer is no number: what really blocks was not found.
  it("the word that blocks is found where it is one", function()
    redis():xadd("s", "1-1", { f = "v" }):xgroup_create("s", "block", "$"):await()
    local entry = commands.XREADGROUP
    local list = { "GROUP", "block", "c", "BLOCK", 1500, "STREAMS", "s", ">" }
    assert.equal(1.5, arguments.timeout(entry, #list, list))
    assert.is_nil(arguments.timeout(entry, 6, { "GROUP", "block", "5000", "STREAMS", "block", ">" }))
    assert.equal(0.005, arguments.timeout(entry, 7, { "SOMETHING", "GROUP", "g", "c", "block", "5", "STREAMS" }))
    local impatient = redio.Redis(server.shared().url, { timeout = 0.1 })
    assert.is_nil((impatient():xreadgroup("GROUP", "block", "c", "BLOCK", 300, "STREAMS", "s", ">"):await()))
    impatient:close()
  end)
end)
