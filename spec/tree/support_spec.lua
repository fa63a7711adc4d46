-- SPDX-License-Identifier: MIT
-- spec/support: the servers, the proxy and the fake server that the other specs rely on.

local uv = require "luv"
local fake = require "spec.support.fake"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"

-- A bare client in the same loop: what it read, in pieces, and how the connection ended.
local function connect(target)
  local client = { reads = {}, handle = uv.new_tcp() }
  client.handle:connect(target.host, target.port, function(refused)
    client.connected, client.ended = not refused, refused
    if refused then
      return
    end
    client.handle:read_start(function(error_text, bytes)
      if bytes then
        client.reads[#client.reads + 1] = bytes
      else
        client.ended = error_text or "EOF"
      end
    end)
  end)
  function client.send(bytes)
    client.handle:write(bytes)
  end
  function client.text()
    return table.concat(client.reads)
  end
  function client.close()
    client.handle:close()
  end
  return client
end

-- Runs the loop until `condition` holds; fails after `seconds`.
local function loop_until(condition, seconds)
  local deadline = uv.hrtime() + (seconds or 5) * 1e9
  while not condition() do
    assert(uv.hrtime() < deadline, "the loop ran too long")
    local tick = uv.new_timer() -- so that a turn without events ends, too
    tick:start(5, 0, function() end)
    uv.run("once")
    tick:close()
  end
end

local function loop_for(seconds)
  local deadline = uv.hrtime() + seconds * 1e9
  loop_until(function()
    return uv.hrtime() > deadline
  end)
end

local function exists(path)
  return uv.fs_stat(path) ~= nil
end

local function is_alive(pid)
  -- A process that has ended can still be signalled until its parent waits for it.
  local file = io.open("/proc/" .. pid .. "/stat")
  local state = file and file:read("*a"):match("%) (%a)")
  if file then
    file:close()
  end
  return state ~= nil and state ~= "Z"
end

describe("a redis-server for the specs", function()
  local own

  after_each(function()
    if own then
      own:stop()
    end
  end)

  it("answers over TCP and a unix socket, from a private directory", function()
    own = server.start()
    assert.equal("PONG", own:cli("ping"))
    local pipe = io.popen(("redis-cli -u redis://127.0.0.1:%d/ ping"):format(own.port))
    assert.equal("PONG\n", pipe:read("*a"))
    pipe:close()
    assert.equal("dir\n" .. own.dir, own:cli("config", "get", "dir"))
    assert.equal("redis://127.0.0.1:" .. own.port .. "/", own.url)
    assert.equal("redis+unix://" .. own.path, own.unix_url)
    assert.equal(1, (own.path:find(own.dir .. "/", 1, true)))
  end)

  it("takes a password, lines of configuration and arguments", function()
    own = server.start({ "maxclients 77", password = 'a "b\\c\' %', args = { "--hz", "33" } })
    assert.equal("maxclients\n77", own:cli("config", "get", "maxclients"))
    assert.equal("hz\n33", own:cli("config", "get", "hz"))
    assert.equal("redis://:a%20%22b%5Cc%27%20%25@127.0.0.1:" .. own.port .. "/", own.url)
  end)

  it("names what is wrong with its configuration", function()
    assert.error_matches(function()
      server.start({ "nonsense 1" })
    end, "nonsense 1")
  end)

  it("is gone, with its directory, after stop, however often that is said", function()
    own = server.start()
    own:stop()
    assert.is_false(own:is_running())
    assert.is_false(is_alive(own.pid))
    assert.is_false(exists(own.dir))
    own:stop()
  end)

  it("starts again on the same port and in the same directory", function()
    own = server.start({ "appendonly yes", "appendfsync always" })
    local port, pid = own.port, own.pid
    own:cli("set", "key", "value")
    own:restart()
    assert.equal(port, own.port)
    assert.not_equal(pid, own.pid)
    assert.equal("value", own:cli("get", "key"))
  end)

  it("can be killed, and started again", function()
    own = server.start()
    own:kill()
    assert.is_false(own:is_running())
    assert.truthy(own:cli("ping"):find("Could not connect", 1, true))
    own:restart()
    assert.equal("PONG", own:cli("ping"))
  end)

  it("stands still while paused, and stops all the same", function()
    own = server.start()
    own:pause()
    local client = connect(own)
    loop_until(function()
      return client.connected
    end)
    client.send("PING\r\n")
    loop_for(0.1)
    assert.equal("", client.text())
    own:resume()
    loop_until(function()
      return client.text() == "+PONG\r\n"
    end)
    client.close()
    own:pause()
    own:stop()
    assert.is_false(is_alive(own.pid))
  end)

  it("is shared by the specs of a process, and renewed when one has killed it", function()
    local one = server.shared()
    assert.equal(one, server.shared())
    one:kill()
    assert.not_equal(one, server.shared())
    assert.equal("PONG", server.shared():cli("ping"))
  end)

  it("gives two that start at once a port each", function()
    local runs = {}
    for i = 1, 4 do
      runs[i] = io.popen(("%s -e 'local s = require(\"spec.support.server\").start() "
        .. "print(s.port, s:cli(\"config\", \"get\", \"dir\"):sub(-#s.dir) == s.dir)' </dev/null"):format(
        os.getenv("LUA") or "lua5.4"))
    end
    local ports = {}
    for i = 1, 4 do
      local port, own_answer = runs[i]:read("*a"):match("^(%d+)\t(%a+)")
      assert.equal("true", own_answer)
      assert.is_nil(ports[port])
      ports[port] = true
      runs[i]:close()
    end
  end)

  local function dies_with_its_runner(end_runner)
    local code = "local s = require('spec.support.server').start() print(s.pid, s.dir) io.flush() " .. end_runner
    local pipe = io.popen(("exec %s -e %q 2>/dev/null"):format(os.getenv("LUA") or "lua5.4", code))
    local pid, dir = pipe:read("*l"):match("^(%d+)\t(.+)$")
    pipe:close()
    assert.truthy(server.wait_until(function()
      return not is_alive(pid) and not exists(dir)
    end))
  end

  it("dies with the process that started it, by its end", function()
    dies_with_its_runner("")
  end)

  it("dies with the process that started it, by an error", function()
    dies_with_its_runner("error('boom')")
  end)

  it("dies with the process that started it, by os.exit", function()
    dies_with_its_runner("os.exit(3)")
  end)

  it("dies with the process that started it, by kill -9", function()
    dies_with_its_runner("local uv = require('luv') uv.kill(uv.os_getpid(), 'sigkill')")
  end)
end)

describe("the proxy", function()
  local target, between, client

  -- The answer to one PING through the proxy.
  local function open()
    client = connect(between)
    loop_until(function()
      return client.connected or client.ended
    end)
  end

  before_each(function()
    target = fake.start(function(_, words)
      return "+" .. words[1] .. "\r\n"
    end)
    between = proxy.start(target)
  end)

  after_each(function()
    if client then
      client.close()
      client = nil
    end
    between:stop()
    target:stop()
    loop_for(0.01)
  end)

  it("passes on what comes, both ways, counts and records", function()
    open()
    client.send("one\r\ntwo\r\n")
    loop_until(function()
      return client.text() == "+one\r\n+two\r\n"
    end)
    assert.equal(1, between.accepted)
    assert.equal(1, between:open_connections())
    assert.equal("one\r\ntwo\r\n", between.connections[1].up:bytes())
    assert.equal("+one\r\n+two\r\n", between.connections[1].down:bytes())
  end)

  it("stands before a unix socket, too", function()
    local own = server.start()
    local over_unix = proxy.start({ path = own.path })
    client = connect(over_unix)
    loop_until(function()
      return client.connected
    end)
    client.send("PING\r\n")
    loop_until(function()
      return client.text() == "+PONG\r\n"
    end)
    over_unix:stop()
    own:stop()
  end)

  it("delays", function()
    between.down.delay = 0.1
    open()
    local start = uv.hrtime()
    client.send("late\r\n")
    loop_until(function()
      return client.text() == "+late\r\n"
    end)
    local took = (uv.hrtime() - start) / 1e9
    assert.is_true(took >= 0.095 and took < 1, "took " .. took)
  end)

  it("splits into pieces that are each read alone", function()
    between.down.chunk = 3
    open()
    client.send("abcdef\r\n")
    loop_until(function()
      return client.text() == "+abcdef\r\n"
    end)
    assert.same({ "+ab", "cde", "f\r\n" }, client.reads)
  end)

  it("cuts after so many bytes by FIN", function()
    between.down.cut = 4
    open()
    client.send("abcdef\r\n")
    loop_until(function()
      return client.ended
    end)
    assert.equal("+abc", client.text())
    assert.equal("EOF", client.ended)
    assert.equal(0, between:open_connections())
  end)

  it("cuts by RST", function()
    open()
    between:cut("rst")
    loop_until(function()
      return client.ended
    end)
    assert.equal("ECONNRESET", client.ended)
  end)

  it("cuts what goes up", function()
    between.up.cut = 5
    open()
    client.send("abc\r\ndef\r\n")
    loop_until(function()
      return client.ended
    end)
    loop_for(0.02)
    assert.same({ { "abc" } }, target.requests)
  end)

  it("holds and releases", function()
    open()
    between.down.hold = true
    client.send("abc\r\n")
    loop_for(0.05)
    assert.equal("", client.text())
    assert.equal("+abc\r\n", between.connections[1].down:bytes())
    between:release()
    loop_until(function()
      return client.text() == "+abc\r\n"
    end)
  end)

  it("lets bytes vanish", function()
    open()
    between.up.drop = true
    client.send("abc\r\n")
    loop_for(0.05)
    assert.equal(0, #target.requests)
    between.up.drop = nil
    client.send("def\r\n")
    loop_until(function()
      return client.text() == "+def\r\n"
    end)
  end)

  it("injects", function()
    open()
    client.send("abc\r\n")
    loop_until(function()
      return client.text() == "+abc\r\n"
    end)
    between:inject("down", "+who?\r\n")
    loop_until(function()
      return client.text() == "+abc\r\n+who?\r\n"
    end)
  end)

  it("passes on the end of either side", function()
    open()
    client.handle:shutdown()
    loop_until(function()
      return client.ended and between:open_connections() == 0
    end)
    assert.equal("EOF", client.ended)
  end)

  it("resets new connections while it refuses", function()
    between.refuse = true
    open()
    loop_until(function()
      return client.ended
    end)
    assert.equal("ECONNRESET", client.ended)
  end)

  it("resets when nothing listens behind it", function()
    target:stop()
    open()
    loop_until(function()
      return client.ended
    end)
    assert.equal("ECONNRESET", client.ended)
  end)

  it("goes deaf, and listens again on the same port", function()
    local port = between.port
    between:deafen()
    open()
    assert.equal("ECONNREFUSED", client.ended)
    client.close()
    between:listen()
    assert.equal(port, between.port)
    open()
    assert.is_true(client.connected)
  end)
end)

describe("the fake server", function()
  local target, client

  local function serve(handler, options)
    target = fake.start(handler, options)
    client = connect(target)
    loop_until(function()
      return client.connected
    end)
  end

  after_each(function()
    client.close()
    target:stop()
    loop_for(0.01)
  end)

  it("calls its handler with the words of each request, however it arrives", function()
    serve(function(_, words)
      return ":" .. #words .. "\r\n"
    end)
    client.send("*2\r\n$3\r\nGET\r\n$5\r\na\r\nb\0\r\n*1\r\n$4\r\nPI")
    loop_until(function()
      return client.text() == ":2\r\n"
    end)
    client.send("NG\r\nECHO x y\r\n")
    loop_until(function()
      return client.text() == ":2\r\n:1\r\n:3\r\n"
    end)
    assert.same({ { "GET", "a\r\nb\0" }, { "PING" }, { "ECHO", "x", "y" } }, target.requests)
  end)

  it("speaks the handshake by itself, in RESP3 or without HELLO", function()
    serve(function() end)
    client.send("HELLO 3\r\nSELECT 1\r\n")
    loop_until(function()
      return client.text():find("^%%7\r\n.*%+OK\r\n$")
    end)
    client.close()
    target:stop()
    serve(function() end, { protocol = 2 })
    client.send("HELLO 3\r\n")
    loop_until(function()
      return client.text():find("^%-ERR unknown command")
    end)
    assert.equal(0, #target.requests)
  end)

  it("leaves the handshake to the handler when asked to", function()
    serve(function(_, words)
      return "+" .. words[1] .. "\r\n"
    end, { protocol = false })
    client.send("HELLO 3\r\n")
    loop_until(function()
      return client.text() == "+HELLO\r\n"
    end)
  end)

  it("writes raw bytes, in pieces too, and closes or resets", function()
    serve(function(connection)
      connection:write("+ab\r\n", 2)
    end)
    client.send("x\r\n")
    loop_until(function()
      return client.text() == "+ab\r\n"
    end)
    assert.same({ "+a", "b\r", "\n" }, client.reads)
    target.connections[1]:write("+half")
    target.connections[1]:close()
    loop_until(function()
      return client.ended
    end)
    assert.equal("+ab\r\n+half", client.text())
    assert.equal("EOF", client.ended)
  end)

  it("resets", function()
    serve(function(connection)
      connection:reset()
    end)
    client.send("x\r\n")
    loop_until(function()
      return client.ended
    end)
    assert.equal("ECONNRESET", client.ended)
  end)
end)
