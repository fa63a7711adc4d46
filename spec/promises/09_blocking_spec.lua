-- SPDX-License-Identifier: MIT
-- Promise 9, blocking: a blocking command has a connection of its own. The client waits as long as the command itself
-- may take, and then the usual time for a reply (the grace).

local uv = require "luv"
local redio = require "redio"
local check = require "spec.support.check"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local PREFIX = "spec:promise9:"
local GRACE = 0.1

local function milliseconds(seconds)
  return math.floor(seconds * 1000 + 0.5)
end

local function key(name)
  return PREFIX .. name
end

describe("Promise 9: blocking commands.", function()
  local it_needs, own, observer, redis, name

  setup(function()
    own = server.start { "hz 100" } -- CLIENT PAUSE stops all clients; hz: for punctual timeouts
    observer = redio.Redis(own.url)
  end)

  before_each(function()
    it_needs = fixtures.new()
    redis, name = it_needs:client(own.url, { timeout = GRACE })
  end)

  after_each(function()
    it_needs:clear()
    check.wipe(observer, PREFIX)
  end)

  teardown(function()
    observer:close()
    own:stop()
  end)

  -- Starts `fn(handle)`, and returns its task and the server's view of its connection when it is blocked there.
  local function blocked(fn)
    local task = redio.spawn(fn, redis())
    local client
    for _ = 1, 200 do
      for _, each in ipairs(check.clients(observer, name)) do
        client = each.flags:find "b" and each or client
      end
      if client then
        break
      end
      redio.sleep(0.005)
    end
    assert(client, "nothing is blocked")
    return task, client
  end

  -- Each blocks for so many seconds, longer than the usual time for a reply.
  local commands = {
    BLPOP = function(db, seconds) return db:blpop(key "list", seconds):await() end,
    BRPOPLPUSH = function(db, seconds) return db:brpoplpush(key "list", key "other", seconds):await() end,
    BLMPOP = function(db, seconds) return db:call("BLMPOP", seconds, 1, key "list", "LEFT"):await() end,
    BZPOPMAX = function(db, seconds) return db:bzpopmax(key "sorted", seconds):await() end,
    ["XREAD BLOCK"] = function(db, seconds)
      return db:xread("BLOCK", milliseconds(seconds), "STREAMS", key "stream", "$"):await()
    end,
    WAIT = function(db, seconds) return db:set(key "k", 1):wait(1, milliseconds(seconds)):await() end,
  }

  for command, fn in pairs(commands) do
    it(("%s may take its own timeout, though that is longer than a reply may take"):format(command), function()
      check.within(5, function()
        local seconds = 3 * GRACE
        local taken, answer = fixtures.time(fn, redis(), seconds)
        assert.is_true(taken >= seconds - 0.01 and taken < seconds + GRACE, taken .. " s")
        assert.are.equal(command == "WAIT" and 0 or nil, answer)
      end)
    end)

    it(("%s that is not answered then fails after the grace, and not before"):format(command), function()
      check.within(5, function()
        redis():ping():await()
        local seconds = 2 * GRACE
        local task = blocked(function(db)
          return fixtures.time(check.raises, "TimeoutError", fn, db, seconds)
        end)
        own:pause()
        it_needs:finally(function() own:resume() end)
        local taken, err = task:await()
        own:resume()
        assert.are.equal("maybe", err.sent)
        assert.is_true(taken >= seconds + GRACE - 0.02 and taken < seconds + 2 * GRACE, taken .. " s")
      end)
    end)
  end

  it("WAIT under CLIENT PAUSE gets its answer when the pause is over, and no other", function()
    check.within(5, function()
      local task = redio.spawn(function() return redis():incr(key "n"):wait(1, 300):await() end)
      observer():client_pause(200, "ALL"):await()
      local n, replicas = task:await()
      assert.are.same({ 1, 0 }, { n, replicas })
    end)
  end)

  it("BLPOP under CLIENT PAUSE that outlasts timeout and grace fails, and eats no item later", function()
    check.within(5, function()
      redis():ping():await()
      observer():client_pause(700, "WRITE"):await()
      local taken, err = fixtures.time(check.raises, "TimeoutError", commands.BLPOP, redis(), 0.1)
      assert.is_true(math.abs(taken - 0.1 - GRACE) < 0.05, taken .. " s")
      assert.are.equal("maybe", err.sent)
      observer():rpush(key "list", "item"):await() -- waits for the end of the pause
      assert.are.same({ "item" }, (observer():lrange(key "list", 0, -1):await()))
    end)
  end)

  it("BLPOP for ever is waited for as long as it takes", function()
    check.within(5, function()
      local task = blocked(function(db) return commands.BLPOP(db, 0) end)
      redio.sleep(3 * GRACE)
      observer():rpush(key "list", "item"):await()
      assert.are.same({ key "list", "item" }, (task:await()))
    end)
  end)

  it("Each has a connection of its own, so that no other command waits behind it", function()
    check.within(5, function()
      local _, client = blocked(function(db) pcall(commands.BLPOP, db, 1) end)
      local before = uv.hrtime()
      assert.are_not.equal(client.id, ("%d"):format((redis():client_id():await())))
      assert.are.equal("quick", (redis():echo "quick":await()))
      assert.is_true(uv.hrtime() - before < 1e8)
    end)
  end)

  it("After it the usual time for a reply holds again on that connection", function()
    check.within(5, function()
      redis:with_connection(function(db)
        commands.BLPOP(db, 0.01)
        own:pause()
        it_needs:finally(function() own:resume() end)
        local taken = fixtures.time(check.raises, "TimeoutError", function() db:ping():await() end)
        own:resume()
        assert.is_true(math.abs(taken - GRACE) < 0.05, taken .. " s")
      end)
    end)
  end)

  it("CLIENT UNBLOCK answers it as if its time were over", function()
    check.within(5, function()
      local task, client = blocked(function(db) return commands.BLPOP(db, 4) end)
      observer():client_unblock(client.id):await()
      assert.is_nil((task:await()))
    end)
  end)

  it("CLIENT UNBLOCK ... ERROR raises UnblockedError, and the connection is used again", function()
    check.within(5, function()
      local task, client = blocked(function(db) return commands.BLPOP(db, 4) end)
      observer():client_unblock(client.id, "ERROR"):await()
      local err = check.raises("UnblockedError", task.await, task)
      assert.are.same({ "UNBLOCKED", "yes" }, { err.code, err.sent })
      local again, same = blocked(function(db) return commands.BLPOP(db, 4) end)
      assert.are.equal(client.id, same.id)
      observer():rpush(key "list", "item"):await()
      assert.are.same({ key "list", "item" }, (again:await()))
    end)
  end)

  it("CLIENT KILL raises ConnectionClosedError with sent = maybe, and it is not sent again", function()
    check.within(5, function()
      local task, client = blocked(function(db) return commands.BLPOP(db, 4) end)
      observer():client_kill("ID", client.id):await()
      local err = check.raises("ConnectionClosedError", task.await, task)
      assert.are.equal("maybe", err.sent)
      redio.sleep(0.05)
      assert.are.equal("0", check.info(observer, "clients").blocked_clients)
      observer():rpush(key "list", "item"):await()
      assert.are.same({ key "list", "item" }, (commands.BLPOP(redis(), 1)))
    end)
  end)
end)
