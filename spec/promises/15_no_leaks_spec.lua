-- SPDX-License-Identifier: MIT
-- Promise 15, no leaks: however a connection ends, afterwards the process has the same descriptors, the same handles of
-- the loop, the same entries in Lua's registry, and as much memory as before.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local process = require "spec.support.process"
local fixtures = require "spec.support.fixtures"

local MIB = 1024 * 1024
local ROUNDS, WARM_UP = 1000, 200

describe("Promise 15, no leaks:", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Waits until closed handles are gone, and collected objects have closed theirs. `tidy`, if given, is called each
  -- time: a connection may become idle only now.
  local function settle(tidy)
    for _ = 1, 3 do
      if tidy then tidy() end
      process.collect()
      redio.sleep(0.01)
    end
  end

  -- Runs `round(i)` so often, `together` at a time, and compares the process's holdings with those after some rounds.
  local function compare(rounds, together, round, tidy)
    local function run(count)
      for i = 1, count, together do
        local group = {}
        for j = 1, together do
          group[j] = function() round(i + j) end
        end
        redio.gather((table.unpack or unpack)(group)) -- luacheck: ignore unpack
        if i % 100 < together then process.collect() end -- some are closed by finalizers only
      end
      settle(tidy)
    end
    check.within(60, function()
      run(WARM_UP)
      local before, lua, resident
      -- A leak grows every time. Memory that the allocator keeps does not.
      for _ = 1, 3 do
        before = process.holdings()
        run(rounds)
        local after
        check.eventually(function() -- on a busy machine the last ones take longer to close
          settle(tidy)
          after = process.holdings()
          return after.descriptors <= before.descriptors and after.handles <= before.handles
        end)
        for _, what in ipairs { "descriptors", "handles", "registry" } do
          assert.is_true(after[what] <= before[what],
            ("%s: %d, then %d after %d rounds"):format(what, before[what], after[what], rounds))
        end
        lua, resident = after.lua - before.lua, after.resident - before.resident
        if lua < 64 * 1024 and resident < MIB then return end
      end
      error(("after %d rounds %.0f bytes of Lua's more, %.0f KiB resident"):format(rounds, lua, resident / 1024), 0)
    end)
  end

  local function new(url, options)
    return redio.Redis(url or shared.url, options)
  end

  local function dropped(kind, fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok and redio.errors.is(err, kind), tostring(err))
  end

  it("closed: never used, idle, by <close> or by hand, twice", function()
    compare(ROUNDS, 10, function(i)
      local redis = new()
      if i % 2 == 0 then assert(redis():echo "x":await() == "x") end
      redis:close()
      redis:close()
    end)
  end)

  it("closed with replies in flight", function()
    compare(ROUNDS, 10, function()
      local redis = new()
      redis():ping():await()
      local waiting = redio.spawn(function() redis():get "spec:p15":get "spec:p15":await() end)
      redio.sleep(0)
      redis:close { drain = 0 }
      pcall(waiting.await, waiting)
    end)
  end)

  it("closed while connecting, and in the handshake", function()
    local mute = it_needs:fake(function() end, { protocol = false })
    compare(ROUNDS, 10, function(i)
      local redis = new(i % 2 == 0 and mute.url or nil, { retry = false })
      local waiting = redio.spawn(function() redis():get "spec:p15":await() end)
      redio.sleep(i % 4 < 2 and 0 or 0.001)
      redis:close { drain = 0 }
      pcall(waiting.await, waiting)
      mute.connections, mute.requests = {}, {}
    end)
  end)

  it("refused: nothing listens there", function()
    local closed_port = server.free_port()
    compare(ROUNDS, 10, function()
      local redis = new(("redis://127.0.0.1:%d/"):format(closed_port), { retry = false })
      dropped("ConnectionError", function() redis():get "spec:p15":await() end)
      redis:close()
    end)
  end)

  it("lost: by the server's FIN, by RST, by bytes that are no reply", function()
    local peer = it_needs:fake(function(connection, words)
      if words[2] == "fin" then
        connection:close()
      elseif words[2] == "rst" then
        connection:reset()
      else
        return "?\r\n"
      end
    end)
    local ways = { "fin", "rst", "nonsense" }
    compare(ROUNDS, 10, function(i)
      local redis = new(peer.url, { retry = false })
      dropped("RedisError", function() redis():get(ways[i % 3 + 1]):await() end)
      redis:close()
      peer.connections, peer.requests = {}, {}
    end)
  end)

  it("cancelled and timed out, shared and private, with a deadline or without", function()
    local redis = it_needs:client(shared.url, { max_connections = 20 })
    compare(ROUNDS, 10, function(i)
      if i % 2 == 0 then
        dropped("TimeoutError", function() redis():blpop("spec:p15:none", 0):timeout(0.001):await() end)
      else
        local waiting = redio.spawn(function() redis():get "spec:p15":await() end)
        redio.sleep(0)
        waiting:cancel()
        pcall(waiting.await, waiting)
      end
    end)
  end)

  it("private connections: watching, in MULTI, pinned, and an error in the middle", function()
    local redis = it_needs:client(shared.url, { max_connections = 20 })
    compare(ROUNDS, 10, function(i)
      local case = i % 4
      if case == 0 then
        local db = redis()
        db:watch "spec:p15":await()
        db:close()
      elseif case == 1 then
        local db = redis()
        db:multi():set("spec:p15", 1):await()
        db:close()
      elseif case == 2 then
        redis:with_connection(function(db) db:select(3):ping():await() end)
      else
        dropped("ReplyError", function()
          redis:transaction("spec:p15", function(db) db:call "NO SUCH" end)
        end)
      end
    end, function()
      redis:disconnect { idle = true } -- as many as were needed at a time, which differs
    end)
  end)

  it("receivers and monitors: closed, left, unsubscribed", function()
    local redis = it_needs:client(shared.url, { max_connections = 20 })
    compare(ROUNDS / 2, 5, function(i)
      local case = i % 4
      if case == 0 then
        redis:pubsub("spec:p15:a"):psubscribe("spec:p15:*"):connect():close()
      elseif case == 1 then
        local receiver = redis:pubsub("spec:p15:a"):connect()
        receiver:unsubscribe()
        assert(receiver:await() == nil)
        receiver:close()
      elseif case == 2 then
        redis:monitor():connect():close()
      else
        local receiver = redis:pubsub "spec:p15:a"
        local waiting = redio.spawn(function() return receiver:await() end)
        redio.sleep(0.002)
        receiver:close()
        waiting:await()
      end
    end)
  end)

  it("dropped: clients, handles, receivers and their views that were not closed", function()
    compare(ROUNDS / 2, 10, function(i)
      local redis = new()
      redis():ping():await()
      if i % 3 == 0 then
        redis():watch "spec:p15":await()
      elseif i % 3 == 1 then
        redis:pubsub("spec:p15:a"):connect():channel "spec:p15:a"
      else
        redis:connection():select(1):await()
      end
    end)
    -- nor does the server see them any more
    local _, clients = shared:cli("client", "list"):gsub("id=", "")
    assert.is_true(clients < 20, clients .. " connections")
  end)

  it("values, large and small, errors, scripts, scans, many commands", function()
    local redis = it_needs:client(shared.url)
    local large = ("x"):rep(100 * 1000)
    compare(ROUNDS, 10, function(i)
      local db = redis():set("spec:p15:large", large):get("spec:p15:large"):hset("spec:p15:h", { a = i, b = "x" })
      db:hgetall("spec:p15:h"):await()
      dropped("ReplyError", function() redis():lpush("spec:p15:h", 1):await() end)
      assert(#redis():echo "a":call("NO SUCH"):strdecode():replies() == 2)
      redis:transaction("spec:p15:n", function(t) t:incr "spec:p15:n" end)
      redis():autodecode():get("spec:p15:n"):await()
    end)
    redis():del("spec:p15:large", "spec:p15:h", "spec:p15:n"):await()
  end)
end)
