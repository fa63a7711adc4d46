-- SPDX-License-Identifier: MIT
-- src/connection.c and lconnection.c: the states of a connection, its steps, and what each state lets through.

local core = require "redio.core"

local GET = core.command { name = "GET", readonly = true }

-- The steps that lead to a state.
local way = {
  closed = {},
  connecting = { "connect" },
  handshake = { "connect", "connected" },
  ready = { "connect", "connected", "established" },
  draining = { "connect", "connected", "established", "drain" },
  lost = { "lose" },
}

-- The steps that a state has; all others are refused.
local steps = {
  closed = { connect = "connecting", lose = "lost" },
  connecting = { connected = "handshake", lose = "lost" },
  handshake = { established = "ready", lose = "lost" },
  ready = { drain = "draining", lose = "lost" },
  draining = { drain = "draining", lose = "lost" },
  lost = { lose = "lost" },
}

local function connection_in(state)
  local connection = core.connection()
  for _, event in ipairs(way[state]) do
    connection:event(event)
  end
  return connection
end

local function pipeline_of(...)
  local pipeline = core.pipeline(true)
  for _, key in ipairs { ... } do
    assert(core.encode(pipeline, GET, key))
  end
  return pipeline
end

-- A chain that is submitted by a coroutine of its own: the results of submit, and those with which it is resumed.
local function submit(connection, slots, pipeline, mode)
  local chain = {}
  coroutine.wrap(function()
    chain.slot, chain.why = connection:submit(pipeline, slots, mode)
    if chain.slot then chain.results = { coroutine.yield() } end
  end)()
  return chain
end

describe("A connection's state", function()
  for state, events in pairs(steps) do
    it(("%s has its steps and no others"):format(state), function()
      for _, event in ipairs { "connect", "connected", "established", "drain", "lose" } do
        local connection = connection_in(state)
        assert.equal(state, connection:state())
        assert.equal(events[event], connection:event(event))
        assert.equal(events[event] or state, connection:state())
      end
    end)

    it(("%s takes chains, or says why not"):format(state), function()
      local refusal = state == "draining" and "draining" or "state"
      for _, mode in ipairs { 0, core.OWN, core.HANDSHAKE, core.HANDSHAKE + core.OWN } do
        local is_handshake = mode >= core.HANDSHAKE
        local chain = submit(connection_in(state), {}, pipeline_of "a", mode)
        if state == (is_handshake and "handshake" or "ready") then
          assert.is_number(chain.slot)
        else
          assert.same({ nil, refusal }, { chain.slot, chain.why })
        end
      end
    end)
  end

  it("refuses an unknown event", function()
    assert.has_error(function()
      core.connection():event "drained"
    end)
  end)
end)

describe("A draining connection", function()
  local connection, slots

  before_each(function()
    connection, slots = connection_in "ready", {}
  end)

  it("finishes the chains that it has", function()
    local sent = submit(connection, slots, pipeline_of "a", 0)
    assert.truthy(connection:output())
    local unsent = submit(connection, slots, pipeline_of("b", "c"), 0)
    assert.equal("draining", connection:event "drain")
    assert.equal(2, (connection:waiting()))
    assert.equal("*2\r\n$3\r\nGET\r\n$1\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\n", (connection:output()))
    connection:feed "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"
    connection:wake(slots)
    assert.same({ core.DONE, "1" }, sent.results)
    assert.same({ core.DONE, "2", "3" }, unsent.results)
    assert.is_true(connection:is_clean())
    assert.equal("draining", connection:state())
  end)

  it("drops chains", function()
    local chain = submit(connection, slots, pipeline_of "a", 0)
    connection:event "drain"
    connection:drop(slots, chain.slot)
    assert.equal(0, (connection:waiting()))
    assert.is_nil(connection:output())
  end)

  it("gives the commands back when it is lost", function()
    submit(connection, slots, pipeline_of "a", 0)
    connection:event "drain"
    assert.equal("lost", connection:event "lose")
    local _, token, was_sent, pipeline = connection:next(slots)
    assert.same({ core.LOST, false }, { token, was_sent })
    assert.is_userdata(pipeline)
  end)

  it("is left to the slow path by send", function()
    local new_handle = core.handles {}
    local function send()
      local handle = new_handle { connection, slots }
      return coroutine.wrap(function()
        core.queuer(GET)(handle, "a")
        local how = core.send(handle)
        if not how then handle[2]:clear() end
        return how
      end)()
    end
    assert.equal(core.SINGLE + core.FIRST, send())
    connection:event "drain"
    assert.is_nil(send())
  end)
end)
