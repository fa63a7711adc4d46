-- SPDX-License-Identifier: MIT
-- Promise 23, GC and exit: a dropped client, handle, receiver or waiting coroutine leaks nothing. Finalizers do no I/O
-- and never yield. A program may end in any state, also by os.exit(0, true).

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local child = require "spec.support.child"
local fixtures = require "spec.support.fixtures"
local process = require "spec.support.process"

-- States, as programs: each leaves `keep` full of what is in that state.
local STATES = {
  ["loaded"] = "",
  ["never used"] = "keep[1] = client() keep[2] = keep[1]() keep[3] = keep[1]:pubsub 'c'",
  ["idle"] = "keep[1] = client() keep[1]():ping():await()",
  ["idle, with health checks"] = "keep[1] = client { health_check_interval = 0.01 } keep[1]():ping():await()",
  ["commands queued"] = "keep[1] = client() keep[2] = keep[1]():set('k', 1) keep[3] = keep[1]():multi()",
  ["connecting"] = "keep[1] = client() later(function() keep[1]():ping():await() end)",
  ["refused"] = "keep[1] = client({}, 'redis://127.0.0.1:1/') later(function() keep[1]():ping():await() end)",
  ["backing off"] = [[keep[1] = client({ retry = { base = 5, cap = 9, max = 9 } }, 'redis://127.0.0.1:1/')
    later(function() keep[1]():ping():await() end) pause()]],
  ["a reply in flight"] = "keep[1] = client() later(function() keep[1]():blpop('spec:p23', 0):await() end) pause()",
  ["many replies in flight"] = [[keep[1] = client() keep[1]():ping():await()
    for i = 1, 100 do later(function() keep[1]():get('k' .. i):call('DEBUG', 'SLEEP', '0.01'):await() end) end]],
  ["half written"] = [[keep[1] = client() keep[1]():ping():await()
    later(function() keep[1]():set('spec:p23:large', ('x'):rep(50000000)):await() end)]],
  ["watching"] = "keep[1] = client() keep[2] = keep[1]() keep[2]:watch('k'):await()",
  ["in MULTI"] = "keep[1] = client() keep[2] = keep[1]() keep[2]:multi():set('k', 1):await()",
  ["pinned"] = "keep[1] = client() keep[2] = keep[1]:connection() keep[2]:select(1):await()",
  ["waiting for the pool"] = [[keep[1] = client { max_connections = 1 }
    for i = 1, 3 do later(function() keep[1]():blpop('spec:p23', 0):await() end) end pause()]],
  ["a receiver, subscribed"] = "keep[1] = client() keep[2] = keep[1]:pubsub('c'):connect()",
  ["a receiver, waiting"] = [[keep[1] = client() keep[2] = keep[1]:pubsub('c'):resubscribe()
    later(function() keep[2]:await() end) pause()]],
  ["a receiver, full"] = [[keep[1] = client { queue_limit = 2 } keep[2] = keep[1]:pubsub('spec:p23:c'):connect()
    for i = 1, 10 do keep[1]():publish('spec:p23:c', i):await() end pause()]],
  ["a monitor"] = "keep[1] = client() keep[2] = keep[1]:monitor():connect()",
  ["a lock held"] = [[keep[1] = client()
    keep[2] = keep[1]:lock('spec:p23:lock', { timeout = 0.1 }) keep[2]:acquire()]],
  ["inside a transaction"] = [[keep[1] = client()
    later(function() keep[1]:transaction('k', function(db) db:get('k'):await() redio.sleep(9) end) end) pause()]],
  ["sleeping"] = "later(function() redio.sleep(9) end)",
  ["a task done"] = "redio.run(function() keep[1] = redio.spawn(print, 'task') redio.sleep(0.001) end)",
  ["lost"] = [[keep[1] = client { retry = false } keep[1]():ping():await()
    pcall(function() keep[1]():client_kill('SKIPME', 'no', 'ID', keep[1]():client_id():await()):await() end)]],
  ["closed"] = "keep[1] = client() keep[1]():ping():await() keep[1]:close()",
  ["closed with a reply in flight"] = [[keep[1] = client()
    later(function() keep[1]():blpop('spec:p23', 0):await() end) pause() keep[1]:close { drain = 0 }]],
  ["disconnected"] = "keep[1] = client() keep[1]():ping():await() keep[1]:disconnect()",
}

local HEAD = [[
  io.stdout:setvbuf "no"
  local redio = require "redio"
  local uv = require "luv"
  local keep = {} -- what the state is made of
  local function client(options, url) return redio.Redis(url or os.getenv "REDIS_URL", options) end
  -- a coroutine of its own, whose end is nobody's concern
  local function later(fn) coroutine.wrap(function() pcall(fn) end)() end
  local function pause() redio.sleep(0.02) end
  local function state()
    %s
  end
]]

-- Ways to end.
local ENDINGS = {
  ["the end of the script"] = "state() print 'end'",
  ["os.exit(0, true)"] = "state() print 'end' os.exit(0, true)",
  ["os.exit(0, true) inside the loop"] = "redio.run(function() state() print 'end' os.exit(0, true) end)",
  ["all dropped and collected, then the end"] = [[
    state() keep = nil collectgarbage() collectgarbage() uv.run "nowait" collectgarbage() print 'end']],
  ["an error"] = "state() print 'end' error({}, 0)",
}

describe("Promise 23, GC and exit:", function()
  local it_needs = fixtures.new()
  local shared

  setup(function()
    shared = server.shared()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Each state with each ending is a process of its own.
  for ending, code in pairs(ENDINGS) do
    it("in each state: " .. ending, function()
      for name, state in pairs(STATES) do
        local output, status = child.run_text(HEAD:format(state) .. code, shared.url, 10)
        local expected = ending == "an error" and 1 or 0
        assert.are.equal(expected, status, name .. ": " .. output)
        local rest = output:gsub("redio: warning: a handle was collected with [^\n]*\n", ""):gsub("^task\n", "")
        if ending == "an error" then
          assert.matches("^end\nlua[^\n]*: [^\n]*\n", rest:gsub("luajit", "lua"), name)
        else
          assert.are.equal("end\n", rest, name)
        end
      end
    end)
  end

  -- How many connections of that name the server sees.
  local function connections(observer, name)
    return #check.clients(observer, name)
  end

  it("dropped objects close their sockets, without help", function()
    local observer = it_needs:client(shared.url)
    check.within(60, function() -- (LuaJIT takes its time over the heap that the other specs have left)
      local drops = {
        client = function(redis) redis():ping():await() end,
        watching = function(redis) redis():watch("spec:p23"):await() end,
        multi = function(redis) redis():multi():set("spec:p23", 1):await() end,
        pinned = function(redis) redis:connection():select(1):await() end,
        receiver = function(redis) redis:pubsub("spec:p23"):connect() end,
        viewed = function(redis) redis:pubsub("spec:p23"):connect():channel "spec:p23" end,
        iterator = function(redis) redis:scan()() end,
      }
      for name, drop in pairs(drops) do
        drop(redio.Redis(shared.url, { client_name = "spec-p23-" .. name }))
      end
      for name in pairs(drops) do
        assert.is_true(check.eventually(function()
          process.collect()
          return connections(observer, "spec-p23-" .. name) == 0
        end), name)
      end
    end)
  end)

  it("a connection that only a dropped handle held is free for the next in the queue", function()
    local redis = it_needs:client(shared.url, { max_connections = 1, pool_timeout = 5 })
    check.within(10, function()
      redis():watch("spec:p23"):await()
      local waiting = redio.spawn(redis.with_connection, redis, function(db) return db:echo "mine":await() end)
      redio.sleep(0.01)
      process.collect()
      assert.are.equal("mine", waiting:await())
    end)
  end)

  it("finalizers do no I/O and never yield: collected in a coroutine, in the middle of a chain", function()
    local peer = it_needs:fake(function(_, words)
      return ("$%d\r\n%s\r\n"):format(#words[#words], words[#words])
    end)
    check.within(10, function()
      local redis = it_needs:client(peer.url)
      for _ = 1, 20 do
        local dropped = redio.Redis(peer.url)
        dropped():call("X", "1"):await()
        dropped():watch("k"):await()
        redis():echo("queued"):clear()
      end
      local before = #peer.requests
      local co = coroutine.create(function()
        process.collect()
        return "not yielded"
      end)
      assert.are.same({ true, "not yielded" }, { coroutine.resume(co) })
      assert.are.equal("dead", coroutine.status(co))
      local db = redis():echo "a"
      process.collect()
      assert.are.same({ "a", "b" }, { db:echo("b"):await() })
      redio.sleep(0.02)
      for i = before + 1, #peer.requests do
        assert.are.equal("ECHO", peer.requests[i][1]) -- no UNWATCH, no QUIT, nothing but ours
      end
    end)
  end)

  it("a waiting coroutine without references goes, or gets its reply; no other gets it", function()
    local redis = it_needs:client(shared.url)
    check.within(10, function()
      redis():ping():await()
      for i = 1, 100 do
        coroutine.wrap(function() redis():echo("forgotten " .. i):await() end)()
        if i % 10 == 0 then process.collect() end
        assert.are.equal("mine " .. i, (redis():echo("mine " .. i):await()))
      end
      assert.are.equal(0, redis:stats().in_flight)
    end)
  end)
end)
