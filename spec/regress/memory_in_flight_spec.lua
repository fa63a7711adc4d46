-- SPDX-License-Identifier: MIT
-- Sent bytes stayed in memory until they were answered, also writes, which can never be sent again. A server that read
-- and did not answer filled the client's memory, whatever max_queued_bytes said. And the results of a chain that was
-- cancelled half way stayed for as long as its connection lived.

local check = require "spec.support.check"
local core = require "redio.core"
local fake = require "spec.support.fake"
local redio = require "redio"
local uv = require "luv"

-- A server that reads and never says a word: RESP2 needs none to log in.
local function silent_server()
  local listener, received = uv.new_tcp(), { bytes = 0 }
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen(16, function()
    local socket = uv.new_tcp()
    listener:accept(socket)
    socket:read_start(function(_, bytes)
      if bytes then received.bytes = received.bytes + #bytes else socket:close() end
    end)
    socket:unref()
  end))
  listener:unref()
  received.url = ("redis://127.0.0.1:%d"):format(listener:getsockname().port)
  function received.stop()
    listener:close()
  end
  return received
end

local function resident()
  local file = assert(io.open "/proc/self/statm")
  local pages = file:read "*a":match "^%d+ (%d+)"
  file:close()
  return tonumber(pages) * 4096
end

describe("What was sent", function()
  local function connection_with(limit)
    local connection, waiters = core.connection(), {}
    connection:event "connect"
    connection:event "connected"
    connection:event "established"
    connection:limit(limit)
    return connection, waiters
  end

  -- Submits a chain from a coroutine of its own; what that is told at the end is in the table that is returned.
  local function submit(connection, waiters, command, ...)
    local told = {}
    coroutine.wrap(function(...)
      local pipeline = core.pipeline()
      core.encode(pipeline, command, ...)
      assert(connection:submit(pipeline, waiters, 0))
      told.token, told.err, told.sent, told.pipeline = coroutine.yield()
    end)(...)
    return told
  end

  local GET = core.command { name = "GET", readonly = true }
  local SET = core.command { name = "SET" }

  -- Loses the connection: each waiter is told whether its chain was sent, and handed its commands if these are kept.
  local function lose(connection, waiters)
    connection:event "lose"
    while true do
      local waiter, token, sent, pipeline = connection:next(waiters)
      if not waiter then return end
      coroutine.resume(waiter, token, "lost", sent, pipeline)
    end
  end

  it("is kept while it may be sent once more, and no longer", function()
    local connection, waiters = connection_with(1000000)
    local read = submit(connection, waiters, GET, "k")
    local write = submit(connection, waiters, SET, "k", "v")
    assert.is_string((connection:output()))
    local unsent = submit(connection, waiters, SET, "k", "v")
    lose(connection, waiters)
    assert.is_truthy(read.pipeline)
    assert.are.equal(1, (read.pipeline:count()) + 1) -- submitted once before: it does not count as forgotten
    assert.is_false(write.pipeline)
    assert.is_truthy(unsent.pipeline)
    assert.are.same({ true, true, false }, { read.sent, write.sent, unsent.sent })
  end)

  it("is not kept beyond the limit", function()
    local connection, waiters = connection_with(1000)
    local first = submit(connection, waiters, GET, ("x"):rep(600))
    connection:output()
    local second = submit(connection, waiters, GET, ("y"):rep(600))
    connection:output()
    local third = submit(connection, waiters, GET, "z")
    connection:output()
    lose(connection, waiters)
    assert.is_false(first.pipeline)
    assert.is_false(second.pipeline)
    assert.is_truthy(third.pipeline)
  end)

  it("does not fill the memory while a server reads and does not answer", function()
    local silent = silent_server()
    redio.run(function()
      local redis = redio.Redis(silent.url, { max_queued_bytes = 1000000, timeout = false, protocol = 2 })
      local value = ("v"):rep(15000)
      local tasks = {}
      local function burst(count)
        for _ = 1, count do
          tasks[#tasks + 1] = redio.spawn(function()
            pcall(function()
              redis():set("k", value):await()
            end)
          end)
        end
        repeat
          redio.sleep(0.01)
        until silent.bytes >= #tasks * #value
        collectgarbage()
      end
      burst(50)
      local before = resident()
      for _ = 1, 120 do
        burst(50)
      end
      local grown = resident() - before
      assert.is_true(grown < 45e6, ("%.0f MB for 90 MB that were sent"):format(grown / 1e6))
      redis:disconnect()
      for i = 1, #tasks do
        tasks[i]:await()
      end
      redis:close()
    end)
    silent.stop()
  end)
end)

describe("What was received", function()
  it("for a chain that is cancelled half way does not stay with the connection", function()
    local SIZE = 20000000
    local slow
    local peer = fake.start(function(connection, words)
      if words[1] == "GET" then return ("$%d\r\n%s\r\n"):format(SIZE, ("x"):rep(SIZE)) end
      if words[1] == "ECHO" then return ("$1\r\n%s\r\n"):format(words[2]) end
      slow = connection -- INCR, which is answered later
    end)
    redio.run(function()
      local redis = redio.Redis(peer.url)
      for _, await in ipairs { "await", "replies" } do
        collectgarbage()
        collectgarbage()
        local before = collectgarbage "count"
        local task = redio.spawn(function()
          local db = redis():get("big"):incr("n")
          db[await](db)
        end)
        assert.is_truthy(check.eventually(function()
          return collectgarbage "count" - before > SIZE / 1024 and slow
        end), "the first value has not come")
        redio.sleep(0.05)
        task:cancel()
        pcall(task.await, task)
        slow:write ":1\r\n"
        slow = nil
        assert.are.equal("a", redis():echo("a"):await())
        collectgarbage()
        collectgarbage()
        assert.is_true((collectgarbage "count" - before) * 1024 < SIZE / 2, "the value is still there")
      end
      redis:close()
    end)
    peer:stop()
  end)
end)
