-- SPDX-License-Identifier: MIT
-- Monitors: the commands that the server executes, line by line. (Waits on a monitor, and a dropped one:
-- regress/receiver_*_spec.lua.)

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

describe("A monitor", function()
  local it_needs = fixtures.new()
  local worker

  before_each(function()
    worker = it_needs:client(server.shared().url)
  end)

  after_each(function()
    it_needs:clear()
  end)

  local function next_echo(monitor)
    while true do
      local entry = monitor:await()
      local text = entry.command:match '^"ECHO" "(.*)"$'
      if text then return text, entry end
    end
  end

  for _, protocol in ipairs { 2, 3 } do
    it("tells the command, its client and its time, under RESP" .. protocol, function()
      check.within(10, function()
        local monitor = it_needs:client(server.shared().url, { protocol = protocol }):monitor():connect()
        worker():echo("one"):echo("two"):await()
        local text, entry = next_echo(monitor)
        assert.are.equal("one", text)
        assert.are.equal(0, entry.database)
        assert.matches("^127.0.0.1:%d+$", entry.address)
        assert.is_true(math.abs(entry.time - os.time()) < 60)
        assert.are.equal(entry.line:sub(-#entry.command), entry.command)
        assert.are.equal("two", (next_echo(monitor)))
        monitor:close()
        monitor:close()
        assert.is_nil(monitor:await())
        assert.is_true(monitor.closed)
      end)
    end)
  end

  it("closes at the end of a loop over lines(): a break, an error (Lua 5.4)", function()
    if not check.lua54 "local x <close> = nil return true" then return pending "Lua 5.4's closing value" end
    check.within(10, function()
      local redis = it_needs:client(server.shared().url)
      local monitor = redis:monitor():connect()
      worker():echo("x"):await()
      for _ in monitor:lines() do break end -- luacheck: ignore 512
      assert.is_true(monitor.closed)
      assert.are.equal(0, redis:stats().receivers)
      monitor = redis:monitor():connect()
      worker():echo("x"):await()
      local ok = pcall(function()
        for _ in monitor:lines() do error "enough" end
      end)
      assert.is_false(ok)
      assert.is_true(monitor.closed)
    end)
  end)

  it("ends the loop over lines() when it is closed", function()
    check.within(10, function()
      local monitor = it_needs:client(server.shared().url):monitor():connect()
      worker():echo("x"):await()
      local count = 0
      for _ in monitor:lines() do
        count = count + 1
        monitor:close()
      end
      assert.are.equal(1, count)
    end)
  end)

  it("that the server refuses raises what it said", function()
    local one = it_needs:server()
    one:cli("acl", "setuser", "weak", "on", ">pw", "~*", "+@all", "-monitor")
    check.within(10, function()
      local redis = it_needs:client(one.url, { username = "weak", password = "pw", retry = false })
      local monitor = redis:monitor()
      check.raises("NoPermissionError", monitor.connect, monitor)
      check.raises("NoPermissionError", monitor.await, monitor)
      assert.are.equal(0, redis:stats().receivers)
    end)
  end)

  it("that finds the server full raises that", function()
    local one = it_needs:server { "maxclients 1" }
    check.within(10, function()
      local first = it_needs:client(one.url)
      first():ping():await()
      local monitor = it_needs:client(one.url, { retry = false }):monitor()
      check.raises("MaxClientsError", monitor.connect, monitor)
    end)
  end)

  it("takes the answer to a health check for no line", function()
    check.within(10, function()
      local redis = it_needs:client(server.shared().url, { health_check_interval = 0.02 })
      local monitor = redis:monitor():connect()
      local seen = redio.spawn(function()
        local pings = 0
        while pings < 3 do
          local entry = monitor:await()
          assert.is_truthy(entry.time, entry.line)
          if entry.command == '"PING"' then pings = pings + 1 end
        end
      end)
      seen:await()
      monitor:close()
    end)
  end)

  it("raises when it is lost, after what had come", function()
    check.within(10, function()
      local line = it_needs:proxy()
      local monitor = it_needs:client(line.url):monitor():connect()
      worker():echo("last"):await()
      assert.truthy(check.eventually(function()
        return line.connections[1].down:bytes():find("last", 1, true)
      end))
      redio.sleep(0.01)
      line:cut()
      redio.sleep(0.01)
      assert.are.equal("last", (next_echo(monitor)))
      check.raises("ConnectionClosedError", next_echo, monitor)
    end)
  end)
end)
