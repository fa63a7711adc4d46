-- SPDX-License-Identifier: MIT
-- Promise 22, callbacks: an error of any type in user code that redio runs or resumes never stops the loop or corrupts
-- a connection. User code may call back into redio.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local child = require "spec.support.child"
local fixtures = require "spec.support.fixtures"

-- Errors of every type, `nil` last.
local ERRORS = { "a string", { "a table" }, setmetatable({}, { __tostring = function() error "not even this" end }), 42,
  true, print, redio.errors.new("WatchError", "one of redio's"), nil }
local COUNT = 8

describe("Promise 22, callbacks:", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  local function closing(receiver, fn, ...)
    local ok, err = pcall(fn, ...)
    receiver:close()
    if not ok then error(err, 0) end
  end

  -- Where user code runs. Each entry calls `user` from within redio, awaits what came of it, and so raises
  -- what `user` raises.
  local entries = {
    ["a decoder"] = function(redis, user)
      redis():set("spec:p22", "v"):get("spec:p22"):get("spec:p22"):decoder(user):await()
    end,
    ["the decoder of a client"] = function(_, user)
      it_needs:client(shared.url, { decode = user })():echo "x":await()
    end,
    ["json.encode"] = function(_, user)
      it_needs:client(shared.url, { json = { encode = user, decode = user } })():set("spec:p22", { 1 }):await()
    end,
    ["on_connect, shared"] = function(_, user)
      it_needs:client(shared.url, { retry = false, on_connect = user })():ping():await()
    end,
    ["on_connect, private"] = function(_, user)
      it_needs:client(shared.url, { retry = false, on_connect = user }):connection():ping():await()
    end,
    ["on_connect, receiver"] = function(_, user)
      it_needs:client(shared.url, { retry = false, on_connect = user }):pubsub "spec:p22":connect()
    end,
    ["a transaction"] = function(redis, user) redis:transaction("spec:p22", user) end,
    ["with_connection"] = function(redis, user) redis:with_connection(user) end,
    ["with_timeout"] = function(_, user) redio.with_timeout(1, user) end,
    ["gather"] = function(redis, user)
      redio.gather(function() redis():ping():await() end, user, function()
        redis():blpop("spec:p22:none", 1):await()
      end)
    end,
    ["a task"] = function(_, user) redio.spawn(user):await() end,
    ["a task, after an await"] = function(redis, user)
      redio.spawn(function()
        redis():ping():await()
        user()
      end):await()
    end,
    ["a receiver's decoder"] = function(redis, user)
      local receiver = redis:pubsub "spec:p22":decoder(user):connect()
      redis():publish("spec:p22", "m"):await()
      closing(receiver, receiver.await, receiver)
    end,
    ["a view's decoder"] = function(redis, user)
      local receiver = redis:pubsub "spec:p22":connect()
      local view = receiver:channel "spec:p22"
      redis():publish("spec:p22", "m"):await()
      closing(receiver, view.get, view, { decoder = user })
    end,
    ["resubscribe"] = function(_, user)
      local publisher = it_needs:client(shared.url)
      local line = it_needs:proxy()
      local client = it_needs:client(line.url, { retry = { base = 0.001, cap = 0.002 } })
      local receiver = client:pubsub "spec:p22:again":resubscribe(user):connect()
      local waiting = redio.spawn(function() return receiver:await() end)
      redio.sleep(0)
      line:cut "rst"
      redio.sleep(0.01)
      check.eventually(function()
        return waiting:status() ~= "waiting" or publisher():publish("spec:p22:again", "m"):await() == 1
      end)
      closing(receiver, waiting.await, waiting)
    end,
    ["an iterator's body"] = function(redis, user)
      redis():set("spec:p22", "v"):await()
      for _ in redis:scan { match = "spec:p22*" } do
        user()
      end
    end,
  }

  -- Twenty coroutines ECHO all the while: their replies stay their own, on one connection.
  local function amid_traffic(redis, fn)
    local tasks, over = {}, false
    for i = 1, 20 do
      tasks[i] = redio.spawn(function()
        local round = 0
        while not over do
          round = round + 1
          local token = i .. ":" .. round
          assert.are.equal(token, (redis():echo(token):await()))
        end
      end)
    end
    redio.sleep(0)
    local ok, err = pcall(fn)
    over = true
    for i = 1, 20 do
      tasks[i]:await()
    end
    if not ok then error(err, 0) end
  end

  for name, enter in pairs(entries) do
    it("an error of any type from " .. name, function()
      local redis = it_needs:client(shared.url, { retry = false })
      check.within(10, function()
        local id = redis():client_id():await()
        for i = 1, COUNT do
          local sent = ERRORS[i]
          amid_traffic(redis, function()
            local ok, err = pcall(enter, redis, function() error(sent, 0) end)
            assert.is_false(ok, name)
            if name:find "on_connect" then
              assert.is_true(redio.errors.is(err), tostring(err)) -- the connection could not be made
            elseif name == "json.encode" then
              assert.matches("SET", tostring(err)) -- it is a call that was wrong, at the caller's line
            elseif type(sent) == "string" then
              assert.matches(sent, tostring(err), 1, true)
            else
              assert.is_true(rawequal(sent, err), ("%s: %s"):format(name, type(err)))
            end
          end)
        end
        assert.are.equal(id, (redis():client_id():await()))
        redis():del "spec:p22":await()
        local stats = redis:stats()
        assert.are.equal(0, stats.in_flight)
        assert.are.equal(0, stats.waiting)
      end)
    end)

    it("calling back in from " .. name, function()
      local redis = it_needs:client(shared.url, { retry = false })
      check.within(10, function()
        local id, called = redis():client_id():await(), 0
        amid_traffic(redis, function()
          local function user()
            called = called + 1
            local token = "back " .. called
            assert.are.equal(token, (redis():echo(token):await()))
            redis:with_connection(function(db) assert.are.equal("private", (db:echo "private":await())) end)
            assert.are.equal("task", redio.spawn(function() return redis():echo "task":await() end):await())
            redio.sleep(0.001)
            redis:stats()
            return "decoded"
          end
          local ok, err = pcall(enter, redis, user)
          -- (the await may fail: the client's `json` is none)
          assert(ok or redio.errors.is(err), tostring(err))
        end)
        assert.is_true(called > 0)
        assert.are.equal(id, (redis():client_id():await()))
        redis():del "spec:p22":await()
      end)
    end)
  end

  it("closing the client from within each of them", function()
    for name, enter in pairs(entries) do
      local redis = it_needs:client(shared.url, { retry = false })
      local ok, err = pcall(check.within, 5, function()
        redis():ping():await()
        pcall(enter, redis, function() redis:close { drain = 0 } end)
        check.raises("PoolClosedError", function() redis():ping():await() end)
      end)
      assert(ok, name .. ": " .. tostring(err))
    end
  end)

  it("an on_connect that waits for the very client it is greeting for ends with its deadline, not in a hang", function()
    local redis
    redis = it_needs:client(shared.url, {
      retry = false, connect_timeout = 0.1, on_connect = function() redis():ping():await() end,
    })
    check.within(5, function()
      check.raises("TimeoutError", function() redis():ping():await() end)
    end)
  end)

  it("a coroutine that foreign code resumes while it waits for its reply: an error there, no mix-up", function()
    local redis = it_needs:client(shared.url, { retry = false })
    check.within(5, function()
      redis():ping():await()
      for _, foreign in ipairs { 1, "OK", false, print } do
        local co = coroutine.create(function() return redis():echo "mine":await() end)
        assert.is_true(coroutine.resume(co))
        local ok, err = coroutine.resume(co, foreign, "not yours")
        assert.is_false(ok)
        assert.matches("other code resumed it", tostring(err))
        assert.are.equal("next", (redis():echo "next":await()))
      end
    end)
  end)

  describe("that is not joined:", function()
    -- The output of a child process in which user code raises beside the work of others.
    local function outcome(code)
      return child.run_text(([[
        io.stdout:setvbuf "no"
        local redio = require "redio"
        local redis = redio.Redis(os.getenv "REDIS_URL")
        local task -- (kept: when a failed one is collected its error is the host's at once)
        local ERRORS = { "a string", { "a table" }, redio.errors.new("WatchError", "one of redio's"), n = 4 }
        local which = %s
        redio.run(function()
          %s
          redio.sleep(0.05)
          print(redis():echo "alive":await())
        end)
        redis:close()
        assert(task or true)
      ]]):format(code[1], code[2]), shared.url, 10)
    end

    for i, word in ipairs { "a string", "table: ", "one of redio's", "nil" } do
      it("a plain coroutine's error reaches the host's policy, named: " .. word, function()
        local output, status = outcome { i, [[
          coroutine.wrap(function()
            redis():ping():await()
            error(ERRORS[which], 0)
          end)()
        ]] }
        assert.matches(word, output, 1, true)
        assert.are_not.equal(0, status)
        assert.are_not.equal(124, status)
      end)

      -- (of a table or nil the interpreter itself says no more than that it is one, if that)
      it("a task's error is raised by run, and the rest goes on: " .. word, function()
        local output, status = outcome { i, [[
          task = redio.spawn(function()
            redis():ping():await()
            error(ERRORS[which], 0)
          end)
        ]] }
        assert.matches("^alive\n", output)
        if i ~= 2 and i ~= 4 then assert.matches(word, output, 1, true) end
        assert.are_not.equal(0, status)
        assert.are_not.equal(124, status)
      end)
    end
  end)
end)
