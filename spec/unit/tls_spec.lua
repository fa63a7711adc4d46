-- SPDX-License-Identifier: MIT
-- redio.tls (src/tls.c): a TLS engine between two byte strings, against a real redis-server and openssl's own server,
-- at every split.

local uv = require "luv"
local tls = require "redio.tls"
local certificates = require "spec.support.certificates"
local peer = require "spec.support.tls_peer"

local MIB = 1024 * 1024

describe("redio.tls", function()
  local certs, redis, context
  local links, peers

  -- An engine with a socket: what comes is fed in pieces of `split` bytes, `link.text` is what was read.
  local function connect(port, engine, split)
    local link = { engine = engine, text = "", sent = {}, status = false, fed = 0 }
    local socket = uv.new_tcp()
    links[#links + 1] = socket
    local pieces = {}
    local function send()
      for bytes in engine.output, engine do
        link.sent[#link.sent + 1] = bytes
        socket:write(bytes)
      end
    end
    local function step()
      if not link.open then
        link.status, link.why = engine:handshake()
        link.open = link.status == true
      end
      while link.open do
        local text, why = engine:read()
        link.status, link.why = text, why
        if not text then
          break
        end
        pieces[#pieces + 1] = text
      end
      send()
    end
    function link.write(text)
      local ok, why = engine:write(text)
      send()
      return ok, why
    end
    function link.shutdown()
      engine:shutdown()
      send()
    end
    function link.feed(bytes)
      for from = 1, #bytes, split or #bytes do
        engine:feed(bytes:sub(from, from + (split or #bytes) - 1))
        step()
      end
      link.text = link.text .. table.concat(pieces)
      pieces = {}
    end
    socket:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      step()
      socket:read_start(function(_, bytes)
        if not bytes then
          link.eof = true
        elseif link.hold then
          link.held = (link.held or "") .. bytes
        else
          link.fed = link.fed + #bytes
          link.feed(bytes)
        end
      end)
    end)
    link.socket = socket
    return link
  end

  local function opened(port, engine, split)
    local link = connect(port, engine, split)
    peer.run_until(function()
      return link.open or link.why
    end)
    assert(link.open, link.why)
    return link
  end

  local function reads(link, text)
    return peer.run_until(function()
      return link.text:find(text, 1, true)
    end)
  end

  local function s_server(...)
    local started = peer.openssl(certs.server, ...)
    peers[#peers + 1] = started
    return started
  end

  local function engine_of(name, settings)
    return assert(tls.engine(settings and assert(tls.context(settings)) or context, name or "localhost"))
  end

  setup(function()
    certs = certificates.make()
    redis = peer.redis(certs)
    context = assert(tls.context { ca = certs.ca.cert })
  end)

  teardown(function()
    redis:stop()
    certs:remove()
  end)

  before_each(function()
    links, peers = {}, {}
  end)

  after_each(function()
    for _, socket in ipairs(links) do
      if not socket:is_closing() then
        socket:close()
      end
    end
    for _, each in ipairs(peers) do
      each:stop()
    end
    uv.run("nowait")
  end)

  describe("a context", function()
    local function refused(settings)
      local made, why = tls.context(settings)
      assert.is_nil(made)
      assert.is_nil(why:find("\n", 1, true))
      return why
    end

    it("takes the system's authorities, a file of them or a directory", function()
      assert.is_userdata(tls.context {})
      assert.is_userdata(tls.context { ca = certs.ca.cert })
      local dir = certs.dir .. "/hashed"
      assert(uv.fs_mkdir(dir, 448))
      assert(uv.fs_copyfile(certs.ca.cert, dir .. "/ca.pem"))
      certs:openssl("rehash hashed")
      local link = opened(redis.tls_port, engine_of("localhost", { ca = dir }))
      assert.equal("TLSv1.3", (link.engine:info()))
    end)

    it("says which file is missing, or holds something else", function()
      local none = certs.dir .. "/none.pem"
      assert.equal("tls.ca '" .. none .. "': No such file or directory", refused { ca = none })
      assert.equal("tls.cert '" .. none .. "': No such file or directory", refused { cert = none })
      assert.equal("tls.key '" .. none .. "': No such file or directory",
        refused { cert = certs.client.cert, key = none })
      assert.matches("no certificates in PEM form", refused { ca = certs.client.key })
      assert.matches("no certificate in PEM form", refused { cert = certs.client.key })
      assert.matches("^tls.cert '.*': no private key in PEM form", refused { cert = certs.client.cert })
    end)

    it("finds the key in the certificate's file, and notices another's", function()
      local client = certs.client
      local both = certs:write("both.pem", io.open(client.cert):read("*a") .. io.open(client.key):read("*a"))
      assert.is_userdata(tls.context { cert = both })
      assert.matches("^tls.key '.*': not the key of tls.cert$", refused { cert = client.cert, key = certs.ca.key })
    end)

    it("asks no terminal for a key's password", function()
      certs:openssl("pkey -in client.key -aes128 -passout pass:canary -out locked.key")
      local why = refused { cert = certs.client.cert, key = certs.dir .. "/locked.key" }
      assert.matches("^tls.key '.*': the key is encrypted", why)
    end)

    it("keeps control characters of a path out of its texts", function()
      assert.equal("tls.ca '/no/?[31m??': No such file or directory", refused { ca = "/no/\27[31m\r\n" })
      assert.is_true(#refused { ca = ("/long"):rep(200) } < 320)
    end)

    it("raises for settings of the wrong kind", function()
      for _, bad in ipairs { { ca = 1 }, { ca = "" }, { ca = "a\0b" }, { cert = true }, { key = {} },
        { min_version = "1.1" }, { min_version = 1.2 } } do
        assert.is_false((pcall(tls.context, bad)))
      end
      assert.is_false((pcall(tls.context)))
      assert.is_false((pcall(tls.engine, {}, "x")))
      assert.is_false((pcall(tls.engine, io.stdout, "x")))
      assert.is_false((pcall(context.close, io.stdout)))
      assert.is_false((pcall(engine_of().read, context)))
      assert.is_false((pcall(engine_of().write, engine_of(), "x", 0)))
      assert.is_false((pcall(engine_of().feed, engine_of())))
    end)

    it("may be closed, twice, while its engines live on", function()
      local own = assert(tls.context { ca = certs.ca.cert })
      local engine = assert(tls.engine(own, "localhost"))
      own:close()
      own:close()
      assert.matches("closed", select(2, tls.engine(own, "localhost")))
      opened(redis.tls_port, engine)
    end)
  end)

  describe("a name", function()
    local function refused(name)
      local engine, why = tls.engine(context, name)
      assert.is_nil(engine)
      assert.matches("server_name", why)
    end

    it("is needed to verify, and only then", function()
      refused(nil)
      refused(".")
      refused(".localhost") -- OpenSSL would take that for everything below
      refused(("x"):rep(256))
      assert.is_userdata(tls.engine(assert(tls.context { verify = false })))
    end)

    local function handshake(certificate, name)
      local started = peer.openssl(certs[certificate])
      peers[#peers + 1] = started
      local link = connect(started.port, engine_of(name))
      peer.run_until(function()
        return link.open or link.why
      end)
      return link.open, link.why
    end

    it("matches as RFC 6125 says", function()
      for _, name in ipairs { "localhost", "LOCALHOST", "localhost.", "redis.test", "x.wild.test" } do
        assert.is_true(handshake("server", name), name)
      end
      for _, name in ipairs { "local", "a.localhost", "wild.test", "a.b.wild.test", "127.0.0.1", "::1" } do
        local ok, why = handshake("server", name)
        assert.is_falsy(ok, name)
        assert.matches("mismatch", why)
        assert(why:find(name, 1, true), why)
      end
    end)

    it("that is an address is looked for among the addresses", function()
      assert.is_true(handshake("ip", "127.0.0.1"))
      assert.is_true(handshake("ip", "::1"))
      assert.is_true(handshake("ip", "0:0:0:0:0:0:0:1%eth0"))
      for certificate, name in pairs { ip = "127.0.0.2", ip_as_dns = "127.0.0.1", cn_only = "127.0.0.1" } do
        assert.matches("IP address mismatch", select(2, handshake(certificate, name)))
      end
      assert.matches("host name mismatch", select(2, handshake("ip", "localhost")))
      assert.matches("host name mismatch", select(2, handshake("ip", "127.1")))
      assert.matches("host name mismatch", select(2, handshake("ip", "127.0.0.1.test")))
    end)
  end)

  describe("a handshake", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local flag = "-tls1_" .. version:sub(3)

      it("is done byte by byte, in TLS " .. version, function()
        local started = s_server(flag)
        local link = opened(started.port, engine_of(), 1)
        assert.equal("TLSv" .. version, (link.engine:info()))
        assert.is_true(link.write("to the server\n"))
        peer.run_until(function()
          return started:output():find("to the server", 1, true)
        end)
        started:type("to the client\n")
        reads(link, "to the client\n")
      end)
    end

    it("does not go below min_version, nor below 1.2", function()
      local started = s_server("-tls1_2")
      local link = connect(started.port, engine_of("localhost", { ca = certs.ca.cert, min_version = "1.3" }))
      peer.run_until(function()
        return link.why
      end)
      assert.matches("no TLS version that is allowed here %(tls.min_version%)", link.why)
      local old = s_server("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
      link = connect(old.port, engine_of())
      peer.run_until(function()
        return link.why
      end)
      assert.matches("no TLS version that is allowed here %(tls.min_version%)", link.why)
    end)

    it("has no info, takes and gives no plaintext before it is done", function()
      local engine = engine_of()
      assert.is_nil((engine:info()))
      assert.is_false(engine:write("x"))
      assert.is_false(engine:read())
      assert.is_false(engine:handshake())
      local hello = engine:output()
      assert.equal("\22\3", hello:sub(1, 2))
      assert.truthy(hello:find("localhost", 1, true)) -- SNI
      assert.is_nil(engine:output())
      assert.is_false(engine:handshake())
      assert.is_nil(engine:output())
    end)

    it("sends no SNI for an address", function()
      local engine = engine_of("127.0.0.1")
      engine:handshake()
      assert.is_nil(engine:output():find("127.0.0.1", 1, true))
    end)

    it("says of a server that does not speak TLS that it does not", function()
      for _, answer in ipairs { "-ERR unknown command\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0\0\0" } do
        local engine = engine_of()
        engine:handshake()
        assert.is_true(engine:feed(answer))
        local ok, why = engine:handshake()
        assert.is_nil(ok)
        assert.equal("TLS handshake failed: the server does not speak TLS (a plain port?)", why)
      end
      local engine = engine_of() -- and hangs up
      engine:handshake()
      engine:feed("-")
      assert.is_false(engine:handshake())
      assert.matches("does not speak TLS", select(2, engine:finish()))
    end)

    it("fails when the stream ends in it", function()
      local engine = engine_of()
      engine:handshake()
      assert.same({ nil, "TLS handshake failed: the server closed the connection" }, { engine:finish() })
      assert.same({ nil, "TLS handshake failed: the server closed the connection" }, { engine:handshake() })
    end)
  end)

  describe("the stream", function()
    -- The lengths of the records in a stream, by type.
    local function records(stream, type)
      local lengths, at = {}, 1
      while at <= #stream do
        local high, low = stream:byte(at + 3, at + 4)
        local length = high * 256 + low
        if stream:byte(at) == type then
          lengths[#lengths + 1] = length
        end
        at = at + 5 + length
      end
      assert.equal(#stream + 1, at)
      return lengths
    end

    for _, split in ipairs { 1, 7, 1460, 16384, MIB } do
      it(("carries a MiB each way, fed by %d bytes"):format(split), function()
        local link = opened(redis.tls_port, engine_of(), split)
        local size = split == 1 and 100000 or MIB
        local value = {}
        for i = 1, size / 10 do
          value[i] = ("%010d"):format(i)
        end
        value = table.concat(value)
        assert.is_true(link.write(("*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n"):format(#value, value)))
        peer.run_until(function()
          return #link.text >= #value + 5
        end)
        assert.is_true(link.text == ("$%d\r\n%s\r\n"):format(#value, value))
      end)
    end

    it("is written in records of 16 KiB at most", function()
      local link = opened(redis.tls_port, engine_of())
      link.sent = {}
      link.write(("x"):rep(100 * 1024))
      local lengths = records(table.concat(link.sent), 23)
      assert.equal(7, #lengths)
      for i = 1, 6 do
        assert.equal(16384 + 17, lengths[i]) -- of which the type is one byte, the tag 16
      end
    end)

    it("is written by slices of a string", function()
      local link = opened(redis.tls_port, engine_of())
      assert.is_true(link.engine:write("xxPING\r\nyy", 3, 8))
      assert.is_true(link.engine:write("PING\r\n", 7))
      assert.is_true(link.engine:write("PING\r\n", 1, 0))
      assert.is_true(link.engine:write("PING\r\n", 1, 1000))
      assert.is_true(link.write(""))
      reads(link, "+PONG\r\n+PONG\r\n")
    end)

    it("ends with the server's close_notify", function()
      local link = opened(redis.tls_port, engine_of())
      link.write("PING\r\nQUIT\r\n")
      peer.run_until(function()
        return link.eof
      end)
      assert.equal("+PONG\r\n+OK\r\n", link.text)
      assert.same({}, { link.engine:read() })
      assert.same({}, { link.engine:finish() })
    end)

    it("ends with ours", function()
      local started = s_server()
      local link = opened(started.port, engine_of())
      link.shutdown()
      peer.run_until(function()
        return started:output():find("\nDONE\n", 1, true)
      end)
      assert.is_nil(started:output():find("ERROR", 1, true))
    end)

    it("is cut short when it ends otherwise", function()
      local link = opened(redis.tls_port, engine_of())
      local why = "TLS stream cut short (no close_notify)"
      assert.same({ nil, why }, { link.engine:finish() })
      assert.same({ nil, why }, { link.engine:finish() })
      assert.same({ nil, why }, { link.engine:read() })
      assert.same({ nil, why }, { link.engine:write("x") })
      assert.same({ nil, why }, { link.engine:feed("x") })
    end)

    it("is cut short within a record", function()
      local link = opened(redis.tls_port, engine_of())
      link.write("PING\r\n")
      reads(link, "+PONG\r\n")
      link.hold = true
      link.write("PING\r\n")
      peer.run_until(function()
        return link.held
      end)
      link.feed(link.held:sub(1, -2))
      assert.equal("+PONG\r\n", link.text)
      assert.is_false(link.status)
      assert.equal("TLS stream cut short (no close_notify)", select(2, link.engine:finish()))
    end)

    it("gives what came before a forged byte, and then dies", function()
      local link = opened(redis.tls_port, engine_of())
      link.write("PING\r\n")
      reads(link, "+PONG\r\n")
      link.hold = true
      link.write("PING\r\n")
      peer.run_until(function()
        return link.held
      end)
      local whole = link.held
      link.held = nil
      link.write("PING\r\n")
      peer.run_until(function()
        return link.held
      end)
      local last = link.held:byte(-1)
      link.sent = {}
      link.feed(whole .. link.held:sub(1, -2) .. string.char((last + 1) % 256))
      assert.equal("+PONG\r\n+PONG\r\n", link.text)
      assert.is_nil(link.status)
      assert.matches("^TLS failed: .*bad record mac", link.why)
      assert.equal(1, #link.sent) -- the alert
      assert.same({ nil, link.why }, { link.engine:write("x") })
    end)

    it("goes on through KeyUpdates", function()
      local started = s_server("-tls1_3")
      local link = opened(started.port, engine_of())
      started:type("tickets are in\n")
      reads(link, "tickets are in\n")
      for i, command in ipairs { "k", "K", "K", "k" } do
        local fed = link.fed
        link.sent = {}
        started:type(command .. "\n")
        peer.run_until(function()
          return link.fed > fed
        end)
        started:type(("text %d\n"):format(i))
        reads(link, ("text %d\n"):format(i))
        assert.is_true(link.write(("answer %d\n"):format(i)))
        -- K asks for ours in return, which goes with what is written next
        assert.equal(command == "K" and 2 or 1, #records(table.concat(link.sent), 23))
        peer.run_until(function()
          return started:output():find(("answer %d\n"):format(i), 1, true)
        end)
      end
    end)

    it("takes session tickets for what they are", function()
      local started = s_server("-num_tickets", "4")
      local link = opened(started.port, engine_of(), 1)
      started:type("after the tickets\n")
      reads(link, "after the tickets\n")
      assert.equal("after the tickets\n", link.text)
    end)

    it("is not renegotiated", function()
      local started = s_server("-tls1_2")
      local link = opened(started.port, engine_of())
      link.sent = {}
      started:type("r\n")
      peer.run_until(function()
        return #link.sent > 0 or link.why
      end)
      assert.same({ 26 }, records(table.concat(link.sent), 21)) -- an alert, no ClientHello
      assert.same({}, records(table.concat(link.sent), 22))
    end)
  end)

  describe("an engine", function()
    it("is closed once, and dead from then on", function()
      local link = opened(redis.tls_port, engine_of())
      local engine = link.engine
      engine:close()
      engine:close()
      assert.matches("closed", select(2, engine:read()))
      assert.matches("closed", select(2, engine:write("x")))
      assert.matches("closed", select(2, engine:feed("x")))
      assert.matches("closed", select(2, engine:handshake()))
      assert.matches("closed", select(2, engine:finish()))
      assert.is_nil(engine:output())
      assert.is_nil((engine:info()))
      engine:shutdown()
    end)

    it("is collected in any state", function()
      for _ = 1, 50 do
        local engine = engine_of()
        engine:handshake()
        engine:feed("\22\3\3\1")
        engine:handshake()
      end
      collectgarbage()
      collectgarbage()
    end)
  end)
end)
