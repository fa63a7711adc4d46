-- SPDX-License-Identifier: MIT
-- One list of scenarios for every driver of connections (spec/unit/drivers_spec.lua). It runs in the loop of the spec
-- and in nginx.

local command = require "redio.command"
local core = require "redio.core"
local errors = require "redio.base.errors"
local lua_version = require "redio.base.lua_version"
local link = require "redio.connection"
local settings_of = require "redio.settings"
local task = require "redio.task"

local M = {}

local ONE, LIST = core.OWN, core.OWN + core.COLLECT + core.LIST

local function pipeline_of(...)
  local pipeline = core.pipeline()
  for _, words in ipairs { ... } do
    assert(core.encode(pipeline, command.find(words[1]).core, lua_version.unpack(words, 2)))
  end
  return pipeline
end

local function equal(expected, value)
  if expected ~= value then error(("expected %s, not %s"):format(tostring(expected), tostring(value)), 2) end
end

local function submit(conn, ...)
  local slot, why = conn:submit(pipeline_of(...), ONE)
  if slot == nil then error("not submitted: " .. tostring(why), 2) end
  return slot
end

-- The driver's own way from nothing to ready.
local open = {}

function open.loop(conn)
  conn:open(0)
  assert(conn:wait_ready())
end

function open.caller(conn)
  local transport, settings = conn.transport, conn.settings
  local socket = assert(transport.open(settings, { pool = "drivers", pool_size = 1 }, settings.connect_timeout))
  conn:attach(socket)
  conn:greet(transport.now())
end

function open.timer(conn)
  assert(conn:open(0))
  while not conn.ready and not conn.lost do task.sleep(0.005) end
end

local function new(driver, url, options, hooks)
  local transport = require "redio.transport".default()
  local settings = settings_of.resolve(url, options or {}, 2)
  hooks = hooks or {}
  hooks.on_ready = function() end
  hooks.on_lost = function(conn, err)
    conn.losses = (conn.losses or 0) + 1
    assert(conn.lost == err)
  end
  if driver ~= "timer" then hooks.exclusive = true end
  return require("redio.connection." .. driver).new(settings, transport, hooks, { pool = "drivers new", pool_size = 1 })
end

local function ready(driver, url, options, hooks)
  local conn = new(driver, url, options, hooks)
  equal("waiting to connect", conn.stage)
  open[driver](conn)
  equal(nil, conn.lost)
  equal(true, conn.ready)
  equal("ready", conn.stage)
  return conn
end

-- The scenarios: {name, fn(driver, url, admin)}. `admin` is a client of the same server.
M.all = {
  { "a chain is answered", function(driver, url)
    local conn = ready(driver, url)
    for i = 1, 3 do
      submit(conn, { "ECHO", "word " .. i })
      local token, value = conn:wait()
      equal(core.DONE, token)
      equal("word " .. i, value)
      equal(0, (conn:load()))
      equal(false, conn:is_waiting())
    end
    conn:close()
  end },
  { "an error reply is told with the connection that it came by", function(driver, url)
    local conn = ready(driver, url)
    submit(conn, { "INCRBY", "drivers", "x" })
    local token, failed = conn:wait()
    equal(core.FAILED, token)
    equal(1, #failed)
    equal(conn, failed.waiters.connection)
    conn:close()
  end },
  { "results come as a list where they are asked for so", function(driver, url)
    local conn = ready(driver, url)
    local list = {}
    assert(conn:submit(pipeline_of({ "ECHO", "a" }, { "ECHO", "b" }), LIST, { list, {} }))
    equal(core.DONE, (conn:wait()))
    equal("a b", table.concat(list, " "))
    conn:close()
  end },
  { "past its limit it says so, and has room once that is written", function(driver, url)
    local conn = ready(driver, url, { max_queued_bytes = 1024 })
    conn.core:limit(1024)
    local large = ("x"):rep(2048)
    submit(conn, { "ECHO", large })
    local slot, why = conn:submit(pipeline_of { "ECHO", "after" }, ONE)
    equal(nil, slot)
    equal("full", why)
    local after
    if driver == "loop" then -- (its own coroutine waits for the first chain)
      after = task.spawn(function()
        conn:wait_room()
        submit(conn, { "ECHO", "after" })
        local token, value = coroutine.yield()
        equal(core.DONE, token)
        return value
      end)
      equal(core.DONE, (coroutine.yield()))
      equal("after", after:await())
    else
      equal(core.DONE, (conn:wait()))
      conn:wait_room()
      submit(conn, { "ECHO", "after" })
      local token, value = conn:wait()
      equal(core.DONE, token)
      equal("after", value)
    end
    conn:close()
  end },
  { "it is closed once, and takes nothing more", function(driver, url)
    local conn = ready(driver, url)
    conn:close "enough"
    conn:close "more than that"
    equal(1, conn.losses)
    equal("ConnectionForcedCloseError", conn.lost.kind)
    equal("enough", conn.lost.message)
    equal(conn.address, conn.lost.address)
    equal(false, conn.ready)
    equal(true, conn.was_ready)
    equal(nil, (conn:submit(pipeline_of { "PING" }, ONE)))
    equal(0, (conn:load()))
  end },
  { "when the server hangs up, what waits is told, and why", function(driver, url, admin)
    local conn = ready(driver, url)
    submit(conn, { "CLIENT ID" })
    local _, id = conn:wait()
    task.spawn(function()
      task.sleep(0.02)
      admin():call("CLIENT KILL", "ID", id):await()
    end)
    submit(conn, { "BLPOP", "drivers:none", "10" })
    local token, err = conn:wait()
    equal(core.LOST, token)
    equal(conn.lost, err)
    equal("ConnectionClosedError", err.kind)
    equal(conn.address, err.address)
    equal(1, conn.losses)
  end },
  { "it retires at once when nothing is in flight", function(driver, url)
    local conn = ready(driver, url)
    conn:retire()
    equal("ConnectionForcedCloseError", conn.lost.kind)
  end },
  { "it retires when what is in flight is in, and takes nothing more", function(driver, url)
    local conn = ready(driver, url)
    submit(conn, { "ECHO", "last" })
    conn:retire()
    equal(nil, conn.lost)
    equal(true, conn.retiring)
    local slot, why = conn:submit(pipeline_of { "ECHO", "late" }, ONE)
    equal(nil, slot)
    equal("draining", why)
    local token, value = conn:wait()
    equal(core.DONE, token)
    equal("last", value)
    task.sleep(0.01)
    equal("ConnectionForcedCloseError", conn.lost.kind)
  end },
  { "its errors have the connection's address and stage", function(driver, url)
    local conn = new(driver, url, { connect_timeout = 2 })
    local err = conn:overdue_connect()
    equal("TimeoutError", err.kind)
    equal("no connection within 2 s (connect_timeout): still waiting to connect", err.message)
    equal(conn.address, err.address)
    equal("nothing within 3 s (timeout), waiting for a reply", conn:overdue(3, link.READING).message)
    equal(true, conn:unreachable("no route", true).permanent)
  end },
}

-- And those with one owner.
M.of_one_owner = {
  { "a reply may take no longer than it is told", function(driver, url)
    local conn = ready(driver, url)
    conn:within(0.05)
    submit(conn, { "BLPOP", "drivers:none", "10" })
    local token, err = conn:wait()
    equal(core.LOST, token)
    equal("TimeoutError", err.kind)
    equal("nothing within 0.05 s (timeout), waiting for a reply", err.message)
  end },
  { "messages wake what is parked, not while nothing is read", function(driver, url, admin)
    local conn, waiter
    conn = ready(driver, url, nil, { receiver = true, on_push = function(_, what, channel, message)
      if what == "message" and waiter then task.wake(waiter, channel, message) end
    end })
    local holder = {}
    conn:within(false)
    local pipeline = core.pipeline()
    core.encode(pipeline, core.command { name = "SUBSCRIBE", silent = true }, "drivers")
    equal(false, (conn:submit(pipeline, ONE)))
    conn:flush()
    conn:keep(holder)
    equal(holder, conn.hold)
    local function publish(message)
      task.spawn(function()
        while admin():publish("drivers", message):await() == 0 do task.sleep(0.01) end
      end)
    end
    publish "first"
    waiter = {}
    local channel, message = conn:park(waiter)
    equal("drivers first", channel .. " " .. message)
    conn:read_stop()
    publish "second"
    waiter = { abandon = function() end }
    task.spawn(function()
      task.sleep(0.1)
      waiter.may = true
      conn:read_start()
    end)
    channel, message = conn:park(waiter)
    equal(true, waiter.may)
    equal("drivers second", channel .. " " .. message)
    conn:keep(false)
    conn:close()
  end },
}

--- Runs a list for a driver.
---@return table lines what went wrong
function M.run(list, driver, url, admin)
  local lines = {}
  for _, scenario in ipairs(list) do
    local ok, err = xpcall(scenario[2], debug.traceback, driver, url, admin)
    if not ok then lines[#lines + 1] = scenario[1] .. ": " .. (errors.is(err) and tostring(err) or err) end
  end
  return lines
end

--- The functions of the interface that a driver does not have, and those of the link that it has otherwise.
function M.missing(driver, is_of_one_owner)
  local lines = {}
  local conn = new(driver, "redis://localhost:1")
  for _, name in ipairs(link.DRIVER) do
    if type(conn[name]) ~= "function" then lines[#lines + 1] = name .. " is missing" end
  end
  for _, name in ipairs(link.DRIVER_OF_ONE_OWNER) do
    if (type(conn[name]) == "function") ~= is_of_one_owner then
      lines[#lines + 1] = name .. (is_of_one_owner and " is missing" or " is not of this driver")
    end
  end
  return lines
end

return M
