-- SPDX-License-Identifier: MIT
-- Scenarios that are the same for both ways of parking: each runs in a task, with luv and in nginx, and says in words
-- what happened. spec/unit/parking_spec.lua runs them.

local unpack = table.unpack or unpack -- luacheck: ignore 143

local function words(...)
  local list = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) == "table" then value = value.kind or value.name or "a table" end
    list[i] = tostring(value)
  end
  return table.concat(list, " ")
end

-- A waiter that counts how often it is abandoned.
local function new_waiter()
  return { name = "waiter", stage = "waiting for the spec", abandoned = 0, abandon = function(waiter)
    waiter.abandoned = waiter.abandoned + 1
  end }
end

-- The errors that nothing awaits, for the time of `fn`, and long enough for them to be reported.
local function reported(redio, fn, ...)
  local list = {}
  local former = redio.on_uncaught(function(err)
    list[#list + 1] = err
  end)
  fn(...)
  redio.sleep(1.2)
  redio.on_uncaught(former)
  return words(#list, unpack(list))
end

return {
  { "a wait returns what wake is given, and only the first wake finds it", "true false 3 nil a nil",
    function(redio, task)
      local waiter = {}
      local function count(...) return words(select("#", ...), ...) end
      local waits = redio.spawn(function() return count(task.wait(waiter)) end)
      redio.sleep(0.005)
      return words(task.wake(waiter, nil, "a", nil), task.wake(waiter, "b"), waits:await())
    end },

  { "wake does nothing where nothing waits", "false", function(_, task)
    return words(task.wake {})
  end },

  { "several waits are woken in the order of their wakes", "c a b", function(redio, task)
    local waiters, order = { a = {}, b = {}, c = {} }, {}
    local tasks = {}
    for name, waiter in pairs(waiters) do
      tasks[#tasks + 1] = redio.spawn(function()
        task.wait(waiter)
        order[#order + 1] = name
      end)
    end
    redio.sleep(0.005)
    task.wake(waiters.c)
    task.wake(waiters.a)
    task.wake(waiters.b)
    for i = 1, #tasks do tasks[i]:await() end
    return table.concat(order, " ")
  end },

  { "a cancel ends a wait: it is abandoned once, and nothing can wake it",
    "CancelledError 1 false CancelledError cancelled", function(redio, task)
      local waiter, inside = new_waiter(), nil
      local waits = redio.spawn(function()
        local _, err = pcall(task.wait, waiter)
        inside = err
        error(err, 0)
      end)
      redio.sleep(0.005)
      waits:cancel()
      local _, err = pcall(waits.await, waits)
      return words(inside, waiter.abandoned, task.wake(waiter), err, waits:status())
    end },

  { "a cancel raises its reason", "mine cancelled", function(redio)
    local sleeps = redio.spawn(redio.sleep, 60)
    redio.sleep(0.005)
    sleeps:cancel { name = "mine" }
    local _, err = pcall(sleeps.await, sleeps)
    return words(err, sleeps:status())
  end },

  { "a task that is cancelled before it starts never runs", "true false CancelledError cancelled nil", function(redio)
    local ran
    local task = redio.spawn(function() ran = true end)
    local first, second = task:cancel(), task:cancel()
    local _, err = pcall(task.await, task)
    redio.sleep(0.005)
    return words(first, second, err, task:status(), ran)
  end },

  { "a task that is cancelled while it does not wait is told by its next wait, once",
    "true true running CancelledError 1 nil", function(redio, task)
      local waiter = new_waiter()
      local me
      me = redio.spawn(function()
        local first, second, status = me:cancel(), me:cancel(), me:status()
        local _, err = pcall(task.wait, waiter)
        local _, other = pcall(redio.sleep, 0)
        return words(first, second, status, err, waiter.abandoned, other)
      end)
      return me:await()
    end },

  { "check_cancelled raises such a cancel as well", "CancelledError true", function(redio, task)
    local me
    me = redio.spawn(function()
      me:cancel()
      local _, err = pcall(task.check_cancelled)
      return words(err, (pcall(task.check_cancelled)))
    end)
    return me:await()
  end },

  { "a cancel that is never raised is forgotten with the task's end", "done in time 0", function(redio, task)
    local me
    me = redio.spawn(function()
      me:cancel()
      return "in time"
    end)
    me:await()
    return words(me:status(), me:await(), task.cancelling)
  end },

  { "a deadline ends a wait and names its stage", "mine waiting for the spec 1 false mine", function(_, task)
    local waiter, mine, told = new_waiter(), { name = "mine" }, {}
    local _, err = pcall(task.with_deadline, nil, 0.01, mine, function(why, stage)
      told[1], told[2] = why, stage
    end, task.wait, waiter)
    return words(told[1], told[2], waiter.abandoned, task.wake(waiter), err)
  end },

  { "a deadline that was kept raises nothing later", "1 nil 3 true", function(redio)
    local function count(...) return words(...) end
    local got = count(redio.with_timeout(0.01, function() return 1, nil, 3 end))
    return words(got, (pcall(redio.sleep, 0.02)))
  end },

  { "of two deadlines the first to pass is raised, the other one stays in force", "inner outer", function(redio, task)
    local errs = {}
    local _, err = pcall(task.with_deadline, nil, 0.03, { name = "outer" }, nil, function()
      local _, inner = pcall(task.with_deadline, nil, 0.01, { name = "inner" }, nil, redio.sleep, 60)
      errs[1] = inner
      redio.sleep(60)
    end)
    return words(errs[1], err)
  end },

  { "several join a task, and a cancelled joiner leaves it alone", "CancelledError value value value", function(redio)
    local joined = redio.spawn(function()
      redio.sleep(0.02)
      return "value"
    end)
    local joiners = {}
    for i = 1, 4 do
      joiners[i] = redio.spawn(joined.await, joined)
    end
    redio.sleep(0.005)
    joiners[1]:cancel()
    local got = {}
    for i = 1, 4 do
      got[i] = select(2, pcall(joiners[i].await, joiners[i]))
    end
    return words(unpack(got))
  end },

  { "all that join a task get its error, and it is not reported", "0 mine mine mine failed", function(redio)
    local errs, status = {}, nil
    local count = reported(redio, function()
      local fails = redio.spawn(function()
        redio.sleep(0.005)
        error { name = "mine" }
      end)
      local function join()
        local _, err = pcall(fails.await, fails)
        errs[#errs + 1] = err
      end
      redio.gather(join, join, join)
      status = fails:status()
    end)
    return words(count, errs[1], errs[2], errs[3], status)
  end },

  { "an error that nothing joins is reported, once", "1 mine", function(redio)
    return reported(redio, function()
      redio.spawn(function() error { name = "mine" } end)
    end)
  end },

  { "no more is reported of a task that was cancelled", "0", function(redio)
    return reported(redio, function()
      local sleeps = redio.spawn(redio.sleep, 60)
      redio.sleep(0.005)
      sleeps:cancel()
    end)
  end },

  { "a group ends with the first error, and the others are cancelled", "mine CancelledError", function(redio)
    local other
    local _, err = pcall(redio.gather, function()
      other = select(2, pcall(redio.sleep, 60))
      error(other, 0)
    end, function()
      redio.sleep(0.005)
      error { name = "mine" }
    end)
    redio.sleep(0.005)
    return words(err, other)
  end },

  { "a task has a status, and cannot await itself", "waiting running a task cannot await itself done", function(redio)
    local inside, why
    local me
    me = redio.spawn(function()
      inside = me:status()
      why = select(2, pcall(me.await, me))
    end)
    local before = me:status()
    me:await()
    return words(before, inside, why:match ": (.*)$" or why, me:status())
  end },

  { "a coroutine that has ended is dead", "false true", function(_, task)
    local waiter = { thread = coroutine.create(function() end), request = ngx and ngx.ctx } -- luacheck: ignore 113
    local before = task.is_dead(waiter)
    coroutine.resume(waiter.thread)
    return words(before, task.is_dead(waiter))
  end },
}
