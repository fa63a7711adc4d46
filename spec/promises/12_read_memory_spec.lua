-- SPDX-License-Identifier: MIT
-- Promise 12, read memory: nothing is reserved for bytes that have not arrived, and a limit strikes before the bytes
-- that it limits have come.

local redio = require "redio"
local check = require "spec.support.check"
local process = require "spec.support.process"
local fixtures = require "spec.support.fixtures"
local cases = require "spec.support.resp_cases"

local MIB = 1024 * 1024

describe("Promise 12, read memory:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- The cost of a reply's first bytes while the rest does not come: memory that the process has asked for, touched or
  -- not, and the count of Lua.
  local function cost(bytes, options)
    local peer = it_needs:fake(function() return bytes end)
    options = options or {}
    options.retry = false
    local redis = it_needs:client(peer.url, options)
    local grown = {}
    local function answered(count)
      check.eventually(function() return #peer.requests >= count end)
      redio.sleep(0.01)
    end
    check.within(10, function()
      local warm = redio.spawn(function() return redis():get "k":await() end)
      answered(1)
      redis:disconnect()
      pcall(warm.await, warm)
      process.collect()
      local asked, lua = process.status "VmData", collectgarbage "count" * 1024
      local waiting = redio.spawn(function() return redis():get "k":await() end)
      answered(2)
      grown.asked, grown.lua = process.status "VmData" - asked, collectgarbage "count" * 1024 - lua
      grown.status = waiting:status()
      redis:disconnect()
      grown.error = select(2, pcall(waiting.await, waiting))
    end)
    return grown
  end

  local WIDE = { limits = { max_elements = 2 ^ 30, max_bulk = 2 ^ 40 } }

  local claims = {
    { "an array of 2^27", "*134217728\r\n" },
    { "a set of 2^27", "~134217728\r\n" },
    { "a map of 2^26", "%67108864\r\n" },
    { "a push of 2^27", ">134217728\r\n" },
    { "an attribute of 2^26", "|67108864\r\n" },
    { "a string of 512 MiB", "$536870912\r\n" },
    { "a string of 64 GiB", "$68719476736\r\n" },
    { "a verbatim string of 512 MiB", "=536870912\r\ntxt:" },
    { "an error of 512 MiB", "!536870912\r\n" },
    { "a chunk of 512 MiB", "$?\r\n;536870912\r\n" },
    { "100 arrays of 2^20, one in the other", ("*1048576\r\n"):rep(100) },
    { "an array of 2^27 with its first elements here", "*134217728\r\n:1\r\n:2\r\n" },
  }
  for _, claim in ipairs(claims) do
    local name, bytes = claim[1], claim[2]
    it(name .. " costs no memory by being announced", function()
      local grown = cost(bytes, WIDE)
      assert.are.equal("waiting", grown.status, tostring(grown.error))
      assert.is_true(grown.asked < MIB, ("asked for %.0f KiB"):format(grown.asked / 1024))
      assert.is_true(grown.lua < 256 * 1024, ("Lua holds %.0f KiB"):format(grown.lua / 1024))
    end)
  end

  it("under the default limits an array of 2^27 is refused at its head", function()
    assert.is_true(redio.errors.is(cost("*134217728\r\n").error, "ProtocolError"))
  end)

  it("every vector with limits is refused, and as soon as the limit is passed", function()
    local count = 0
    for _, case in ipairs(cases) do
      if case.limits then
        count = count + 1
        local grown = cost(case.bytes, { limits = case.limits })
        assert.is_true(redio.errors.is(grown.error, "ProtocolError"), case.name)
      end
    end
    assert.is_true(count >= 3)
  end)

  it("what is over a limit is refused before it has come", function()
    for _, case in ipairs {
      { "$1025\r\n", { max_bulk = 1024 } }, -- not a byte of it is here
      { "$?\r\n;1000\r\n" .. ("x"):rep(1000) .. "\r\n;25\r\n", { max_bulk = 1024 } },
      { "*1025\r\n", { max_elements = 1024 } },
      { ("*1\r\n"):rep(9), { max_depth = 8 } },
      { "+" .. ("x"):rep(100), { max_line = 64 } }, -- no end of line is here
      { ("|0\r\n"):rep(1025), { max_elements = 1024 } }, -- no value is here
    } do
      local grown = cost(case[1], { limits = case[2], protocol = 2 })
      assert.is_true(redio.errors.is(grown.error, "ProtocolError"), case[1]:sub(1, 20) .. tostring(grown.error))
    end
  end)

  it("a reply of 64 MiB takes at most about three times its size, and gives it back", function()
    local size = 64 * MIB
    local piece = ("x"):rep(MIB)
    local peer = it_needs:fake(function(connection)
      connection:write(("$%d\r\n"):format(size))
      for _ = 1, 64 do
        connection:write(piece)
      end
      return "\r\n"
    end)
    local redis = it_needs:client(peer.url)
    -- How much more the process held at the most, and after it.
    local function read()
      process.collect()
      local before, most = process.status "VmRSS", 0
      check.within(10, function()
        local waiting = redio.spawn(function() return #redis():get "k":await() end)
        while waiting:status() == "waiting" do
          most = math.max(most, process.status "VmRSS" - before)
          redio.sleep(0.001)
        end
        most = math.max(most, process.status "VmRSS" - before)
        assert.are.equal(size, waiting:await())
      end)
      process.collect()
      return most, process.status "VmRSS" - before
    end
    local most = read()
    local _, left = read() -- (the first time the allocator, too, may keep something)
    assert.is_true(most < 3.2 * size, ("%.0f MiB at the most"):format(most / MIB))
    -- Of the pieces it was read in the allocator keeps some, where others' memory lies among them.
    assert.is_true(left < size / 2, ("%.0f MiB left"):format(left / MIB))
  end)
end)
