-- SPDX-License-Identifier: MIT
-- Promise 29, no error is lost: an error that nothing awaits is reported once, within a second, with its traceback,
-- whatever the collector does. It ends no process, and redio.run raises it.

local uv = require "luv"
local redio = require "redio"
local child = require "spec.support.child"
local server = require "spec.support.server"
local fixtures = require "spec.support.fixtures"

local close_coroutine = rawget(coroutine, "close")

local function now()
  return uv.hrtime() / 1e9
end

-- How many tracebacks there are in a text.
local function tracebacks(text)
  local _, count = text:gsub("stack traceback:", "")
  return count
end

-- Ways in which nothing may come to await an error: each calls `fail` where it is raised, in the end.
local drops = {
  ["a task, at once"] = function(_, fail) redio.spawn(fail) end,
  ["a task, after a wait"] = function(redis, fail)
    redio.spawn(function()
      redis():ping():await()
      fail()
    end)
  end,
  ["a task that is kept and not awaited"] = function(_, fail, keep) keep.task = redio.spawn(fail) end,
  ["a task whose joiner was cancelled"] = function(_, fail)
    local task = redio.spawn(function()
      redio.sleep(0.02)
      fail()
    end)
    local joiner = redio.spawn(task.await, task)
    redio.sleep(0)
    joiner:cancel()
  end,
  ["a task that was awaited for a time"] = function(_, fail)
    local given_up
    local task = redio.spawn(function()
      repeat
        redio.sleep(0.005)
      until given_up
      fail()
    end)
    pcall(redio.with_timeout, 0.01, task.await, task)
    given_up = true
  end,
  ["a task whose joiner was resumed by foreign code"] = function(_, fail)
    local task = redio.spawn(function()
      redio.sleep(0.02)
      fail()
    end)
    local co = coroutine.create(function() pcall(task.await, task) end)
    coroutine.resume(co)
    coroutine.resume(co)
  end,
  ["a task whose joiner was closed"] = close_coroutine and function(_, fail)
    local task = redio.spawn(function()
      redio.sleep(0.02)
      fail()
    end)
    local co = coroutine.create(function() task:await() end)
    coroutine.resume(co)
    close_coroutine(co)
  end,
  ["a task that awaits one that fails"] = function(_, fail)
    local inner = redio.spawn(function()
      redio.sleep(0.01)
      fail()
    end)
    redio.spawn(function()
      redio.spawn(inner.await, inner):await()
    end)
  end,
  ["a task that fails when it is cancelled"] = function(_, fail)
    local task = redio.spawn(function()
      pcall(redio.sleep, 60)
      fail()
    end)
    redio.sleep(0)
    task:cancel()
  end,
  ["a task that foreign code resumes"] = function(_, fail)
    local co
    redio.spawn(function()
      co = coroutine.running()
      pcall(redio.sleep, 60)
      fail()
    end)
    redio.sleep(0)
    coroutine.resume(co)
  end,
  ["one of a group that is over"] = function(_, fail)
    pcall(redio.gather, function()
      pcall(redio.sleep, 60)
      fail()
    end, function() error "the first" end)
  end,
  ["a coroutine, resumed by a reply"] = function(redis, fail)
    coroutine.wrap(function()
      redis():ping():await()
      fail()
    end)()
  end,
  ["a coroutine, resumed by a reply on a connection of its own"] = function(redis, fail)
    coroutine.wrap(function()
      redis():blpop("spec:p29", 0.01):await()
      fail()
    end)()
  end,
  ["a coroutine, resumed by a timer"] = function(_, fail)
    coroutine.wrap(function()
      redio.sleep(0.001)
      fail()
    end)()
  end,
  ["a coroutine, resumed by another's end"] = function(_, fail)
    local task = redio.spawn(redio.sleep, 0.01)
    coroutine.wrap(function()
      task:await()
      fail()
    end)()
  end,
  ["a coroutine, resumed by a loss"] = function(redis, fail)
    coroutine.wrap(function()
      pcall(function() redis():blpop("spec:p29", 0):await() end)
      fail()
    end)()
    redio.sleep(0.02)
    redis:disconnect()
  end,
}

-- Errors of each type, a fresh one for each way.
local kinds = {
  ["a string"] = function(name) return name .. ": a string" end,
  ["a table"] = function(name) return { name } end,
  ["an error object"] = function(name) return redio.errors.new("WatchError", name) end,
  ["nil"] = function() end,
}

describe("Promise 29, no error is lost:", function()
  local it_needs = fixtures.new()
  local shared, reports, former

  setup(function()
    shared = server.shared()
  end)

  before_each(function()
    reports = {}
    former = redio.on_uncaught(function(err, trace)
      reports[#reports + 1] = { err = err, trace = trace, at = now() }
    end)
  end)

  after_each(function()
    redio.on_uncaught(former)
    it_needs:clear()
  end)

  -- All ways side by side: by name, what each raised, and the client that it was given.
  local function drop_all(make)
    local sent = {}
    for name, drop in pairs(drops) do
      local redis = it_needs:client(shared.url, { retry = false })
      local one = { name = name, err = make(name), calls = 0, told = 0 }
      sent[#sent + 1] = one
      redio.spawn(function()
        drop(redis, function()
          one.calls, one.at = one.calls + 1, now()
          error(one.err, 0)
        end, one)
      end)
    end
    return sent
  end

  -- Each was told as often as it is to be, as it was raised.
  local function compare(sent)
    local total = 0
    for _, one in ipairs(sent) do
      total = total + one.calls
      for _, report in ipairs(reports) do
        if rawequal(report.err, one.err) then
          one.told = one.told + 1
          -- (half a second more for a machine that is busy)
          if one.err ~= nil then assert.is_true(report.at - one.at < 1.5, one.name) end
        end
        assert.are.equal(1, tracebacks(report.trace))
        assert.matches("29_errors_spec", report.trace)
      end
      assert.is_true(one.calls > 0, one.name)
      if one.err ~= nil then assert.are.equal(one.calls, one.told, one.name) end
    end
    assert.are.equal(total, #reports)
  end

  local function are_told(sent)
    local total = 0
    for _, one in ipairs(sent) do
      if one.calls == 0 then return false end
      total = total + one.calls
    end
    return #reports >= total
  end

  for how, pause in pairs {
    ["without a collection"] = function() redio.sleep(0.03) end,
    ["with collections"] = function()
      redio.sleep(0.03)
      collectgarbage()
    end,
  } do
    for kind, make in pairs(kinds) do
      it("however it is dropped, " .. kind .. ", " .. how, function()
        local sent
        collectgarbage "stop"
        local ok, raised = pcall(redio.run, function()
          sent = drop_all(make)
          local limit = now() + 10
          repeat
            pause()
          until are_told(sent) or now() > limit
          redio.sleep(0.1) -- there is no more
        end)
        collectgarbage "restart"
        compare(sent)
        assert.is_false(ok)
        if kind == "a string" then
          assert.matches("^[^\n]*: a string\nstack traceback:.*29_errors_spec", raised)
          assert.are.equal(1, tracebacks(raised))
        elseif kind ~= "nil" then
          local found = 0
          for _, one in ipairs(sent) do
            found = found + (rawequal(raised, one.err) and 1 or 0)
          end
          assert.are.equal(1, found, tostring(raised))
        end
      end)
    end
  end

  it("nothing is reported of a task that was cancelled, or is awaited within half a second", function()
    redio.run(function()
      local cancelled = redio.spawn(redio.sleep, 60)
      local with_reason = redio.spawn(redio.sleep, 60)
      local unstarted = redio.spawn(print)
      unstarted:cancel "a reason"
      redio.sleep(0)
      cancelled:cancel()
      with_reason:cancel "a reason"
      local task = redio.spawn(error, "awaited", 0)
      redio.sleep(0.05)
      assert.is_false((pcall(task.await, task)))
      redio.sleep(1)
      assert.are.same({ "cancelled", "cancelled", "cancelled" },
        { cancelled:status(), with_reason:status(), unstarted:status() })
    end)
    assert.are.same({}, reports)
  end)

  it("what was reported is raised all the same when it is awaited later; run does not raise it then", function()
    redio.run(function()
      local task = redio.spawn(error, "late", 0)
      redio.sleep(0.9)
      assert.are.equal("late", reports[1].err)
      local ok, err = pcall(task.await, task)
      assert.is_false(ok)
      assert.matches("^late\nstack traceback", err)
    end)
    assert.are.equal(1, #reports)
  end)

  it("run raises the first and the rest is reported", function()
    local ok, err = pcall(redio.run, function()
      for i = 1, 3 do
        redio.spawn(error, "error " .. i, 0)
      end
      redio.sleep(0.01)
    end)
    assert.is_false(ok)
    assert.matches("^error 1\n", err)
    assert.are.same({ "error 2", "error 3" }, { reports[1].err, reports[2].err })
    assert.are.equal(2, #reports)
    redio.run(redio.sleep, 0.9)
    assert.are.equal(2, #reports)
  end)

  it("run raises its own error, and all others are reported", function()
    local ok, err = pcall(redio.run, function()
      redio.spawn(error, "another", 0)
      redio.sleep(0.01)
      error("mine", 0)
    end)
    assert.is_false(ok)
    assert.matches("^mine\n", err)
    assert.are.equal("another", reports[1].err)
    assert.are.equal(1, #reports)
  end)

  it("run raises what failed before it began and was not reported; not what was", function()
    local task = redio.spawn(error, "before", 0)
    redio.sleep(0.01)
    assert.is_false((pcall(redio.run, redio.sleep, 0.01)))
    assert.are.same({}, reports)
    redio.spawn(error, "reported", 0)
    redio.sleep(0.9)
    assert.are.equal(1, #reports)
    redio.run(redio.sleep, 0.01)
    assert.is_false((pcall(task.await, task)))
  end)

  it("three tasks deep, one traceback: where it was raised", function()
    local ok, err = pcall(redio.run, function()
      redio.spawn(function()
        redio.spawn(function()
          redio.spawn(function()
            redio.sleep(0.001)
            error "my bug"
          end):await()
        end):await()
      end):await()
    end)
    assert.is_false(ok)
    assert.are.equal(1, tracebacks(err))
    assert.matches("^[^\n]*29_errors_spec.lua:%d+: my bug\nstack traceback:\n", err)
    assert.is_nil(err:find "xpcall")
  end)

  it("on_uncaught returns the former one, may wait, and takes nil for the default", function()
    local seen, waited
    local mine = function(err) seen = err end
    local before = redio.on_uncaught(mine)
    assert.are.equal(mine, redio.on_uncaught(function(err)
      redio.sleep(0.01)
      waited = err
      mine(err)
    end))
    pcall(redio.run, function()
      coroutine.wrap(function()
        redio.sleep(0.001)
        error("a", 0)
      end)()
      redio.sleep(0.1)
    end)
    assert.are.same({ "a", "a" }, { seen, waited })
    assert.is_function(redio.on_uncaught(nil))
    assert.is_function(redio.on_uncaught(before))
    assert.is_false((pcall(redio.on_uncaught, 1)))
  end)

  it("what was reported is not kept, however much it is", function()
    pcall(redio.run, function()
      local function many(count)
        for _ = 1, count / 500 do
          for _ = 1, 500 do
            redio.spawn(error, {})
          end
          redio.sleep(0)
        end
        redio.sleep(0.9)
        collectgarbage()
        collectgarbage()
        reports = {}
        return collectgarbage "count"
      end
      many(3000)
      local before = many(500)
      assert.is_true(many(5000) - before < 200)
    end)
  end)

  describe("by default", function()
    local function run(code)
      return child.run_text([[
        io.stdout:setvbuf "no"
        local redio = require "redio"
        local redis = redio.Redis(os.getenv "REDIS_URL")
      ]] .. code, shared.url, 10)
    end

    local FAILS = {
      ["a task"] = "redio.spawn(function() redis():ping():await() failed = true error 'my bug' end)",
      ["a coroutine"] = "coroutine.wrap(function() redis():ping():await() failed = true error 'my bug' end)()",
    }

    for name, code in pairs(FAILS) do
      it("one message and one traceback, and the process lives: " .. name, function()
        local output, status = run(code .. [[
          require "luv".run()
          print "alive"
        ]])
        assert.are.equal(0, status)
        assert.matches("^redio: uncaught error: [^\n]*program:%d+: my bug\nstack traceback:\n.*program", output)
        assert.matches("\nalive\n$", output)
        assert.are.equal(1, tracebacks(output))
      end)

      it("the same while run is at it, which raises it: " .. name, function()
        local output, status = run(([[
          local ok, err = pcall(redio.run, function()
            %s
            redio.sleep(0.9)
            print "alive"
          end)
          print(ok, err)
        ]]):format(code))
        assert.are.equal(0, status)
        assert.matches("^redio: uncaught error: [^\n]*my bug\nstack traceback:.*\nalive\n", output)
        assert.matches("\nfalse\t[^\n]*my bug\nstack traceback:", output)
      end)

      it("a program that ends before does not swallow it: " .. name, function()
        local output, status = run(code .. [[
          repeat redio.sleep(0.01) until failed
          print "the end"
        ]])
        assert.are.equal(0, status)
        assert.matches("my bug\nstack traceback:", output)
        assert.are.equal(1, tracebacks(output))
      end)
    end

    it("a collection ends no process, and neither does an error in the function that was given", function()
      local output, status = run [[
        redio.on_uncaught(function() error "and mine" end)
        coroutine.wrap(function() redio.sleep(0.001) error "my bug" end)()
        redio.spawn(function() error "another" end)
        for i = 1, 50 do redio.sleep(0.02) collectgarbage() end
        print "alive"
      ]]
      assert.are.equal(0, status)
      for _, word in ipairs { "my bug", "another", "alive" } do
        local _, count = output:gsub(word, "")
        assert.are.equal(1, count, output)
      end
      local _, count = output:gsub("and mine", "")
      assert.are.equal(2, count)
    end)

    it("a child of fork does not tell what its parent tells", function()
      local fork = rawget(_G, "jit") and [[
        local ffi = require "ffi"
        ffi.cdef "int fork(void); int waitpid(int, int *, int);"
        local pid = ffi.C.fork()
        if pid == 0 then os.exit(0, true) end
        ffi.C.waitpid(pid, nil, 0)
      ]]
      if not fork then return pending "nothing forks without ffi" end
      local output, status = run("redio.spawn(error, 'my bug', 0) redio.sleep(0.01) " .. fork .. [[
        redio.sleep(1)
        print "the end"
      ]])
      assert.are.equal(0, status)
      local _, count = output:gsub("my bug", "")
      assert.are.equal(1, count, output)
      assert.matches("the end\n$", output)
    end)
  end)
end)
