-- SPDX-License-Identifier: MIT
-- A map was built as a table, thrown away when its last key could not be a table's key, and built again as a list of
-- pairs. Maps within maps were built twice at each level, so that 334 bytes took seconds. Errors among the values were
-- recorded once for each time. Of equal keys a decoder got the last value as often as the key came.

local redio = require "redio"
local core = require "redio.core"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local function decode(bytes)
  local decoder = core.decoder()
  decoder:feed(bytes)
  local ok, value = decoder:next()
  assert.is_true(ok)
  return value
end

-- A value in what `wrap` makes around it, so many times.
local function nested(depth, wrap)
  local bytes = ":1\r\n"
  for _ = 1, depth do
    bytes = wrap(bytes)
  end
  return bytes
end

-- All that is allocated while `bytes` are decoded, rubbish as well.
local function allocated(bytes)
  local decoder = core.decoder()
  decoder:feed(bytes)
  collectgarbage()
  collectgarbage "stop"
  local before = collectgarbage "count"
  decoder:next()
  local after = collectgarbage "count"
  collectgarbage "restart"
  return after - before
end

-- The outcome of a chain of one command that is answered by `bytes`, as the core tells it.
local function answered(bytes, mode, shape)
  local connection, waiters, told = core.connection(), {}, nil
  for _, event in ipairs { "connect", "connected", "established" } do
    connection:event(event)
  end
  local lists = { {}, {} }
  coroutine.wrap(function()
    local pipeline = core.pipeline()
    core.encode(pipeline, core.command { name = "CASE", reply = shape })
    connection:submit(pipeline, waiters, mode, lists)
    told = { coroutine.yield() }
  end)()
  connection:output()
  connection:feed(bytes)
  connection:wake(waiters)
  return told, lists
end

local shapes_of_pain = {
  ["a bad key behind the map"] = function(inner)
    return "%2\r\n+a\r\n" .. inner .. "*0\r\n:1\r\n"
  end,
  ["a bad key before the map"] = function(inner)
    return "%2\r\n_\r\n:1\r\n+a\r\n" .. inner
  end,
  ["the map as a key"] = function(inner)
    return "%1\r\n" .. inner .. ":1\r\n"
  end,
  ["a bad key behind plain pairs and the map"] = function(inner)
    return "%4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n" .. inner .. ",nan\r\n:1\r\n"
  end,
  ["a streamed map with a bad key"] = function(inner)
    return "%?\r\n+a\r\n" .. inner .. "*0\r\n:1\r\n.\r\n"
  end,
}

describe("maps within maps", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  for name, wrap in pairs(shapes_of_pain) do
    it("cost twice as much when they are twice as deep: " .. name, function()
      local shallow, deep = allocated(nested(8, wrap)), allocated(nested(16, wrap))
      assert.is_true(deep < 4 * shallow, ("%.1f KiB, and %.1f KiB"):format(shallow, deep))
    end)
  end

  it("cost four times as much when they are four times as deep: by shape, of pairs of which one is none", function()
    local function wrap(inner)
      return "*2\r\n*2\r\n$9\r\narguments\r\n*1\r\n" .. inner .. ":5\r\n"
    end
    local function cost(depth)
      local bytes = "*2\r\n$3\r\nget\r\n" .. nested(depth, wrap)
      collectgarbage()
      collectgarbage "stop"
      local before = collectgarbage "count"
      answered(bytes, 0, "docs")
      local after = collectgarbage "count"
      collectgarbage "restart"
      return after - before
    end
    local none, shallow, deep = cost(0), cost(10), cost(40)
    assert.is_true(deep - none < 8 * (shallow - none), ("%.1f KiB, and %.1f KiB"):format(shallow - none, deep - none))
  end)

  it("of a real server's script, 40 deep, are there at once", function()
    local redis = it_needs:client(server.shared().url)
    local value = redio.run(function()
      return redis():eval([[redis.setresp(3)
        local t = 1
        for i = 1, 40 do
          local m = {a = t, b = 1, c = 1}
          m[{1}] = 1
          t = {map = m}
        end
        return t]], 0):await()
    end)
    for _ = 1, 40 do
      assert.are.equal(4, #value)
      local inner
      for _, pair in ipairs(value) do
        assert.are.equal(2, #pair)
        inner = pair[1] == "a" and pair[2] or inner
      end
      value = inner
    end
    assert.are.equal(1, value)
  end)

  it("are lists of pairs in the order of the wire, equal keys among them", function()
    assert.are.same({ { "a", 1 }, { "a", 2 }, { {}, 3 } }, decode "%3\r\n+a\r\n:1\r\n+a\r\n:2\r\n*0\r\n:3\r\n")
    assert.are.same({ { "a", "1" }, { "a", "2" }, { false, "3" } },
      decode "%3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\n2\r\n_\r\n$1\r\n3\r\n")
    assert.are.same({ { "a", "1" }, { {}, 2 }, { "b", { c = 3 } } },
      decode "%3\r\n$1\r\na\r\n$1\r\n1\r\n*0\r\n:2\r\n+b\r\n%1\r\n+c\r\n:3\r\n")
    assert.are.same({ { "a", 1 }, { { b = 2 }, 3 } }, decode "%2\r\n+a\r\n:1\r\n%1\r\n+b\r\n:2\r\n:3\r\n")
  end)

  it("are tables where a table can have all keys, and of equal ones the last wins", function()
    assert.are.same({ a = "3", b = { c = 2 } },
      decode "%3\r\n$1\r\na\r\n$1\r\n1\r\n+b\r\n%1\r\n+c\r\n:2\r\n$1\r\na\r\n$1\r\n3\r\n")
    assert.are.same({ a = 2 }, decode "%?\r\n+a\r\n:1\r\n+a\r\n:2\r\n.\r\n")
    assert.are.same({}, decode "%?\r\n.\r\n")
    assert.are.same({}, decode "%0\r\n")
  end)

  it("of which an element is no pair keep it as it is", function()
    assert.are.same({ { "a", "1" }, 5, { "b", "2" } },
      (answered("*3\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n:5\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n", 0, "map"))[2])
    assert.are.same({ { "a", 1.5 }, "x", { "b", 2 } },
      (answered("*3\r\n*2\r\n$1\r\na\r\n$3\r\n1.5\r\n$1\r\nx\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n", 0, "scored"))[2])
  end)

  it("remember each error once", function()
    for _, bytes in ipairs {
      "%2\r\n+a\r\n-ERR one\r\n*0\r\n:1\r\n",
      "%2\r\n+a\r\n%2\r\n+b\r\n-ERR one\r\n*0\r\n:1\r\n_\r\n:1\r\n",
      "%2\r\n-ERR one\r\n:1\r\n+a\r\n:1\r\n",
    } do
      local told = answered(bytes, 0)
      assert.are.equal(core.FAILED, told[1])
      assert.are.equal(1, #told[2])
      assert.are.equal("one", told[2][1].message)
    end
  end)

  it("give each value to a decoder once, and none that was overwritten", function()
    local bytes
    local peer = it_needs:fake(function()
      return bytes
    end)
    local redis = it_needs:client(peer.url)
    local function await(answer)
      bytes = answer
      local seen = {}
      local value = redio.run(function()
        return redis():call("CASE"):decoder(function(s)
          seen[#seen + 1] = s
          return "<" .. s .. ">"
        end):await()
      end)
      table.sort(seen)
      return value, table.concat(seen, " ")
    end
    local value, seen = await "%3\r\n+a\r\n$1\r\n1\r\n+b\r\n%2\r\n+c\r\n$1\r\n2\r\n_\r\n$1\r\n3\r\n*0\r\n$1\r\n4\r\n"
    assert.are.same({ { "a", "<1>" }, { "b", { { "c", "<2>" }, { false, "<3>" } } }, { {}, "<4>" } }, value)
    assert.are.equal("1 2 3 4", seen)
    value, seen = await "%4\r\n+a\r\n$1\r\n1\r\n+b\r\n$1\r\n2\r\n+a\r\n$1\r\n3\r\n+b\r\n:4\r\n"
    assert.are.same({ a = "<3>", b = 4 }, value)
    assert.are.equal("3", seen)
  end)

  it("decode their values as text where the mode says so", function()
    local function text(bytes)
      return (answered(bytes, core.TEXT))[2]
    end
    assert.are.same({ a = "\xed\xb3\xbf" }, text "%1\r\n$1\r\na\r\n$1\r\n\xff\r\n")
    assert.are.same({ { "a", "\xed\xb3\xbf" }, { false, "\xed\xb3\xbf" } },
      text "%2\r\n$1\r\na\r\n$1\r\n\xff\r\n_\r\n$1\r\n\xff\r\n")
    assert.are.same({ ["\xff"] = "x" }, text "%1\r\n$1\r\n\xff\r\n$1\r\nx\r\n")
  end)
end)
