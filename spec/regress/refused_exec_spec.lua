-- SPDX-License-Identifier: MIT
-- A connection on which MULTI was still open served others: EXEC was renamed away, or refused in another way than by
-- EXECABORT, or on_connect had left something behind. The others got "QUEUED" for their values, or waited for ever.

local check = require "spec.support.check"
local fake = require "spec.support.fake"
local redio = require "redio"
local server = require "spec.support.server"

describe("A MULTI that stays open", function()
  local without_exec

  setup(function()
    without_exec = server.start { 'rename-command EXEC ""', 'rename-command DISCARD ""' }
  end)

  teardown(function()
    without_exec:stop()
  end)

  local function alive(redis, times)
    for i = 1, times do
      redis():set("k" .. i, i):await()
      assert.are.equal(tostring(i), redis():get("k" .. i):await())
    end
  end

  for _, protocol in ipairs { 2, 3 } do
    for _, multiplex in ipairs { true, false } do
      it(("ends its connection (RESP%d, multiplex %s)"):format(protocol, tostring(multiplex)), function()
        redio.run(function()
          local redis = redio.Redis(without_exec.url, { protocol = protocol, multiplex = multiplex, timeout = 2 })
          for _ = 1, 3 do
            alive(redis, 3)
            local err = check.raises("ReplyError", function()
              redis():multi():incr("n"):exec():await()
            end)
            assert.are.equal("EXEC", err.command)
          end
          alive(redis, 3)
          check.raises("ReplyError", function()
            redis():multi():incr("n"):discard():await()
          end)
          alive(redis, 3)
          pcall(redis.transaction, redis, "k1", function(db)
            db:incr("n")
          end)
          alive(redis, 3)
          redis:close()
        end)
      end)
    end
  end

  it("ends a pinned connection, too", function()
    redio.run(function()
      local redis = redio.Redis(without_exec.url, { timeout = 2 })
      local db = redis:connection()
      db:multi():await()
      db:incr("n"):await()
      check.raises("ReplyError", function()
        db:exec():await()
      end)
      check.raises("ProtocolError", function()
        db:get("k1"):await()
      end)
      db:close()
      redis:close()
    end)
  end)

  it("is never given as a value: a QUEUED that was not to come ends the connection", function()
    for _, protocol in ipairs { 2, 3 } do
      local peer = fake.start(function(_, words)
        return words[1] == "GET" and "+QUEUED\r\n" or "+OK\r\n"
      end, { protocol = protocol })
      redio.run(function()
        local redis = redio.Redis(peer.url, { retry = false })
        for _, await in ipairs { "await", "replies" } do
          check.raises("ProtocolError", function()
            local db = redis():set("a", 1):get("a"):set("b", 2)
            db[await](db)
          end)
        end
        redis:close()
      end)
      peer:stop()
    end
  end)
end)

describe("on_connect", function()
  local left = {
    MULTI = function(db)
      db:multi():await()
    end,
    ["MULTI and a command"] = function(db)
      db:multi():await()
      db:incr("n"):await()
    end,
    WATCH = function(db)
      db:watch("k"):await()
    end,
    ["CLIENT REPLY OFF"] = function(db)
      db:client_reply("OFF"):await()
    end,
    ["CLIENT REPLY SKIP"] = function(db)
      db:client_reply("SKIP"):await()
    end,
    ["CLIENT REPLY OFF, in one text"] = function(db)
      db:call("client reply off"):await()
    end,
    QUIT = function(db)
      db:quit():await()
    end,
  }
  for what, fn in pairs(left) do
    it("fails the connection that it leaves unfit for others: " .. what, function()
      check.within(10, function()
        local redis = redio.Redis(server.shared().url, { on_connect = fn, retry = false, timeout = 1 })
        for _ = 1, 2 do
          check.raises("ConnectionError", function()
            redis():get("k"):await()
          end)
          check.raises("ConnectionError", function()
            redis():blpop("k", 0.01):await()
          end)
        end
        redis:close()
      end)
    end)
  end

  it("may undo what it does, and leave a name or a database", function()
    check.within(10, function()
      local redis = redio.Redis(server.shared().url, {
        on_connect = function(db)
          db:multi():await()
          db:incr("n"):await()
          db:discard():await()
          db:watch("k"):unwatch():await()
          db:client_reply("OFF"):client_reply("ON"):client_setname("greeted"):select(5):await()
        end,
      })
      assert.is_truthy(redis():client_info():await():find("db=5 ", 1, true))
      assert.is_truthy(redis():client_info():await():find("name=greeted ", 1, true))
      redis:close()
    end)
  end)
end)
