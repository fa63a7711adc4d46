-- SPDX-License-Identifier: MIT
-- connection/tls_socket.lua: a socket with TLS behaves like one without, also when bytes come at awkward moments.

local redio = require "redio"
local tls_socket = require "redio.connection.tls_socket"
local transport = require("redio.transport").default()
local certificates = require "spec.support.certificates"
local peer = require "spec.support.tls_peer"

-- Within a turn of the loop; a handle that is gone altogether says so by an error.
local function is_closed(socket)
  redio.run(redio.sleep, 0.001)
  local ok, closing = pcall(socket._handle.is_closing, socket._handle)
  return not ok or closing
end

describe("a secure socket", function()
  local certs, settings
  local started, opened

  -- A connected socket of the transport's.
  local function connect(port)
    local socket, failure
    transport.connect({ host = "127.0.0.1", port = port }, function(found, why)
      socket, failure = found, why
    end)
    peer.run_until(function()
      return socket or failure
    end)
    opened[#opened + 1] = socket
    return assert(socket, failure)
  end

  local function s_server(...)
    started[#started + 1] = peer.openssl(certs.server, ...)
    return started[#started]
  end

  -- Wraps a socket and waits for the end of its handshake.
  local function wrap(socket, own)
    local calls, secured, reason = 0, nil, nil
    local made = tls_socket.wrap(socket, own or settings, function(found, why)
      calls, secured, reason = calls + 1, found, why
    end, transport)
    opened[#opened + 1] = made
    peer.run_until(function()
      return calls > 0
    end)
    assert.equal(1, calls)
    return secured, reason
  end

  -- Starts to read; what came is in the table that is returned.
  local function read(socket)
    local got = { text = "", ends = 0 }
    socket:read_start(function(bytes)
      got.text = got.text .. bytes
      if got.act then
        got.act(bytes)
      end
    end, function(reason)
      got.ends, got.reason = got.ends + 1, reason
    end)
    return got
  end

  local function says(text)
    peer.run_until(function()
      return started[#started]:output():find(text, 1, true)
    end)
  end

  local function write_failed(reason)
    error("writing failed: " .. reason)
  end

  setup(function()
    certs = certificates.make()
    settings = { host = "localhost", tls = { ca = certs.ca.cert } }
  end)

  teardown(function()
    certs:remove()
  end)

  before_each(function()
    started, opened = {}, {}
  end)

  after_each(function()
    for _, socket in ipairs(opened) do
      socket:close()
    end
    for _, each in ipairs(started) do
      each:stop()
    end
  end)

  it("writes strings and lists, whole and in order", function()
    local socket = wrap(connect(s_server().port))
    assert.equal("TLSv1.3", (socket:info()))
    socket:write("one ", write_failed)
    socket:write({ "two ", "", ("3"):rep(50000), " four\n" }, write_failed)
    says("one two " .. ("3"):rep(50000) .. " four\n")
    assert.equal(0, socket:unwritten())
  end)

  it("keeps what is written before the handshake is done", function()
    local below = connect(s_server().port)
    local made = tls_socket.wrap(below, settings, function() end, transport)
    opened[#opened + 1] = made
    made:write({ "early ", "words\n" }, write_failed)
    assert.equal(12, made:unwritten())
    says("early words\n")
    assert.equal(0, made:unwritten())
  end)

  -- A socket that hands over what comes during 0.2 seconds at once, with the end after it.
  local function slow(below)
    return setmetatable({
      read_start = function(_, on_data, on_end)
        local pieces = {}
        below:read_start(function(bytes)
          if not pieces[1] then
            transport.start_timer(0.2, function()
              local all = table.concat(pieces)
              pieces = {}
              on_data(all)
            end)
          end
          pieces[#pieces + 1] = bytes
        end, on_end)
      end,
      read_stop = function() end,
    }, { __index = function(_, name)
      return function(_, ...)
        return below[name](below, ...)
      end
    end })
  end

  it("loses nothing that comes with the end of the handshake", function()
    local server = s_server("-tls1_2")
    local below = connect(server.port)
    local got
    tls_socket.wrap(slow(below), settings, function(secured)
      opened[#opened + 1] = secured
      got = read(secured)
      assert.equal("", got.text)
    end, transport)
    server:type("first words\n") -- sent right behind the server's Finished
    peer.run_until(function()
      return got and got.text == "first words\n"
    end)
  end)

  it("waits with it until it is asked", function()
    local server = s_server("-tls1_2")
    local below = connect(server.port)
    local secured
    tls_socket.wrap(slow(below), settings, function(found)
      secured = found
      opened[#opened + 1] = found
    end, transport)
    server:type("first words\n")
    peer.run_until(function()
      return secured
    end)
    redio.run(redio.sleep, 0.1)
    local got = read(secured)
    assert.equal("", got.text) -- never before read_start returns
    peer.run_until(function()
      return got.text == "first words\n"
    end)
  end)

  it("reads no more after read_stop, and all of it after read_start", function()
    local server = s_server()
    local socket = wrap(connect(server.port))
    local got = read(socket)
    got.act = function()
      socket:read_stop()
    end
    server:type(("x"):rep(200000) .. "\n")
    peer.run_until(function()
      return got.text ~= ""
    end)
    redio.run(redio.sleep, 0.1)
    local first = #got.text
    assert.is_true(first < 40000)
    local rest = read(socket)
    peer.run_until(function()
      return first + #rest.text == 200001
    end)
    assert.equal(first, #got.text)
  end)

  it("may be stopped and started from within its callback", function()
    local server = s_server()
    local socket = wrap(connect(server.port))
    local text, calls = "", 0
    local function again(bytes)
      text, calls = text .. bytes, calls + 1
      socket:read_stop()
      socket:read_start(again, write_failed)
    end
    socket:read_start(again, write_failed)
    server:type(("x"):rep(100000) .. "\n")
    peer.run_until(function()
      return #text == 100001
    end)
    assert.is_true(calls > 3)
  end)

  it("gives what came before the end, stopped in between or not, and then the end", function()
    local server = peer.redis(certs)
    local socket = wrap(connect(server.tls_port))
    local value = ("x"):rep(100000)
    socket:write("*2\r\n$4\r\nECHO\r\n$100000\r\n" .. value .. "\r\nQUIT\r\n", write_failed)
    redio.run(redio.sleep, 0.1)
    local text, ends, reason = "", 0, "none"
    local function on_end(why)
      ends, reason = ends + 1, why
    end
    local function on_data(bytes)
      assert.equal(0, ends)
      text = text .. bytes
      socket:read_stop()
      transport.defer(function()
        socket:read_start(on_data, on_end)
      end)
    end
    socket:read_start(on_data, on_end)
    peer.run_until(function()
      return ends > 0
    end)
    assert.equal("$100000\r\n" .. value .. "\r\n+OK\r\n", text)
    assert.is_nil(reason)
    redio.run(redio.sleep, 0.05)
    assert.equal(1, ends)
    server:stop()
  end)

  it("ends as cut short where the server does not say that it ends", function()
    local server = s_server()
    local socket = wrap(connect(server.port))
    local got = read(socket)
    server:type("x\n")
    peer.run_until(function()
      return got.text == "x\n" -- so the server has read all that we sent, and ends without RST
    end)
    server:stop()
    peer.run_until(function()
      return got.ends > 0
    end)
    assert.equal("TLS stream cut short (no close_notify)", got.reason)
  end)

  it("says why the handshake failed, and has closed the socket below then", function()
    local below = connect(s_server().port)
    local secured, reason = wrap(below, { host = "elsewhere.test", tls = { ca = certs.ca.cert } })
    assert.is_nil(secured)
    assert.matches("host name mismatch, it is not for 'elsewhere.test'", reason)
    assert.is_true(is_closed(below))
    below = connect(s_server().port)
    secured, reason = wrap(below, { host = "localhost", tls = { ca = "/none" } })
    assert.is_nil(secured)
    assert.equal("TLS: tls.ca '/none': No such file or directory", reason)
    assert.is_true(is_closed(below))
  end)

  it("tells the server when it does not accept its certificate", function()
    local server = s_server()
    wrap(connect(server.port), { host = "localhost", tls = { ca = certs.other_ca.cert } })
    says("alert unknown ca")
  end)

  it("calls nothing after it was closed", function()
    local server = s_server()
    local below = connect(server.port)
    local made = tls_socket.wrap(below, settings, function()
      error("called")
    end, transport)
    made:cancel()
    made:close()
    assert.is_true(is_closed(below))
    redio.run(redio.sleep, 0.05)
    local socket = wrap(connect(server.port))
    local got = read(socket)
    socket:close()
    server:type("too late\n")
    redio.run(redio.sleep, 0.05)
    assert.same({ text = "", ends = 0 }, got)
    socket:write("nothing", write_failed)
    socket:read_start(write_failed, write_failed)
    socket:read_stop()
    assert.equal(0, socket:unwritten())
    assert.is_nil((socket:info()))
  end)

  it("says close_notify when it is closed", function()
    local server = s_server()
    local socket = wrap(connect(server.port))
    socket:write("last words\n", write_failed)
    socket:close()
    says("\nDONE\n")
    assert.truthy(server:output():find("last words\n", 1, true))
    assert.is_nil(server:output():find("ERROR", 1, true))
  end)

  it("reads the files of its settings once", function()
    local copy = certs:write("copy.pem", io.open(certs.ca.cert):read("*a"))
    local own = { host = "localhost", tls = { ca = copy } }
    local server = s_server()
    assert.is_table(wrap(connect(server.port), own)):close()
    os.remove(copy)
    assert.is_table(wrap(connect(server.port), own)):close()
    assert.is_nil((wrap(connect(server.port), { host = "localhost", tls = { ca = copy } })))
  end)

  it("is collected with its references when nothing refers to it", function()
    local below = connect(s_server().port)
    local weak = setmetatable({ wrap(below) }, { __mode = "v" })
    read(weak[1])
    weak[2] = weak[1]._engine
    opened = {}
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak[1])
    assert.is_nil(weak[2])
    below:close()
  end)
end)
