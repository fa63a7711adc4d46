-- SPDX-License-Identifier: MIT
-- transport/race.lua: the order and the times of attempts on a name's addresses, by a clock of the spec's own. Needs no
-- network.

local race = require "redio.transport.race"

local clock, timers, log, open_handles, started

-- The parts of a transport that a race uses: timers, and handles that are opened and closed.
local host = {}

function host.start_timer(seconds, fn)
  local timer = { at = clock + seconds, fn = fn }
  timers[timer] = true
  return timer
end

function host.stop_timer(timer)
  timers[timer] = nil
end

function host.close(handle)
  assert(open_handles[handle], "closed twice: " .. handle.address)
  open_handles[handle] = nil
  log[#log + 1] = "close " .. handle.address
end

local function pass(seconds)
  local till = clock + seconds
  while true do
    local first
    for timer in pairs(timers) do
      if timer.at <= till and (not first or timer.at < first.at) then
        first = timer
      end
    end
    if not first then
      break
    end
    clock = first.at
    timers[first] = nil
    first.fn()
  end
  clock = till
end

-- `at_once`: by address, what fails before `open` returns.
local function start(addresses, at_once, within)
  at_once = at_once or {}
  local result = {}
  result.race = race.start(host, addresses, within, function(address, settled)
    local handle = { address = address, settled = settled }
    if at_once[address] == "raises" then
      error("no such address", 0)
    end
    log[#log + 1] = ("%s at %.3f"):format(address, clock)
    open_handles[handle], started[address] = true, handle
    return handle, at_once[address]
  end, function(handle, err)
    assert(not result.done, "done twice")
    result.done, result.handle, result.err = true, handle, err
  end)
  return result
end

local function settle(address, err)
  started[address].settled(started[address], err)
end

local function count(set)
  local n = 0
  for _ in pairs(set) do
    n = n + 1
  end
  return n
end

describe("of several addresses", function()
  before_each(function()
    clock, timers, log, open_handles, started = 0, {}, {}, {}, {}
  end)

  after_each(function()
    assert.equal(0, count(timers))
  end)

  it("families take turns, that of the first one first", function()
    assert.same({ "1::", "10.0.0.1", "2::", "10.0.0.2", "3::" },
      race.interleave { "1::", "2::", "3::", "10.0.0.1", "10.0.0.2" })
    assert.same({ "10.0.0.1", "1::", "10.0.0.2" }, race.interleave { "10.0.0.1", "10.0.0.2", "1::" })
    assert.same({ "10.0.0.1" }, race.interleave { "10.0.0.1" })
  end)

  it("the next is tried a quarter of a second later, beside those before it", function()
    local result = start { "a", "b", "c" }
    pass(0.2)
    assert.same({ "a at 0.000" }, log)
    pass(0.4)
    assert.same({ "a at 0.000", "b at 0.250", "c at 0.500" }, log)
    pass(100)
    assert.equal(3, #log)
    assert.is_nil(result.done)
    settle "a"
    assert.equal(started.a, result.handle)
    assert.equal(1, count(open_handles)) -- the winner
  end)

  it("the first that connects wins, and the others are closed", function()
    local result = start { "a", "b", "c" }
    pass(0.3)
    settle "b"
    assert.equal(started.b, result.handle)
    assert.same({ [started.b] = true }, open_handles)
    settle "a" -- one that connected in the same turn is closed already
    pass(10)
    assert.same({ "a at 0.000", "b at 0.250", "close a" }, log)
  end)

  it("one that fails makes room for the next at once", function()
    local result = start { "a", "b", "c" }
    pass(0.1)
    settle("a", "refused")
    pass(0.2)
    assert.same({ "a at 0.000", "close a", "b at 0.100" }, log)
    pass(0.1) -- a quarter of a second from there
    assert.equal("c at 0.350", log[4])
    settle("b", "unreachable")
    assert.is_nil(result.done)
    settle("c", "reset")
    assert.is_true(result.done)
    assert.is_nil(result.handle)
    assert.equal("reset", result.err)
    assert.equal(0, count(open_handles))
  end)

  it("some fail before they have begun", function()
    local result = start({ "a", "b", "c", "d" }, { a = "unreachable", b = "raises", c = "unreachable" })
    assert.same({ "a at 0.000", "close a", "c at 0.000", "close c", "d at 0.000" }, log)
    settle "d"
    assert.equal(started.d, result.handle)

    result = start({ "a", "b" }, { a = "unreachable", b = "raises" })
    assert.is_true(result.done)
    assert.equal("no such address", result.err)
  end)

  it("the last one's failure waits for those that are still under way", function()
    local result = start { "a", "b" }
    pass(0.25)
    settle("b", "refused")
    assert.is_nil(result.done)
    settle "a"
    assert.equal(started.a, result.handle)
  end)

  it("all have their turn when there is little time", function()
    start({ "a", "b", "c", "d" }, nil, 0.2)
    pass(0.1)
    assert.same({ "a at 0.000", "b at 0.025", "c at 0.050", "d at 0.075" }, log)
    log = {}
    start({ "a", "b" }, nil, 5)
    pass(0.25)
    assert.same({ "a at 0.100", "b at 0.350" }, log)
  end)

  it("cancel closes all, and nothing is told any more", function()
    local result = start { "a", "b", "c" }
    pass(0.3)
    result.race:cancel()
    assert.equal(0, count(open_handles))
    settle "a"
    settle("b", "cancelled")
    pass(10)
    assert.is_nil(result.done)
    result.race:cancel()
    assert.same({ "a at 0.000", "b at 0.250" }, { log[1], log[2] })
    assert.equal(4, #log)
  end)
end)
