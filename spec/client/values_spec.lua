-- SPDX-License-Identifier: MIT
-- Arguments and results, under RESP2 and RESP3. Contract: docs, "Values".

local redio = require "redio"
local cjson = require "cjson"
local server = require "spec.support.server"
local check = require "spec.support.check"

local PREFIX = "spec:values:"
local HAS_INTEGERS = math.type ~= nil

local function key(name)
  return PREFIX .. name
end

-- An integer from its digits, where Lua has integers of that size.
local function int(digits)
  return HAS_INTEGERS and math.tointeger(tonumber(digits)) or nil
end

local INTEGERS = {
  "0", "1", "-1", "7", "-10", "255", "256", "65535", "-65536", "2147483647", "-2147483648", "4294967295",
  "4294967296", "999999999999", "-1000000000000", "99999999999999", "100000000000000", "1700000000123456",
  "9007199254740991", "-9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993",
  "1234567890123456789", "9223372036854775806", "9223372036854775807", "-9223372036854775807",
  "-9223372036854775808",
}

local FLOATS = {
  0.5, -0.5, 0.1, 0.2, 0.3, 0.1 + 0.2, 1 / 3, -2 / 3, 3.14, 1.5e3 + 0.25, 123456.789, -123456.789, 1e-5, 1e-7,
  2.5e-10, 1.7976931348623157e308, -1.7976931348623157e308, 2.2250738585072014e-308, 5e-324, -5e-324, 1e16, 1e17,
  1e21, 1e22, 1.5e300, 2 ^ 53 + 2, 2 ^ 63, -2 ^ 63, 2 ^ 64, 2 ^ 100, math.pi, math.sqrt(2), 4.35, 0.07, 1e23,
  9007199254740991.5 / 2,
}

-- Significant digits of a number's text.
local function digits(text)
  local mantissa = text:gsub("[eE].*", ""):gsub("[%-%.]", "")
  return #mantissa:gsub("^0+", ""):gsub("0+$", "")
end

local function shortest(number)
  for precision = 1, 17 do
    local text = ("%." .. precision .. "g"):format(number)
    if tonumber(text) == number then
      return digits(text)
    end
  end
end

-- RESP3 has forms for booleans, doubles and maps; a script can answer with them.
local SCRIPT3 = "redis.setresp(3) return "

for _, protocol in ipairs { 2, 3 } do
  describe("Values under RESP" .. protocol, function()
    local redis

    setup(function()
      redis = redio.Redis(server.shared().url, { protocol = protocol })
      check.wipe(redis, PREFIX)
    end)

    teardown(function()
      check.wipe(redis, PREFIX)
      redis:close()
    end)

    local function echo(value)
      return (redis():echo(value):await())
    end

    describe("to Redis:", function()
      it("a string is its bytes, all 256 of them", function()
        local all = {}
        for byte = 0, 255 do
          all[#all + 1] = string.char(byte)
          assert.are.equal(string.char(byte), echo(string.char(byte)))
        end
        all = table.concat(all)
        assert.are.equal(all, echo(all))
        assert.are.equal("", echo "")
        redis():set(key(all), all):await()
        assert.are.equal(all, (redis():get(key(all)):await()))
      end)

      it("bytes that look like RESP stay bytes", function()
        for _, text in ipairs { "\r\n", "*1\r\n$4\r\nPING\r\n", "+OK\r\n", "$-1\r\n", "\0\r\n:1\r\n", "a b  c" } do
          assert.are.equal(text, echo(text))
        end
      end)

      it("an integer is decimal and exact", function()
        for _, text in ipairs(INTEGERS) do
          local number = int(text)
          if number then
            assert.are.equal(text, echo(number))
          elseif math.abs(tonumber(text)) < 2 ^ 53 then
            assert.are.equal(text, echo(tonumber(text)))
          end
        end
      end)

      it("a float is the shortest form that reads back the same", function()
        for _, number in ipairs(FLOATS) do
          local text = echo(number)
          assert.are.equal(number, tonumber(text) + 0.0)
          assert.are.equal(shortest(number), digits(text), text)
        end
      end)

      it("an integral float within 2^53 is an integer", function()
        for _, number in ipairs { 1.0, -3.0, 1e3, 1e15, 123456789012345.0, 2.0 ^ 53, -2.0 ^ 53, 2.0 ^ 52 + 1 } do
          assert.are.equal(("%.0f"):format(number), echo(number))
        end
      end)

      it("infinities are inf and -inf, NaN raises", function()
        assert.are.same({ "inf", "-inf" }, { echo(math.huge), echo(-math.huge) })
        local db = redis()
        assert.matches("ECHO", check.misuse(function()
          db:echo(0 / 0)
        end):upper())
        assert.are.equal(0, db:queued())
      end)

      it("numbers do not depend on the locale", function()
        local before = os.setlocale(nil, "numeric")
        local comma = os.setlocale("de_DE.UTF-8", "numeric") or os.setlocale("fr_FR.UTF-8", "numeric")
        if not comma then
          return pending("a locale with a decimal comma")
        end
        local text = echo(0.5)
        local back = redis():zadd(key "locale", 0.25, "m"):zscore(key "locale", "m"):replies()[2]
        os.setlocale(before, "numeric")
        assert.are.equal("0.5", text)
        assert.are.equal(0.25, back)
      end)

      it("booleans and tables are JSON", function()
        assert.are.same({ "true", "false" }, { echo(true), echo(false) })
        assert.are.same({ foo = 123, bar = { 1, 2, 3 } }, cjson.decode(echo { foo = 123, bar = { 1, 2, 3 } }))
        assert.are.equal('["a",null]', echo { "a", redio.null })
      end)

      it("options.json brings another JSON", function()
        local json = {
          encode = function(value)
            return "<" .. type(value) .. ">"
          end,
          decode = function(text)
            return { text = text }
          end,
        }
        local other = redio.Redis(server.shared().url, { protocol = protocol, json = json })
        assert.are.equal("<table>", (other():echo({}):await()))
        assert.are.same({ text = "{}" }, (other():echo("{}"):autodecode():await()))
        other:close()
      end)

      it("nil, functions, threads and userdata raise, naming command and position, and queue nothing", function()
        local db = redis()
        local wrong = { print, coroutine.create(print), io.stdout }
        for _, value in ipairs(wrong) do
          local text = check.misuse(function()
            db:set(key "a", value)
          end)
          assert.matches("SET", text:upper())
          assert.matches("2", text)
        end
        local text = check.misuse(function()
          db:get(nil)
        end)
        assert.matches("GET", text:upper())
        assert.matches("1", text)
        check.misuse(function()
          db:set(key "a", nil)
        end)
        check.misuse(function()
          db:call("SET", key "a", nil)
        end)
        assert.are.equal(0, db:queued())
      end)
    end)

    describe("from Redis:", function()
      it("integers are integers, exact to the ends of 64 bits", function()
        for _, text in ipairs(INTEGERS) do
          redis():set(key "n", text):await()
          local value = redis():incrby(key "n", 0):await()
          if HAS_INTEGERS then
            assert.are.equal("integer", math.type(value))
            assert.are.equal(text, tostring(value))
          elseif math.abs(tonumber(text)) < 2 ^ 53 then
            assert.are.equal(tonumber(text), value)
          elseif math.abs(tonumber(text)) > 2 ^ 53 then
            assert.are.equal(text, value)
          end
        end
      end)

      it("scores are floats", function()
        for _, number in ipairs { 1, 0.1, -2.5, 1e300, math.huge, -math.huge, 1 / 3 } do
          redis():zadd(key "z", number, "m"):await()
          local score = redis():zscore(key "z", "m"):await()
          assert.are.equal("number", type(score))
          assert.are.equal(number + 0.0, score)
          if HAS_INTEGERS then
            assert.are.equal("float", math.type(score))
          end
        end
      end)

      it("incrbyfloat and hincrbyfloat give what they wrote", function()
        redis():del(key "f", key "h"):await()
        assert.are.equal(10.5, tonumber((redis():incrbyfloat(key "f", 10.5):await())))
        assert.are.equal(0.1, tonumber((redis():hincrbyfloat(key "h", "f", 0.1):await())))
      end)

      it("lists hold false for null, and keep their length", function()
        local value = redis():eval("return {1, false, {'a', false}, {}}", 0):await()
        assert.are.same({ 1, false, { "a", false }, {} }, value)
        assert.are.equal(4, #value)
      end)

      it("errors inside a list are error objects in their place", function()
        redis():set(key "s", "text"):await()
        local replies = redis():multi():incr(key "s"):get(key "s"):exec():replies()
        assert.is_true(redio.errors.is(replies[1][1], "ReplyError"))
        assert.are.equal("text", replies[1][2])
      end)

      it("a bulk string is bytes, an empty one too", function()
        redis():set(key "b", "\0\255\r\n"):set(key "e", ""):await()
        assert.are.same({ "\0\255\r\n", "" }, { redis():get(key "b"):get(key "e"):await() })
      end)

      if protocol == 3 then
        it("doubles are floats, big numbers decimal strings, booleans booleans", function()
          local double = redis():eval(SCRIPT3 .. "{double = 3.5}", 0):await()
          assert.are.equal(3.5, double)
          assert.are.equal(
            "1234567999999999999999999999999999999",
            (redis():eval(SCRIPT3 .. "{big_number = '1234567999999999999999999999999999999'}", 0):await())
          )
          assert.are.same({ true, false }, (redis():eval(SCRIPT3 .. "{true, false}", 0):await()))
        end)

        it("maps are tables by key, sets are lists", function()
          assert.are.same({ a = 1, b = "two" }, (redis():eval(SCRIPT3 .. "{map = {a = 1, b = 'two'}}", 0):await()))
          assert.are.same({ "m" }, (redis():eval(SCRIPT3 .. "{set = {m = true}}", 0):await()))
        end)
      end

      it("what is a table by field under RESP3 is one under RESP2", function()
        redis():hset(key "m", { a = 1, b = 2 }):await()
        assert.are.same({ a = "1", b = "2" }, (redis():hgetall(key "m"):await()))
        assert.are.equal("noeviction", (redis():config_get("maxmemory-policy"):await())["maxmemory-policy"])
        redis():xgroup_create(key "x", "g", "$", "MKSTREAM"):await()
        assert.are.equal("g", (redis():xinfo_groups(key "x"):await())[1].name)
      end)

      it("options.null sets another value for null, as a result and inside a table", function()
        local other = redio.Redis(server.shared().url, { protocol = protocol, null = redio.null })
        assert.are.equal(redio.null, (other():get(key "no"):await()))
        assert.are.same({ redio.null }, (other():mget(key "no"):await()))
        other:close()
      end)
    end)

    describe("in decoding mode", function()
      local HIGH = "caf\195\169 \255"
      local STR = "caf\195\169 \237\179\191"

      setup(function()
        local db = redis()
        db:set(key "bytes", HIGH):set(key "json", '{"foo": 123, "bar": [1, 2, 3]}'):set(key "number", "10")
        db:rpush(key "list", "1", HIGH, "[true]"):hset(key "7", { ["1"] = "2", a = "1.5" })
        db:zadd(key "zset", 1, "5"):xadd(key "stream", "1-1", "9", "8"):await()
      end)

      it("none, values are bytes", function()
        assert.are.same({ HIGH, "10" }, { redis():get(key "bytes"):get(key "number"):await() })
      end)

      it("strdecode, invalid bytes are surrogates", function()
        assert.are.same({ STR, "10" }, { redis():get(key "bytes"):get(key "number"):strdecode():await() })
        assert.are.same({ "1", STR, "[true]" }, (redis():lrange(key "list", 0, -1):strdecode():await()))
      end)

      it("autodecode, JSON and numbers are values, all else strings", function()
        local db = redis()
        assert.are.same(
          { { foo = 123, bar = { 1, 2, 3 } }, 10 },
          { db:get(key "json"):get(key "number"):autodecode():await() }
        )
        local function auto(text)
          return (db:echo(text):autodecode():await())
        end
        assert.are.equal(-1.5, auto "-1.5")
        assert.are.equal(100000, auto "1e5")
        assert.are.same({ true, false }, { auto "true", auto "false" })
        assert.are.equal(redio.null, auto "null")
        assert.are.equal("text", auto '"text"')
        for _, text in ipairs { "", "hello", "tru", '{"a":1', "[1,2", "1 2", "1.2.3", "--1", '{"a":1} x', "\255" } do
          assert.are.equal(text, auto(text))
        end
        if HAS_INTEGERS then
          assert.are.equal("integer", math.type(auto "10"))
          assert.are.equal(int "9007199254740993", auto "9007199254740993")
          assert.are.equal(int "-9223372036854775808", auto "-9223372036854775808")
        end
      end)

      it("autodecode, numbers that were sent come back the same", function()
        for _, number in ipairs(FLOATS) do
          assert.are.equal(number, (redis():echo(number):autodecode():await()))
        end
      end)

      it("decoder(fn), fn makes the values", function()
        local function bracket(text)
          return "<" .. text .. ">"
        end
        assert.are.equal("<10>", (redis():get(key "number"):decoder(bracket):await()))
        assert.are.same({ "<1>", "<" .. HIGH .. ">", "<[true]>" },
          (redis():lrange(key "list", 0, -1):decoder(bracket):await()))
        assert.are.same({ ["1"] = "<2>", a = "<1.5>" }, (redis():hgetall(key "7"):decoder(bracket):await()))
      end)

      it("decoder(fn), an error of fn is raised and harms nothing", function()
        local db = redis()
        local ok, err = pcall(function()
          db:get(key "number"):decoder(function()
            error("cannot read this")
          end):await()
        end)
        assert.is_false(ok)
        assert.matches("cannot read this", tostring(err))
        assert.are.equal("10", (db:get(key "number"):await()))
      end)

      it("any, it is for the next await only", function()
        local db = redis()
        assert.are.equal(10, (db:get(key "number"):autodecode():await()))
        assert.are.equal("10", (db:get(key "number"):await()))
      end)

      it("any, values are touched at every depth and field names are not", function()
        assert.are.same({ 1, HIGH, { true } }, (redis():lrange(key "list", 0, -1):autodecode():await()))
        assert.are.same({ ["1"] = 2, a = 1.5 }, (redis():hgetall(key "7"):autodecode():await()))
        assert.are.same({ 2, 1.5 }, (redis():hget(key "7", { "1", "a" }):autodecode():await()))
        assert.are.same({ 10, false }, (redis():mget(key "number", key "no"):autodecode():await()))
        local names = redis():hkeys(key "7"):autodecode():await()
        table.sort(names)
        assert.are.same({ "1", "a" }, names)
      end)

      it("any, keys and integers and statuses are not touched", function()
        redis():set("123454321", "1"):await()
        assert.are.same({ "123454321" }, (redis():keys("12345432?"):autodecode():await()))
        redis():del("123454321"):await()
        assert.are.same({ 3, "list" }, { redis():llen(key "list"):type(key "list"):autodecode():await() })
        redis():del("77"):rpush("77", "5"):await()
        assert.are.same({ "77", 5 }, (redis():blpop("77", 1):autodecode():await()))
      end)

      it("any, it holds inside a transaction", function()
        local list = redis():multi():get(key "number"):lrange(key "list", 0, 0):exec():autodecode():await()
        assert.are.same({ 10, { 1 } }, list)
      end)

      it("chosen by options.decode, it holds for the whole client", function()
        for mode, expected in pairs { none = "10", str = "10", auto = 10 } do
          local other = redio.Redis(server.shared().url, { protocol = protocol, decode = mode })
          assert.are.equal(expected, (other():get(key "number"):await()))
          assert.are.equal(expected, (other():get(key "number"):await()))
          other:close()
        end
        local other = redio.Redis(server.shared().url, { protocol = protocol, decode = string.reverse })
        assert.are.equal("01", (other():get(key "number"):await()))
        other:close()
      end)

      it("strdecode, every byte survives strencode", function()
        local function both(bytes)
          local text = redis():echo(bytes):strdecode():await()
          assert.are.equal(bytes, redio.strencode(text))
          return text
        end
        for byte = 0, 255 do
          local text = both(string.char(byte))
          if byte < 128 then
            assert.are.equal(string.char(byte), text)
          else -- the surrogate U+DC00 + byte, three bytes of lax UTF-8
            assert.are.equal(string.char(0xED, 0xB0 + (byte - 128 >= 64 and 3 or 2), 0x80 + byte % 64), text)
          end
          both("a" .. string.char(byte) .. "z")
        end
      end)

      it("strdecode, valid UTF-8 stays and all else becomes surrogates, byte by byte", function()
        local function decode(bytes)
          local text = redis():echo(bytes):strdecode():await()
          assert.are.equal(bytes, redio.strencode(text))
          return text
        end
        local good = { "", "abc", "\0", "\195\169", "\226\130\172", "\240\159\152\128", "\244\143\191\191" }
        for _, valid in ipairs(good) do
          assert.are.equal(valid, decode(valid))
        end
        local invalid = {
          "\192\128", "\224\128\128", "\237\160\128", "\237\178\128", "\244\144\128\128", "\245\128\128\128",
          "\226\130", "\240\159\152", "\128", "\248\136\128\128\128", "\195\195",
        }
        for _, bytes in ipairs(invalid) do
          assert.are.equal(3 * #bytes, #decode(bytes))
        end
        assert.are.equal(3 + 2, #decode "\195\195\169")
        if utf8 then
          assert.are.equal(0xDCFF, utf8.codepoint(decode "\255", 1, 1, true))
        end
      end)

      it("strdecode, random bytes survive strencode", function()
        local seed = os.time()
        math.randomseed(seed)
        for _ = 1, 200 do
          local bytes = {}
          for i = 1, math.random(0, 40) do
            bytes[i] = string.char(math.random(0, 255))
          end
          bytes = table.concat(bytes)
          local text = redis():echo(bytes):strdecode():await()
          assert.are.equal(bytes, redio.strencode(text), "seed " .. seed)
        end
      end)
    end)
  end)
end

describe("JSON null", function()
  it("is redio.null, cjson.null", function()
    assert.are.equal(cjson.null, redio.null)
    assert.are.equal("userdata", type(redio.null))
  end)
end)

describe("The two protocols", function()
  it("give the same Lua values", function()
    local values = {}
    check.protocols(function(protocol)
      local redis = redio.Redis(server.shared().url, { protocol = protocol })
      local db = redis()
      db:zadd(key "both:z", 1, "a", 2.5, "b"):sadd(key "both:s", "m"):hset(key "both:h", "f", "v")
      db:xadd(key "both:x", "5-" .. protocol, "f", "v")
      db:geoadd(key "both:g", 13.361389, 38.115556, "Palermo"):await()
      values[protocol] = db:zrange(key "both:z", 0, -1, "WITHSCORES"):zpopmin(key "both:no"):zscore(key "both:z", "b")
        :zmscore(key "both:z", "a", "no"):smembers(key "both:s"):hgetall(key "both:h"):hrandfield(key "both:h", 1)
        :hrandfield(key "both:h", 1, "WITHVALUES"):xrange(key "both:x", "5-2", "5-2")
        :xread("COUNT", 1, "STREAMS", key "both:x", "0"):zrank(key "both:z", "no"):geopos(key "both:g", "Palermo", "no")
        :config_get("maxmemory"):zincrby(key "both:z", 0, "a"):zrandmember(key "both:z", 1)
        :object_encoding(key "both:z")
        :replies()
      table.remove(values[protocol], 15)
      redis:close()
    end)
    assert.are.same(values[2], values[3])
    local redis = redio.Redis(server.shared().url)
    check.wipe(redis, PREFIX)
    redis:close()
  end)
end)
