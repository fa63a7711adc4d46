-- SPDX-License-Identifier: MIT
-- Promise 4, fail closed: after a protocol error, a stray reply, a failed handshake or a write error the connection is
-- dead. All waits on it end with the error, and it is never used again.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"
local cases = require "spec.support.resp_cases"

local WAITERS = 20

describe("Promise 4, fail closed:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- Starts waiters that each run `fn(i)` again and again until that raises; the list of their errors,
  -- to be read when all have ended, and how many calls went well.
  local function start_waiters(fn)
    local tasks, errors, state = {}, {}, { calls = 0 }
    for i = 1, WAITERS do
      tasks[i] = redio.spawn(function()
        local ok, err
        repeat
          ok, err = pcall(fn, i, state.calls)
          if ok then state.calls = state.calls + 1 end
        until not ok
        errors[i] = err
      end)
    end
    return tasks, errors, state
  end

  local function join(tasks)
    for _, task in ipairs(tasks) do
      task:await()
    end
  end

  -- The pairing oracle: the reply has to be what was sent.
  local function echo_on(redis)
    return function(i, round)
      local token = ("token %d %d"):format(i, round)
      local answer = redis():echo(token):await()
      if answer ~= token then error("PAIRING: " .. tostring(answer) .. " for " .. token, 0) end
    end
  end

  -- Bytes slip into the traffic of 20 coroutines; each gets one error, of that kind, and what follows
  -- goes over another connection.
  local function inject_into_traffic(bytes, options, kinds)
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url, options)
    check.within(5, function()
      local tasks, errors, state = start_waiters(echo_on(redis))
      check.eventually(function() return state.calls > 2 * WAITERS end)
      local used = #line.connections
      line:inject("down", bytes)
      join(tasks)
      for i = 1, WAITERS do
        local err = errors[i]
        assert(redio.errors.is(err), tostring(err))
        assert(kinds[err.kind], tostring(err))
        assert(err.sent == "maybe" or err.sent == "no") -- (no: it was to leave in the next write)
        for other = 1, i - 1 do
          assert.is_false(rawequal(err, errors[other]))
        end
      end
      assert.are.equal(used, #line.connections)
      assert.are.equal("after", (redis():echo "after":await()))
      assert.are.equal(used + 1, #line.connections)
      -- (the proxy closes its end when it has seen ours closed)
      assert.is_true(check.eventually(function() return line:open_connections() == 1 end))
    end)
    it_needs:clear()
  end

  local ERROR_OF_PROTOCOL = { ProtocolError = true }

  for _, protocol in ipairs { 2, 3 } do
    it(("each refused vector in mid-traffic of 20 waiters (RESP%d)"):format(protocol), function()
      local count = 0
      for _, case in ipairs(cases) do
        if case.kind == "refused" then
          count = count + 1
          local ok, err = pcall(inject_into_traffic, case.bytes,
            { protocol = protocol, retry = false, limits = case.limits, timeout = 2 }, ERROR_OF_PROTOCOL)
          if not ok then error(case.name .. ": " .. tostring(err.message or err), 0) end
        end
      end
      assert.is_true(count >= 60, count .. " vectors")
    end)
  end

  it("a connection of the pool that got such bytes is not pooled, and its transaction's state goes with it", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url, { retry = false, max_connections = 1 })
    check.within(5, function()
      local db = redis()
      db:watch "k":await()
      assert.are.equal(1, redis:stats().connections)
      line.up.hold = true
      local waiting = redio.spawn(function() db:get "k":await() end)
      redio.sleep(0.02)
      line:inject("down", "@\r\n")
      check.raises("ProtocolError", waiting.await, waiting)
      line:release()
      assert.are.equal(0, redis:stats().connections)
      redis:with_connection(function(another)
        assert.are.equal("whole", (another:echo "whole":await()))
      end)
      assert.are.equal(2, line.accepted)
    end)
  end)

  it("a stray reply, on an idle connection: shared, pooled, pinned", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url, { retry = false })
    check.within(5, function()
      redis():echo "shared":await()
      local private = redis:connection()
      private:echo "pinned":await()
      redis():blpop("spec:p4:none", 0.01):await() -- leaves an idle connection in the pool
      assert.are.equal(3, redis:stats().connections)
      line:inject("down", "+OK\r\n")
      assert.is_true(check.eventually(function() return redis:stats().connections == 0 end))
      check.raises("ProtocolError", function() private:echo "again":await() end)
      assert.are.equal("fresh", (redis():echo "fresh":await()))
    end)
  end)

  it("a receiver that is sent what is no message: a reply, an error", function()
    for text, kind in pairs { ["+OK"] = "ProtocolError", [":1"] = "ProtocolError", ["-ERR no"] = "ReplyError" } do
      local line = it_needs:proxy()
      local redis = it_needs:client(line.url)
      check.within(5, function()
        local receiver = redis:pubsub "spec:p4":connect()
        local waiting = redio.spawn(function() receiver:await() end)
        redio.sleep(0)
        line:inject("down", text .. "\r\n")
        check.raises(kind, waiting.await, waiting)
        assert.are.equal(0, redis:stats().connections)
        receiver:close()
      end)
    end
  end)

  -- After a stray reply, which came with the one before: the next command is answered, or fails because the connection
  -- was closed. The commands after it succeed, over another connection.
  local function assert_told_or_answered(redis, sent)
    local ok, answer = pcall(function() return redis():echo "mine":await() end)
    if ok then
      assert.are.equal("mine", answer)
    else
      assert.is_true(redio.errors.is(answer, "ProtocolError"), tostring(answer))
      assert.truthy(sent[answer.sent], tostring(answer))
    end
    assert.are.equal("mine", (redis():echo "mine":await()))
  end

  it("an EVAL that is answered `-ERR a` or `+a`, `+X`: the first is its own, the X is stray", function()
    for reply, kind in pairs { ["-ERR a"] = "ReplyError", ["+a"] = false } do
      local one = it_needs:fake(function(connection, words)
        if words[1] == "EVAL" then return reply .. "\r\n+X\r\n" end
        return ("$%d\r\n%s\r\n"):format(#words[2], words[2]), connection
      end)
      local redis = it_needs:client(one.url, { retry = false })
      check.within(5, function()
        local ok, answer = pcall(function() return redis():eval("...", 0):await() end)
        assert.are.equal(not kind, ok)
        assert.are.equal("a", ok and answer or answer.message)
        assert_told_or_answered(redis, { no = true }) -- asked before the X was noticed, and not yet sent
        assert.are.equal(2, one.accepted)
      end)
    end
  end)

  it("a real server's script cannot smuggle a reply in by its error", function()
    local redis = it_needs:client(server.shared().url, { retry = false })
    for _, source in ipairs {
      [[return redis.error_reply("ERR a\r\n+X")]], [[return {err = "ERR a\r\n+X"}]], [[error("a\r\n+X")]],
      [[return redis.status_reply("a\r\n+X")]],
    } do
      -- Some servers let such a status out as it is: two replies, of which one is stray.
      local is_one = server.shared():cli("eval", source, "0"):find("+X", 1, true)
      check.within(5, function()
        pcall(function() redis():eval(source, 0):await() end)
        if is_one then
          assert.are.equal("mine", (redis():echo "mine":await()))
        else
          assert_told_or_answered(redis, { no = true, maybe = true })
        end
      end)
    end
  end)

  -- Twenty callers wait for a connection, and its handshake goes wrong.
  local function fail_handshake(handler, kind, options)
    local one = it_needs:fake(handler, { protocol = false })
    options = options or {}
    options.retry = false
    local redis = it_needs:client(one.url, options)
    check.within(5, function()
      local tasks, errors = start_waiters(echo_on(redis))
      join(tasks)
      for i = 1, WAITERS do
        assert(redio.errors.is(errors[i], kind), tostring(errors[i]))
        assert.are.equal("no", errors[i].sent)
      end
      assert.are.equal(0, redis:stats().connections)
    end)
    for _, request in ipairs(one.requests) do
      assert.are_not.equal("ECHO", request[1])
    end
  end

  it("a handshake that is refused, answered by nonsense, or by too much", function()
    local secret = { password = "hidden" }
    fail_handshake(function() return "-WRONGPASS invalid username-password pair\r\n" end, "AuthError", secret)
    fail_handshake(function() return "-NOAUTH HELLO must be called with the client already authenticated\r\n" end,
      "AuthError")
    fail_handshake(function() return "HTTP/1.1 400 Bad Request\r\n\r\n" end, "ProtocolError")
    fail_handshake(function() return "%1\r\n$5\r\nproto\r\n:3\r\n+more\r\n" end, "ProtocolError", { database = 0 })
    fail_handshake(function(_, words)
      return words[1] == "SELECT" and "-ERR DB index is out of range\r\n" or "%1\r\n$5\r\nproto\r\n:3\r\n"
    end, "ReplyError", { database = 9 })
  end)

  it("an on_connect that raises", function()
    local redis = it_needs:client(server.shared().url, {
      retry = false,
      on_connect = function() error "not like this" end,
    })
    check.within(5, function()
      local tasks, errors = start_waiters(echo_on(redis))
      join(tasks)
      for i = 1, WAITERS do
        assert(redio.errors.is(errors[i], "ConnectionError"), tostring(errors[i]))
        assert.matches("not like this", errors[i].message)
      end
      assert.are.equal(0, redis:stats().connections)
    end)
  end)

  it("a write error: the peer resets while 20 callers write more than its buffers hold", function()
    local one
    one = it_needs:fake(function(connection)
      connection.handle:read_stop()
      redio.spawn(function()
        redio.sleep(0.05)
        connection:reset()
      end)
    end)
    local redis = it_needs:client(one.url, { retry = false })
    local large = ("x"):rep(1024 * 1024)
    check.within(5, function()
      local tasks, errors = start_waiters(function(i) redis():set("spec:p4:" .. i, large):await() end)
      join(tasks)
      local told, lost = 0, 0
      for i = 1, WAITERS do
        told = told + (redio.errors.is(errors[i], "ConnectionError") and 1 or 0)
        lost = lost + (errors[i].sent == "maybe" and 1 or 0)
      end
      assert.are.equal(WAITERS, told)
      assert.is_true(lost >= 1)
      assert.are.equal(0, redis:stats().connections)
    end)
  end)
end)
