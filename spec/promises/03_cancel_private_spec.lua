-- SPDX-License-Identifier: MIT
-- Promise 3, cancel on a private connection: once a byte of a blocking command or of an open transaction is written, a
-- cancel closes the connection. The server no longer knows it, so that nothing is lost that it does for it later.

local uv = require "luv"
local redio = require "redio"
local check = require "spec.support.check"
local proxies = require "spec.support.proxy"
local server = require "spec.support.server"

local PREFIX = "spec:promise3:"
local NAME = "spec-promise3"

local function key(name)
  return PREFIX .. name
end

describe("Promise 3: a cancel on a private connection", function()
  local shared, observer, redis

  local function connections()
    return #check.clients(observer, NAME)
  end

  -- How long the server takes to have no more than `expected` connections of the client, in seconds.
  local function gone_within(expected)
    local before = uv.hrtime()
    while connections() > expected do
      local waited = (uv.hrtime() - before) / 1e9
      assert(waited < 2, "the connection is still there")
      redio.sleep(0.002)
    end
    return (uv.hrtime() - before) / 1e9
  end

  setup(function()
    shared = server.shared()
    observer = redio.Redis(shared.url)
  end)

  before_each(function()
    redis = redio.Redis(shared.url, { client_name = NAME })
  end)

  after_each(function()
    redis:close { drain = 0 }
    check.wipe(observer, PREFIX)
  end)

  teardown(function()
    observer:close()
  end)

  -- The ways to wait for an item that is not there.
  local waits = {
    ["BLPOP"] = function(db) db:blpop(key "list", 30):await() end,
    ["BLMOVE"] = function(db) db:blmove(key "list", key "other", "LEFT", "RIGHT", 30):await() end,
    ["BZPOPMIN"] = function(db) db:bzpopmin(key "sorted", 30):await() end,
    ["XREAD BLOCK"] = function(db) db:xread("BLOCK", 30000, "STREAMS", key "stream", "$"):await() end,
  }

  for name, wait in pairs(waits) do
    it(("that waits for %s makes CLIENT LIST lose it within 100 ms"):format(name), function()
      check.within(5, function()
        local task = redio.spawn(function() wait(redis()) end)
        assert.is_true(check.eventually(function() return connections() == 1 end))
        task:cancel()
        check.raises("CancelledError", task.await, task)
        assert.is_true(gone_within(0) < 0.1)
      end)
    end)
  end

  it("that waits for BLPOP eats no item that is pushed later", function()
    check.within(5, function()
      for round = 1, 20 do
        local task = redio.spawn(function() waits.BLPOP(redis()) end)
        assert.is_true(check.eventually(function() return connections() == 1 end))
        task:cancel()
        gone_within(0)
        observer():rpush(key "list", "item " .. round):await()
        assert.are.equal("item " .. round, (observer():lpop(key "list"):await()))
      end
    end)
  end)

  it("that comes when the reply with the item is on its way gives that reply to no other", function()
    local proxy = proxies.start(shared)
    local slow = redio.Redis(proxy.url, { client_name = NAME, max_connections = 1 })
    check.within(5, function()
      local task = redio.spawn(function() slow():blpop(key "list", 30):await() end)
      assert.is_true(check.eventually(function() return connections() == 1 end))
      proxy.down.hold = true
      observer():rpush(key "list", "item"):await()
      redio.sleep(0.02)
      task:cancel()
      proxy:release()
      local answer = slow():blpop(key "empty", 0.01):echo("own"):replies()
      assert.are.equal("own", answer[2])
    end)
    slow:close()
    proxy:stop()
  end)

  it("in an open transaction makes CLIENT LIST lose it, and leaves no half of it to the next caller", function()
    local proxy = proxies.start(shared)
    local narrow = redio.Redis(proxy.url, { client_name = NAME, max_connections = 1 })
    check.within(5, function()
      local task = redio.spawn(function()
        local db = narrow():multi():set(key "half", 1)
        db:await()
        proxy.down.hold = true
        db:set(key "half", 2):await()
      end)
      assert.is_true(check.eventually(function() return proxy.down.hold end))
      redio.sleep(0.02)
      assert.are.equal(1, connections())
      task:cancel()
      check.raises("CancelledError", task.await, task)
      assert.is_true(gone_within(0) < 0.1)
      proxy:release()
      narrow:with_connection(function(db)
        assert.are.equal("not queued", (db:echo("not queued"):await()))
      end)
      assert.is_nil((observer():get(key "half"):await()))
    end)
    narrow:close()
    proxy:stop()
  end)

  it("lets go of its place in the pool, so that the next caller gets a connection of its own", function()
    local narrow = redio.Redis(shared.url, { max_connections = 1, pool_timeout = 1, client_name = NAME })
    check.within(10, function()
      for round = 1, 20 do
        local task = redio.spawn(function() waits.BLPOP(narrow()) end)
        redio.sleep(0.005)
        task:cancel()
        local replies = narrow():blpop(key "empty", 0.01):echo(round):replies()
        assert.are.equal(tostring(round), replies[2])
      end
      assert.are.same({ 1, 1, 0 }, { narrow:stats().connections, narrow:stats().idle, narrow:stats().waiting })
    end)
    narrow:close()
  end)

  it("that still waits for a place in the pool closes nothing", function()
    local narrow = redio.Redis(shared.url, { max_connections = 1, client_name = NAME })
    check.within(5, function()
      local first = redio.spawn(function() return narrow():blpop(key "list", 30):await() end)
      local second = redio.spawn(function() return narrow():blpop(key "list", 30):await() end)
      redio.sleep(0.02)
      second:cancel()
      observer():rpush(key "list", "for the first", "left"):await()
      assert.are.same({ key "list", "for the first" }, (first:await()))
      assert.are.same({ "left" }, (observer():lrange(key "list", 0, -1):await()))
    end)
    narrow:close()
  end)
end)
