-- SPDX-License-Identifier: MIT
-- Promise 8, deadlines: one deadline covers the pool's queue, the connect, TLS, the handshake, the write and the read.
-- Each stage is held in turn. The error comes on time and names the stage, and an expired command is never sent.

local uv = require "luv"
local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local COUNTER = "spec:promise8:counter"
local DEADLINE = 0.1
local LATE = 0.02

describe("Promise 8: deadlines.", function()
  local it_needs, shared, observer

  setup(function()
    shared = server.shared()
    observer = redio.Redis(shared.url)
  end)

  before_each(function()
    it_needs = fixtures.new()
    observer():del(COUNTER):await()
  end)

  after_each(function()
    it_needs:clear()
    observer():del(COUNTER):await()
  end)

  teardown(function()
    observer:close()
  end)

  -- A listener that accepts nothing, with a full queue, so that the kernel answers no further connection.
  local function unanswering()
    local listener = uv.new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(1, function() end)
    local port, fillers = listener:getsockname().port, {}
    for _ = 1, 2 do -- the loop takes one out of the queue, once
      for _ = 1, 4 do
        local filler = uv.new_tcp()
        filler:connect("127.0.0.1", port, function() end)
        fillers[#fillers + 1] = filler
      end
      redio.sleep(0.02)
    end
    it_needs:finally(function()
      listener:close()
      for i = 1, #fillers do
        fillers[i]:close()
      end
    end)
    return ("redis://127.0.0.1:%d/?protocol=2"):format(port)
  end

  local function pooled(options)
    options.max_connections, options.multiplex = 1, false
    local redis = it_needs:client(shared.url, options)
    local holder = redio.spawn(function() redis():blpop("spec:promise8:none", 5):await() end)
    local function go_on()
      holder:cancel()
    end
    it_needs:finally(go_on)
    redio.sleep(0.03)
    return redis, go_on
  end

  -- Each stage: a client that will be held there, and what lets it go on; what its errors say; which option limits it.
  local stages = {
    {
      name = "the pool's queue", option = "pool_timeout", sent = "no", says = "pool",
      hold = pooled,
    },
    {
      name = "the connect", option = "connect_timeout", sent = "no", says = "still connecting",
      hold = function(options)
        return (it_needs:client(unanswering(), options))
      end,
    },
    {
      name = "TLS", option = "connect_timeout", sent = "no", says = "TLS",
      hold = function(options)
        local proxy = it_needs:proxy()
        proxy.down.hold = true
        options.tls = { verify = false } -- to read the system's authorities takes time of its own, with sanitizers much
        return (it_needs:client(("rediss://127.0.0.1:%d/"):format(proxy.port), options))
      end,
    },
    {
      name = "the handshake", option = "connect_timeout", sent = "no", says = "logging in",
      hold = function(options)
        local proxy = it_needs:proxy()
        proxy.down.hold = true
        local redis = it_needs:client(proxy.url, options)
        return redis, function() proxy:release() end
      end,
    },
    {
      name = "the write", option = "timeout", sent = "maybe", says = "writ",
      hold = function(options)
        local proxy = it_needs:proxy()
        local redis = it_needs:client(proxy.url, options)
        redis():ping():await()
        proxy.connections[1].client:read_stop()
        return redis
      end,
      argument = ("x"):rep(16 * 1024 * 1024),
    },
    {
      name = "the read", option = "timeout", sent = "maybe", says = "reply",
      hold = function(options)
        local proxy = it_needs:proxy()
        local redis = it_needs:client(proxy.url, options)
        redis():ping():await()
        proxy.down.hold = true
        return redis
      end,
    },
  }

  -- Seconds after which a timer of this loop that is due after `seconds` has run: on a busy machine later than that.
  local function loop_timer(seconds)
    local timer, began, fired = uv.new_timer(), uv.hrtime(), seconds
    timer:start(math.floor(seconds * 1000), 0, function()
      fired = (uv.hrtime() - began) / 1e9
    end)
    return function()
      timer:close()
      return fired
    end
  end

  local function assert_on_time(seconds, due, fired)
    local is_on_time = seconds >= due - 0.002 and seconds <= math.max(due, fired) + LATE
    assert.is_true(is_on_time, ("after %.3f s, when a timer took %.3f s"):format(seconds, fired))
  end

  -- Awaits INCR, which must time out; returns the error.
  local function expire(held, redis, timeout)
    local db = redis()
    if held.argument then
      db:echo(held.argument)
    end
    db:incr(COUNTER)
    if timeout then
      db:timeout(timeout)
    end
    local fired = loop_timer(DEADLINE)
    local seconds, err = fixtures.time(check.raises, "TimeoutError", db.await, db)
    assert.matches(held.says, err.message, 1, true)
    assert.are.equal(held.sent, err.sent)
    assert_on_time(seconds, DEADLINE, fired())
    return err
  end

  for _, held in ipairs(stages) do
    describe("Held in " .. held.name .. ", an await", function()
      it(("fails after handle:timeout(%g), within 20 ms, and its error names the stage"):format(DEADLINE), function()
        check.within(5, function()
          expire(held, (held.hold {}), DEADLINE)
        end)
      end)

      it(("fails after %s = %g, within 20 ms, and its error names the stage"):format(held.option, DEADLINE), function()
        check.within(5, function()
          local err = expire(held, (held.hold { [held.option] = DEADLINE }))
          assert.matches(held.option, err.message, 1, true)
        end)
      end)

    end)
  end

  for _, held in ipairs { stages[1], stages[4] } do
    it(("What expired in %s is never sent, though the stage goes on"):format(held.name), function()
      check.within(5, function()
        local redis, go_on = held.hold {}
        expire(held, redis, DEADLINE)
        go_on()
        redio.sleep(0.1)
        assert.is_nil((observer():get(COUNTER):await()))
        assert.are.equal(1, (redis():incr(COUNTER):await()))
      end)
    end)
  end

  it("One deadline covers all stages: a little of each is too much together", function()
    check.within(5, function()
      local proxy = it_needs:proxy()
      proxy.down.delay = 0.06 -- the handshake, then the reply
      local redis = it_needs:client(proxy.url, { max_connections = 1, multiplex = false })
      local holder = redio.spawn(function() redis():incr(COUNTER):await() end)
      redio.sleep(0.01)
      local db = redis():incr(COUNTER):timeout(0.14) -- some 0.11 for a place in the pool, 0.06 for the reply
      local fired = loop_timer(0.14)
      local seconds, err = fixtures.time(check.raises, "TimeoutError", db.await, db)
      assert_on_time(seconds, 0.14, fired())
      assert.matches("reply", err.message)
      holder:await()
    end)
  end)

  it("An await that waits for room in a full write queue expires on time, and is never sent", function()
    local own = it_needs:server()
    local redis = it_needs:client(own.url, { max_queued_bytes = 64 * 1024 })
    check.within(10, function()
      redis():ping():await()
      own:pause()
      local large = redio.spawn(function() redis():echo(("x"):rep(16 * 1024 * 1024)):await() end)
      redio.sleep(0.03)
      local db = redis():incr(COUNTER):timeout(DEADLINE)
      local fired = loop_timer(DEADLINE)
      local seconds, err = fixtures.time(check.raises, "TimeoutError", db.await, db)
      own:resume()
      assert_on_time(seconds, DEADLINE, fired())
      assert.matches("writ", err.message)
      large:await()
      redio.sleep(0.05)
      assert.is_nil((redis():get(COUNTER):await()))
    end)
  end)

  it("An await that is out of time before the loop comes to write it is never sent", function()
    local redis = it_needs:client(shared.url)
    check.within(5, function()
      redis():ping():await()
      local task = redio.spawn(function()
        local db = redis():incr(COUNTER):timeout(0.02)
        return check.raises("TimeoutError", db.await, db)
      end)
      local busy = redio.spawn(function() uv.sleep(50) end) -- runs after it in the same turn
      local err = task:await()
      busy:await()
      redio.sleep(0.05)
      assert.is_nil((observer():get(COUNTER):await()))
      assert.are.equal("no", err.sent)
    end)
  end)

  it("An await that is in time is not disturbed by its deadline, nor is the next", function()
    local redis = it_needs:client(shared.url)
    check.within(5, function()
      local db = redis()
      assert.are.equal(1, (db:incr(COUNTER):timeout(0.03):await()))
      redio.sleep(0.05)
      assert.are.equal(2, (db:incr(COUNTER):await()))
    end)
  end)
end)
