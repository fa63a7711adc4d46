-- SPDX-License-Identifier: MIT
-- A fast path gives what its slow path gives, at random. docs/design.md lists the pairs.

local core = require "redio.core"
local random_numbers = require "spec.support.random"

local ROUNDS = 1000

-- Comparing -------------------------------------------------------------------------------------------------

local same

local function is_same_table(a, b)
  for key, value in pairs(a) do
    if not same(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return getmetatable(a) == getmetatable(b)
end

function same(a, b)
  if type(a) == "table" and type(b) == "table" then
    return is_same_table(a, b)
  elseif type(a) == "number" and type(b) == "number" and a ~= a then
    return b ~= b
  end
  return a == b and (not math.type or math.type(a) == math.type(b))
end

local function show(value)
  if type(value) == "string" then
    return ("%q"):format(#value > 200 and value:sub(1, 200) .. "..." or value)
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local items = {}
  for key, item in pairs(value) do
    items[#items + 1] = show(key) .. "=" .. show(item)
  end
  table.sort(items)
  return "{" .. table.concat(items, ", ") .. "}"
end

local function assert_same(expected, got, of)
  if not same(expected, got) then
    error(("%s\n  slow: %s\n  fast: %s"):format(of, show(expected), show(got)), 0)
  end
end

-- A connection that is ready --------------------------------------------------------------------------------

local function new_connection()
  local connection = core.connection()
  for _, event in ipairs { "connect", "connected", "established" } do
    connection:event(event)
  end
  return connection
end

-- Submits the pipeline and answers it with `bytes`; its output, and the values that the waiter is resumed with.
local function answered(pipeline, bytes, mode)
  local connection, slots, lists, results = new_connection(), {}, { {}, {} }, nil
  coroutine.wrap(function()
    assert(connection:submit(pipeline, slots, mode, lists) ~= nil)
    results = { coroutine.yield() }
  end)()
  local output = connection:output()
  connection:feed(bytes)
  connection:wake(slots)
  return output, results, lists
end

-- Encoding: encode (queue_strings, redio_pipeline_plain) beside encode_list (open, arg, close) ---------------------

local LENGTHS = { 0, 1, 2, 9, 10, 11, 99, 100, 101, 999, 1000, 16383, 16384, 20000 }

local function some_argument(random)
  if random(6) == 1 then
    return random { "X", "x" }
  elseif random(4) == 1 then
    return random { 0, 7, -12, 123456789, 0.5, -1e300, 1e21 }
  end
  return ("x"):rep(random(3) == 1 and random(LENGTHS) or random(12) - 1)
end

local function some_arguments(random)
  local list = {}
  for i = 1, random(8) - 1 do
    list[i] = some_argument(random)
  end
  return list
end

local plain_commands = {
  { name = "GET", readonly = true },
  { name = "CONFIG GET", reply = "facts" },
  { name = "SET", reply = "nothing" },
  { name = "PUBLISH" },
  { name = "BLPOP", blocking = true },
  { name = "SELECT", state = true, sets_database = true, reply = "nothing" },
  { name = "XADD", variants = { from = 2, reply = "map", shaped = 1, argc = 3, { token = "X", reply = "pairs" } } },
}

local compiled
local function command_for(description)
  compiled = compiled or {}
  compiled[description.name] = compiled[description.name] or core.command(description)
  return compiled[description.name]
end

local MULTI = { name = "MULTI", multi = true, reply = "nothing" }
local EXEC = { name = "EXEC", exec = true, reply = "exec" }

-- Commands, some of them in transactions: a list of {description, arguments}.
local function some_chain(random)
  local chain, in_multi = {}, false
  for _ = 1, random(12) do
    if random(6) == 1 then
      chain[#chain + 1] = { in_multi and EXEC or MULTI, {} }
      in_multi = not in_multi
    else
      chain[#chain + 1] = { random(plain_commands), some_arguments(random) }
    end
  end
  if in_multi then
    chain[#chain + 1] = { EXEC, {} }
  end
  return chain
end

local unpack = table.unpack or unpack

local function encode(pipeline, command, arguments)
  return core.encode(pipeline, command, unpack(arguments))
end

local function encode_list(pipeline, command, arguments)
  return core.encode_list(pipeline, command, arguments, #arguments)
end

local function facts_of(pipeline)
  return { count = { pipeline:count() }, flags = { pipeline:flags() }, session = { pipeline:session() },
    leftovers = { pipeline:leftovers() } }
end

-- A reply to each command: the same for both, so that the expected replies and their shapes show in the results.
local function replies_to(chain)
  local bytes, queued = {}, nil
  for i, item in ipairs(chain) do
    local name, reply = item[1].name, ("*4\r\n$1\r\na\r\n:%d\r\n$1\r\nb\r\n$1\r\nc\r\n"):format(i)
    if name == "EXEC" then
      bytes[#bytes + 1] = ("*%d\r\n%s"):format(#queued, table.concat(queued))
      queued = nil
    elseif name == "MULTI" then
      bytes[#bytes + 1], queued = "+OK\r\n", {}
    elseif queued then
      bytes[#bytes + 1], queued[#queued + 1] = "+QUEUED\r\n", reply
    else
      bytes[#bytes + 1] = item[1].reply == "nothing" and "+OK\r\n" or reply
    end
  end
  return table.concat(bytes)
end

local function queue_all(chain, queue)
  local pipeline = core.pipeline(true)
  for _, item in ipairs(chain) do
    assert(queue(pipeline, command_for(item[1]), item[2]))
  end
  return pipeline
end

-- Decoding: replies written in two ways ---------------------------------------------------------------------------
--
-- The short way has nothing but what the fast paths take. The long way has an attribute before a value, chunks for a
-- string, or a stream for an aggregate, which none of them takes: it is the same value.

local ATTRIBUTE = "|1\r\n+ttl\r\n:1\r\n"

local function chunks_of(random, text)
  local out, at = { "$?\r\n" }, 1
  while at <= #text do
    local n = math.min(random(7), #text - at + 1)
    out[#out + 1] = (";%d\r\n%s\r\n"):format(n, text:sub(at, at + n - 1))
    at = at + n
  end
  out[#out + 1] = ";0\r\n"
  return table.concat(out)
end

local numbers = { "7", "-1e3", "12345678", "0.12500000", "-123456.75", "1234567.5" }
local fields = { "modules", "peak.percentage", "running_script", "consumers", "age-seconds" } -- each with a shape

local function some_text(random)
  local choice = random(4)
  if choice <= 2 then
    return random(choice == 1 and numbers or fields)
  end
  local n = random(3) == 1 and random { 0, 9, 10, 99, 100, 1000 } or random(5) - 1
  return ("\r\nk\0$1\r\n"):rep(n):sub(1, n)
end

local lines = {
  ":0", ":-7", ":9007199254740993", "+", "+OK", "+QUEUE", "+a line", "+" .. ("long"):rep(20), "_", "#t", "#f", ",1.5",
  ",nan", ",-inf", "(123456789012345678901234567890", "=7\r\ntxt:abc", "-ERR no", "!5\r\nE bad", "$-1", "*-1",
}

-- Each returns the value in the short and in the long way.

local function some_bulk(random, text)
  text = text or some_text(random)
  local short = ("$%d\r\n%s\r\n"):format(#text, text)
  -- (as a double counts what comes in one piece)
  local long = tonumber(text) and short or random { short, chunks_of(random, text), short }
  return short, long == short and ATTRIBUTE .. short or long
end

local function some_line(random)
  local line = random(lines) .. "\r\n"
  return line, random(2) == 1 and ATTRIBUTE .. line or line
end

local some_value

-- An element: of facts a field and a number by turns.
local function some_element(random, depth, may_stream, of, i)
  if of == "facts" then
    return some_bulk(random, random(i % 2 == 1 and fields or numbers))
  elseif of == "texts" then
    return some_bulk(random)
  end
  return some_value(random, depth, may_stream)
end

local function some_aggregate(random, depth, may_stream)
  local kind, of = random { "*", "*", "%", "%", "~" }, random { "facts", "texts", "values", "values" }
  local count, short, long = random(6) - 1, {}, {}
  for i = 1, kind == "%" and 2 * count or count do
    short[i], long[i] = some_element(random, depth - 1, may_stream, of, i)
  end
  local head, is_streamed = ("%s%d\r\n"):format(kind, count), may_stream and random(2) == 1
  return head .. table.concat(short),
    (is_streamed and kind .. "?\r\n" or head) .. table.concat(long) .. (is_streamed and ".\r\n" or "")
end

function some_value(random, depth, may_stream)
  local choice = random(6)
  if depth > 0 and choice <= 3 then
    return some_aggregate(random, depth, may_stream)
  end
  return (choice <= 5 and some_bulk or some_line)(random)
end

local function feed_in_pieces(random, decoder, bytes)
  local at = 1
  while at <= #bytes do
    local n = random(4) == 1 and #bytes or random(40)
    decoder:feed(bytes:sub(at, at + n - 1))
    at = at + n
    if at <= #bytes then
      decoder:next()
    end
  end
end

-- Shapes that tell no stream from an array, and those that take pairs out of an array only.
local streamed_shapes = { "value", "name", "true", "boolean", "double", "seconds", "names", "doubles", "booleans" }
local counted_shapes = {
  "map", "facts", "pairs", "scored", "member", "records", "streams", "fields_found", "hello", "memory", "refusals",
  "running",
}

local function decoded(bytes, shape, mode)
  local pipeline = core.pipeline(true)
  core.encode(pipeline, core.command { name = "CASE", reply = shape })
  local _, results, lists = answered(pipeline, bytes, mode)
  return results, lists
end

-- The results of one command, and the errors among them.
local function values_of(results)
  if results[1] == core.FAILED then
    return { values = results[3], errors = { unpack(results[2]) } }
  end
  return { values = { unpack(results, 2, 2) }, errors = {} }
end

describe("A fast path agrees with the slow path", function()
  local random

  setup(function()
    random = random_numbers.new "fast paths"
  end)

  it("in encoding commands", function()
    for _ = 1, ROUNDS do
      local chain = some_chain(random)
      local fast, slow = queue_all(chain, encode), queue_all(chain, encode_list)
      assert_same(facts_of(slow), facts_of(fast), "the pipeline")
      local bytes = replies_to(chain)
      local output, results = answered(slow, bytes, core.OWN)
      local fast_output, fast_results = answered(fast, bytes, core.OWN)
      assert_same(output, fast_output, "the output")
      assert_same(results, fast_results, "the results")
    end
  end)

  it("in refusing arguments", function()
    local GET = core.command { name = "GET" }
    for _ = 1, ROUNDS do
      local arguments = some_arguments(random)
      arguments[random(#arguments + 1)] = random { {}, true, 0 / 0, "" }
      local fast, slow = core.pipeline(true), core.pipeline(true)
      assert.equal((encode_list(slow, GET, arguments)), (encode(fast, GET, arguments)))
      assert.equal(slow:count(), fast:count())
    end
  end)

  it("in scanning replies", function()
    for _ = 1, ROUNDS do
      local fast, slow = core.decoder(), core.decoder()
      local short, long = some_value(random, 3, true)
      fast:feed(short)
      feed_in_pieces(random, slow, long)
      local ok, value = slow:next()
      local fast_ok, fast_value = fast:next()
      assert.same({ true, true }, { ok, fast_ok })
      assert_same(value, fast_value, short)
    end
  end)

  it("in the limit for strings", function()
    for length = 0, 20 do
      local bytes = ("$%d\r\n%s\r\n"):format(length, ("x"):rep(length))
      for _, around in ipairs { "%s", "*2\r\n%s:1\r\n" } do
        local fast, slow = core.decoder { max_bulk = 10 }, core.decoder { max_bulk = 10 }
        fast:feed(around:format(bytes))
        slow:feed(around:format(ATTRIBUTE .. bytes))
        local ok, value = slow:next()
        local fast_ok, fast_value = fast:next()
        assert.equal(length <= 10 or nil, ok)
        assert_same({ ok, value }, { fast_ok, fast_value }, around)
      end
    end
  end)

  it("in malformed strings", function()
    for _, bytes in ipairs {
      "$01\r\nx\r\n", "$00\r\n\r\n", "$\r\nx\r\n", "$-2\r\nx\r\n", "$1x\nx\r\n", "$1\rxx\r\n", "$1\r\nxx\r\n",
      "$1\r\nxx\n", "$1\r\nx\r\r\n", "$0\r\nx\r\n", "$1 \r\nx\r\n", "$+1\r\nx\r\n", "$99999999999999999999\r\nx\r\n",
    } do
      for _, around in ipairs { "%s", "*2\r\n%s:1\r\n" } do
        local fast, slow = core.decoder(), core.decoder()
        fast:feed(around:format(bytes) .. ("x"):rep(20))
        slow:feed(around:format(ATTRIBUTE .. bytes) .. ("x"):rep(20))
        local ok, why = slow:next()
        local fast_ok, fast_why = fast:next()
        assert.is_nil(ok)
        assert_same({ nil, why }, { fast_ok, fast_why }, bytes)
      end
    end
  end)

  it("in building values by each shape", function()
    for round = 1, 3 * ROUNDS do
      local may_stream = round % 2 == 0
      local shape = random(may_stream and streamed_shapes or counted_shapes)
      local short, long = some_value(random, 3, may_stream)
      local slow, fast = values_of(decoded(long, shape, 0)), values_of(decoded(short, shape, 0))
      assert_same(slow, fast, shape .. " of " .. short)
    end
  end)

  -- (None of the fast paths for values is taken where places are noted.)
  it("in building values with and without their places", function()
    local LIST = core.COLLECT + core.LIST
    for _ = 1, ROUNDS do
      local shape = random(counted_shapes)
      local short = some_value(random, 3)
      local _, slow = decoded(short, shape, LIST + core.PLACES)
      local _, fast = decoded(short, shape, LIST)
      assert_same(slow[1], fast[1], shape .. " of " .. short)
    end
  end)
end)
