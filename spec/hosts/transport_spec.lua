-- SPDX-License-Identifier: MIT
-- The option `transport`: a client over a transport without luv (spec/support/toy_transport.lua), with a server that is
-- a function. And docs/transports.md, which describes how to write one.

local core = require "redio.core"
local redio = require "redio"
local toy = require "spec.support.toy_transport"
local check = require "spec.support.check"
local transports = require "redio.transport"

local luv = require "redio.transport.luv"

local function bulk(text)
  return text and ("$%d\r\n%s\r\n"):format(#text, text) or "$-1\r\n"
end

-- A server of a few commands; it keeps a log of them.
local function server()
  local keys, log, late = {}, {}, nil
  local replies = {
    HELLO = function() return "-ERR unknown command 'HELLO'\r\n" end,
    CLIENT = function() return "+OK\r\n" end,
    PING = function() return "+PONG\r\n" end,
    ECHO = function(text) return bulk(text) end,
    GET = function(key) return bulk(keys[key]) end,
    SET = function(key, value)
      keys[key] = value
      return "+OK\r\n"
    end,
    INCR = function(key)
      keys[key] = tostring(tonumber(keys[key] or 0) + 1)
      return ":" .. keys[key] .. "\r\n"
    end,
    BLPOP = function() end,
    QUIT = function() return "+OK\r\n", true end,
  }

  local function serve(bytes, send)
    local decoder = core.decoder() -- requests are arrays of bulk strings, and are never cut here
    decoder:feed(bytes)
    while true do
      local more, words = decoder:next()
      if not more then return end
      log[#log + 1] = table.concat(words, " ")
      local reply, quit = replies[words[1]](words[2], words[3])
      late = not reply and send or late
      if reply then send(reply) end
      if quit then send(nil) end
    end
  end

  return serve, log, function(reply)
    late(reply)
  end
end

describe("A client over another transport", function()
  local transport, redis, log, answer

  before_each(function()
    local serve
    serve, log, answer = server()
    transport = toy.new(serve)
    redis = redio.Redis("redis://nowhere/", { transport = transport, retry = false })
  end)

  after_each(function()
    redis:close()
  end)

  it("on the main coroutine runs that one's loop", function()
    assert.same({ "bar", "PONG?" }, { redis():set("foo", "bar"):get("foo"):echo("PONG?"):await() })
    assert.is_false(transport.in_loop())
    assert.equal("ECHO PONG?", log[#log])
  end)

  it("waits in coroutines, which share a connection", function()
    local results = {}
    for i = 1, 100 do
      coroutine.wrap(function()
        results[i] = redis():incr("count"):await()
      end)()
    end
    assert.is_true(transport.run(function() return #results == 100 end))
    for i = 1, 100 do
      assert.equal(i, results[i])
    end
    assert.equal(1, redis:stats().connections)
  end)

  it("is told what the transport says of a connection that cannot be made", function()
    local other = redio.Redis("redis://nowhere:1/", { transport = transport, retry = false })
    local err = check.raises("ConnectionError", function() other():ping():await() end)
    assert.matches("connection refused", err.message)
    other:close()
  end)

  it("has deadlines by its clock", function()
    local err = check.raises("TimeoutError", function()
      redis():timeout(7):blpop("queue", 0):await()
    end)
    assert.equal("maybe", err.sent)
    assert.is_true(transport.now() >= 7)
  end)

  it("blocks until the answer is there", function()
    local item
    coroutine.wrap(function()
      item = redis():blpop("queue", 0):await()
    end)()
    transport.start_timer(3600, function()
      answer "*2\r\n$5\r\nqueue\r\n$4\r\nitem\r\n"
    end)
    assert.is_true(transport.run(function() return item end))
    assert.same({ "queue", "item" }, item)
  end)

  it("says so when the loop has nothing left that could bring the answer", function()
    local patient = redio.Redis("redis://nowhere/", { transport = transport, timeout = false })
    local ok, err = pcall(function() return patient():blpop("queue", 0):await() end)
    assert.is_false(ok)
    assert.matches("this would wait for ever", tostring(err))
  end)

  it("is told when the peer hangs up", function()
    local db = redis:connection()
    db:ping():await()
    local err = check.raises("ConnectionClosedError", function() db:blpop("queue", 0):call("QUIT"):await() end)
    assert.equal("maybe", err.sent)
  end)

  it("is the one of tasks, too, when it is made the default before anything asked for it", function()
    local text, status = check.script [[
      package.preload.luv = function() error "there is no luv" end
      local toy = require "spec.support.toy_transport"
      local mine = toy.new(function(bytes, send)
        for _ in bytes:gmatch "INCR" do send ":1\r\n" end
        for _ in bytes:gmatch "HELLO" do send "-ERR unknown command\r\n" end
        for _ in bytes:gmatch "CLIENT" do send "+OK\r\n" end
      end)
      require "redio.transport".default = function() return mine end
      local redio = require "redio"
      local redis = redio.Redis()
      redio.run(function()
        local task = redio.spawn(function() return redis():incr("key"):await() end)
        redio.sleep(3600)
        print(task:await(), mine.now() >= 3600)
        print(pcall(redio.with_timeout, 1, redio.sleep, 2))
      end)
      redis:close()
    ]]
    assert.equal("1\ttrue\nfalse\tTimeoutError: not done within 1 s\n", text)
    assert.equal(0, status)
  end)
end)

describe("docs/transports.md", function()
  local document = io.open "docs/transports.md":read "*a"

  local function names(heading)
    local set = {}
    local section = document:match("\n## " .. heading .. "\n(.-)\n## ") or error("no section " .. heading)
    for cell in section:gmatch "\n| ([^|]+) |" do
      for name in cell:gmatch "`([%w_]+)" do
        set[name] = true
      end
    end
    return set
  end

  it("names every function of the transport for luv, and no other", function()
    local documented = names "The transport"
    for name in pairs(luv) do
      assert(documented[name], name)
    end
    for name in pairs(documented) do
      assert(luv[name] ~= nil, name)
    end
  end)

  it("names every method of its sockets, and no other", function()
    local documented, socket = names "A socket", nil
    redio.run(function()
      local listener = require "luv".new_tcp()
      listener:bind("127.0.0.1", 0)
      listener:listen(1, function() end)
      luv.connect({ host = "127.0.0.1", port = listener:getsockname().port }, function(made) socket = made end)
      check.eventually(function() return socket end)
      socket:close()
      listener:close()
    end)
    local methods = getmetatable(socket).__index
    for name in pairs(methods) do
      assert(documented[name] or name:find "^_", name)
    end
    for name in pairs(documented) do
      assert(methods[name], name)
    end
  end)

  it("the default is picked by one function", function()
    assert.equal(luv, transports.default())
  end)
end)
