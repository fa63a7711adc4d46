-- SPDX-License-Identifier: MIT
-- Promise 7, at most once: a command that may have been sent is not sent again, read-only ones outside transactions
-- aside. The error says whether it may have been. INCR under 1,000 random resets: ok <= counter <= ok + maybe.

local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local randoms = require "spec.support.random"
local server = require "spec.support.server"

local PREFIX = "spec:promise7:"
local COUNTER = PREFIX .. "counter"
local RESETS = 500 -- under each protocol
local WORKERS = 20

describe("Promise 7: at most once.", function()
  local shared, observer, proxy, redis

  setup(function()
    shared = server.shared()
    observer = redio.Redis(shared.url)
  end)

  before_each(function()
    observer():del(COUNTER):await()
  end)

  after_each(function()
    redis:close { drain = 0 }
    proxy:stop()
    check.wipe(observer, PREFIX)
  end)

  teardown(function()
    observer:close()
  end)

  local function start(options)
    proxy = proxies.start(shared)
    redis = redio.Redis(proxy.url, options)
  end

  local function counter()
    return tonumber((observer():get(COUNTER):await())) or 0
  end

  -- Ends all connections: now, or in the middle of what comes next.
  local function reset(random)
    local how, choice = random { "fin", "rst" }, random()
    if choice < 0.4 then
      proxy:cut(how)
      return
    end
    local connection = proxy.connections[#proxy.connections]
    local direction = choice < 0.7 and "up" or "down"
    proxy[direction].how, proxy[direction].cut = how, connection[direction].passed + random(60)
    while not connection.closed do
      redio.sleep(0.001)
    end
    proxy[direction].cut = nil
  end

  describe("INCR under random resets:", function()
    for protocol = 2, 3 do
      it(("ok <= counter <= ok + maybe, over RESP%d"):format(protocol), function()
        local random = randoms.new "promise 7"
        start { protocol = protocol, retry = { base = 0.001, cap = 0.002, max = 5 } }
        local counts = { ok = 0, maybe = 0, no = 0 }
        local over, resets = false, 0
        check.within(30, function()
          local workers = {}
          for w = 1, WORKERS do
            workers[w] = redio.spawn(function()
              while not over do
                local ok, err = pcall(function() redis():incr(COUNTER):await() end)
                local outcome = ok and "ok" or err.sent
                counts[outcome] = counts[outcome] + 1
                redio.sleep(random() * 0.002)
              end
            end)
          end
          while resets < RESETS do
            redio.sleep(random() * 0.004)
            local last = proxy.connections[#proxy.connections]
            if last and not last.closed then
              reset(random)
              resets = resets + 1
            end
          end
          over = true
          for w = 1, WORKERS do
            workers[w]:await()
          end
        end)
        local total = counter()
        print(("%d resets, %d connections: ok %d, maybe %d, no %d, counter %d"):format(resets, proxy.accepted,
          counts.ok, counts.maybe, counts.no, total))
        assert.is_true(counts.maybe >= RESETS / 2, "hardly one was in flight")
        assert.is_true(counts.ok <= total, "an INCR that was confirmed is missing")
        assert.is_true(total <= counts.ok + counts.maybe, "an INCR was executed twice")
      end)
    end
  end)

  -- Sends by `fn`, and resets the connection when the server has executed it and its replies are held back; then
  -- `fn`'s own outcome.
  local function executed_then_reset(fn)
    return check.within(5, function()
      redis():ping():await()
      proxy.down.hold = true
      local task = redio.spawn(function()
        local ok, result = pcall(fn, redis())
        return ok, result
      end)
      redio.sleep(0.03)
      proxy:cut "rst"
      proxy.down.hold = nil
      return task:await()
    end)
  end

  it("INCR that was executed, with its reply lost, raises with sent = maybe, and is not sent again", function()
    start()
    local ok, err = executed_then_reset(function(db) return db:incr(COUNTER):await() end)
    assert.is_false(ok)
    assert.are.equal("maybe", err.sent)
    assert.are.equal(1, counter())
  end)

  it("so does a chain of reading and writing commands", function()
    start()
    local ok, err = executed_then_reset(function(db) return db:get(COUNTER):incr(COUNTER):get(COUNTER):await() end)
    assert.are.same({ false, "maybe" }, { ok, err.sent })
    assert.are.equal(1, counter())
  end)

  it("GET is read again over a new connection, unnoticed", function()
    start()
    observer():set(COUNTER, 7):await()
    local ok, value = executed_then_reset(function(db) return (db:get(COUNTER):await()) end)
    assert.are.same({ true, "7" }, { ok, value })
    assert.are.equal(2, proxy.accepted)
  end)

  it("GET in a transaction is not", function()
    start()
    local ok, err = executed_then_reset(function(db) return db:multi():get(COUNTER):exec():await() end)
    assert.are.same({ false, "maybe" }, { ok, err.sent })
    assert.are.equal(1, proxy.accepted)
  end)

  it("What was not sent says sent = no, and is not executed", function()
    start { retry = false }
    proxy.refuse = true
    local err = check.within(5, check.raises, "ConnectionError", function() redis():incr(COUNTER):await() end)
    assert.are.equal("no", err.sent)
    assert.are.equal(0, counter())
  end)

  it("What was queued on a connection and not yet written when it was lost goes out whole over the next", function()
    start { retry = { base = 0.001, cap = 0.002, max = 10 } }
    check.within(5, function()
      redis():ping():await()
      local large = ("x"):rep(100000)
      proxy:cut()
      redio.sleep(0) -- the loop reads of it behind what is submitted now
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = redio.spawn(function()
          return redis():incr(COUNTER):echo(large .. i):incr(COUNTER):echo "end":await()
        end)
      end
      for i = 1, 5 do
        local first, echoed, second, last = tasks[i]:await()
        assert.are.same({ first + 1, large .. i, "end" }, { second, echoed, last })
      end
    end)
    assert.are.equal(10, counter())
    assert.are.equal(2, proxy.accepted)
  end)

  it("GET beside a large argument is not read again: what is large is not kept", function()
    start()
    observer():set(COUNTER, 7):await()
    local ok, err = executed_then_reset(function(db) return db:get(COUNTER):echo(("x"):rep(100000)):await() end)
    assert.are.same({ false, "maybe" }, { ok, err.sent })
  end)

  it("What was not sent is tried again, and then executed once", function()
    start { retry = { base = 0.01, cap = 0.02, max = 1000 } }
    proxy.refuse = true
    check.within(5, function()
      local task = redio.spawn(function() return redis():incr(COUNTER):await() end)
      redio.sleep(0.1)
      proxy.refuse = false
      assert.are.equal(1, (task:await()))
    end)
    assert.are.equal(1, counter())
  end)
end)
