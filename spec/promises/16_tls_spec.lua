-- SPDX-License-Identifier: MIT
-- Promise 16, TLS: rediss checks chain and name, sends SNI for names, and speaks TLS 1.2 or later, never anything less.
-- Only verify = false turns the checks off, and tostring(client) says so.

local uv = require "luv"
local redio = require "redio"
local certificates = require "spec.support.certificates"
local check = require "spec.support.check"
local child = require "spec.support.child"
local peer = require "spec.support.tls_peer"
local proxy = require "spec.support.proxy"

local SECRET = "canary-4711"

describe("P16 TLS:", function()
  local certs, server, ca
  local closing

  -- Whatever has close or stop, ended after the test.
  local function later(thing)
    closing[#closing + 1] = thing
    return thing
  end

  -- A client that does not try again, so that the first failure is the one that is seen.
  local function client(url, tls, options)
    options = options or {}
    options.tls = tls
    if options.retry == nil then
      options.retry = false
    end
    return later(redio.Redis(url, options))
  end

  local function rediss(host, port)
    return ("rediss://%s:%d/"):format(host, port)
  end

  local function works(redis, text)
    text = text or "hello"
    assert.equal(text, redis():echo(text):await())
    return redis
  end

  -- The error of a client that cannot connect.
  local function refused(redis, kind)
    local err = check.raises(kind or "ConnectionError", function()
      redis():echo("hello"):await()
    end)
    assert.is_nil(tostring(err):find("[%c]"))
    assert.is_nil(tostring(err):find(SECRET, 1, true))
    assert.equal("no", err.sent)
    if not kind then
      assert.equal("ConnectionError", err.kind)
      assert.matches("^cannot connect: TLS", err.message)
    end
    return err.message, err
  end

  local function redis_with(certificate)
    return later(peer.redis(certs, { certificate = certificate }))
  end

  setup(function()
    certs = certificates.make()
    ca = certs.ca.cert
    server = peer.redis(certs)
  end)

  teardown(function()
    server:stop()
    certs:remove()
  end)

  before_each(function()
    closing = {}
  end)

  after_each(function()
    for i = #closing, 1, -1 do
      (closing[i].close or closing[i].stop)(closing[i])
    end
  end)

  describe("each form of the URL", function()
    it("speaks TLS", function()
      for _, scheme in ipairs { "rediss", "redis+tls", "REDISS" } do
        works(client(("%s://localhost:%d/"):format(scheme, server.tls_port), { ca = ca }))
      end
      works(client(("redis://localhost:%d/?tls=yes"):format(server.tls_port), { ca = ca }))
      works(client(("redis://localhost:%d/"):format(server.tls_port), { ca = ca }))
      works(client(("rediss://localhost:%d/1?ssl_ca_certs=%s"):format(server.tls_port, ca)))
    end)

    it("speaks TLS over a unix socket", function()
      local path = certs.dir .. "/relay.sock"
      local relay = later(peer.relay(path, server.tls_port))
      works(client("redis+unix+tls://localhost" .. path, { ca = ca }))
      works(client("redis+unix+tls://redis.test" .. path .. "?database=2", { ca = ca }))
      works(client("redis+unix://" .. path, { ca = ca, server_name = "localhost" }))
      works(client(path, { verify = false }))
      assert.equal(4, relay.accepted)
      assert.matches("not for 'elsewhere.test'",
        (refused(client("redis+unix+tls://elsewhere.test" .. path, { ca = ca }))))
    end)

    it("is encrypted, password and all", function()
      local guarded = later(peer.redis(certs, { password = SECRET }))
      local between = later(proxy.start { host = "127.0.0.1", port = guarded.tls_port })
      local redis = client(("rediss://:%s@localhost:%d/"):format(SECRET, between.port), { ca = ca })
      works(redis, SECRET)
      local link = between.connections[1]
      for _, flow in ipairs { link.up, link.down } do
        assert.is_nil(flow:bytes():find(SECRET, 1, true))
        assert.is_nil(flow:bytes():find("HELLO", 1, true))
        assert.equal("\22\3", flow:bytes():sub(1, 2))
      end
    end)
  end)

  describe("the server's certificate", function()
    it("is good: signed by a trusted CA, and for that host", function()
      works(client(rediss("localhost", server.tls_port), { ca = ca }))
    end)

    it("may be verified by the system's authorities, which are the default", function()
      local message = refused(client(rediss("localhost", server.tls_port)))
      assert.matches("unknown CA", message)
      uv.os_setenv("SSL_CERT_FILE", ca)
      local output, status = child.run_text([[
        local redio = require "redio"
        print(redio.Redis(os.getenv "REDIS_URL")():echo("hello"):await())
      ]], rediss("localhost", server.tls_port))
      uv.os_unsetenv("SSL_CERT_FILE")
      assert.equal("hello\n", output)
      assert.equal(0, status)
    end)

    it("is by a wrong CA", function()
      local message, err = refused(client(rediss("localhost", server.tls_port), { ca = certs.other_ca.cert }))
      assert.matches("unknown CA: it is signed by none of the trusted authorities", message)
      assert.equal("localhost:" .. server.tls_port, err.address)
    end)

    it("is for a wrong host", function()
      local other = redis_with "other_host"
      assert.matches("host name mismatch, it is not for 'localhost'",
        (refused(client(rediss("localhost", other.tls_port), { ca = ca }))))
      works(client(rediss("localhost", other.tls_port), { ca = ca, server_name = "elsewhere.test" }))
      assert.matches("not for 'elsewhere.test'",
        (refused(client(rediss("localhost", server.tls_port), { ca = ca, server_name = "elsewhere.test" }))))
    end)

    it("has an address among its names, or has not", function()
      local ip = redis_with "ip"
      works(client(rediss("127.0.0.1", ip.tls_port), { ca = ca }))
      assert.matches("IP address mismatch, it is not for 127.0.0.1",
        (refused(client(rediss("127.0.0.1", server.tls_port), { ca = ca }))))
      assert.matches("IP address mismatch",
        (refused(client(rediss("127.0.0.1", redis_with("ip_as_dns").tls_port), { ca = ca }))))
      local probe = uv.new_tcp()
      local has_ip6 = probe:bind("::1", 0) ~= nil
      probe:close()
      if has_ip6 then
        works(client(rediss("[::1]", ip.tls_port), { ca = ca }))
      end
    end)

    it("has the name in its CN only, which does not count", function()
      for _, certificate in ipairs { "cn_only", "cn_other" } do
        assert.matches("host name mismatch",
          (refused(client(rediss("localhost", redis_with(certificate).tls_port), { ca = ca }))))
      end
    end)

    it("has expired", function()
      assert.matches("has expired", (refused(client(rediss("localhost", redis_with("expired").tls_port), { ca = ca }))))
    end)

    it("is self-signed", function()
      local own = redis_with "self_signed"
      assert.matches("it is self%-signed", (refused(client(rediss("localhost", own.tls_port), { ca = ca }))))
      works(client(rediss("localhost", own.tls_port), { ca = certs.self_signed.cert })) -- pinned
    end)

    it("is a client's", function()
      assert.matches("not meant for a server",
        (refused(client(rediss("localhost", redis_with("for_clients").tls_port), { ca = ca }))))
    end)

    it("is checked on every connection, private ones and receivers too", function()
      local redis = client(rediss("localhost", server.tls_port), { ca = certs.other_ca.cert })
      check.raises("ConnectionError", function()
        redis:connection():ping():await()
      end)
      check.raises("ConnectionError", function()
        redis:pubsub("channel"):connect()
      end)
      check.raises("ConnectionError", function()
        redis():blpop("list", 1):await()
      end)
    end)
  end)

  describe("verify = false", function()
    it("takes any certificate, and tostring says so", function()
      for _, certificate in ipairs { "server", "expired", "self_signed", "other_host" } do
        local redis = works(client(rediss("localhost", redis_with(certificate).tls_port), { verify = false }))
        assert.matches("^redio.Client%(localhost:%d+, TLS not verified, database 0%)$", tostring(redis))
      end
      local url = ("rediss://localhost:%d/?ssl_cert_reqs=none"):format(server.tls_port)
      assert.matches("TLS not verified", tostring(works(client(url))))
    end)

    it("is all that turns it off", function()
      for _, tls in ipairs { { ca = ca }, { ca = ca, verify = true }, { ca = ca, server_name = "localhost" } } do
        local redis = client(rediss("localhost", server.tls_port), tls)
        assert.matches("^redio.Client%(localhost:%d+, TLS, database 0%)$", tostring(redis))
      end
      assert.is_nil(tostring(client("redis://localhost/")):find("TLS"))
    end)
  end)

  describe("the client's certificate", function()
    local strict, newest

    setup(function()
      strict = peer.redis(certs, { clients = true, 'tls-protocols "TLSv1.2"' })
      newest = peer.redis(certs, { clients = true })
    end)

    teardown(function()
      strict:stop()
      newest:stop()
    end)

    it("is shown where it is asked for", function()
      for _, each in ipairs { strict, newest } do
        works(client(rediss("localhost", each.tls_port), { ca = ca, cert = certs.client.cert, key = certs.client.key }))
      end
    end)

    it("is missing", function()
      for _, each in ipairs { strict, newest } do
        local message = refused(client(rediss("localhost", each.tls_port), { ca = ca }))
        assert.matches("requires a client certificate %(tls.cert, tls.key%)", message)
      end
    end)

    it("is of an unknown authority", function()
      for _, each in ipairs { strict, newest } do
        local own = { ca = ca, cert = certs.foreign.cert, key = certs.foreign.key }
        assert.matches("does not know the authority of the client certificate",
          (refused(client(rediss("localhost", each.tls_port), own))))
      end
    end)

    it("cannot be read", function()
      local message = refused(client(rediss("localhost", newest.tls_port), { ca = ca, cert = "/none.pem" }))
      assert.equal("cannot connect: TLS: tls.cert '/none.pem': No such file or directory", message)
    end)
  end)

  describe("less than asked for", function()
    it("is never had from a server that answers in plain text", function()
      for _, answer in ipairs { "-ERR Protocol error\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "-" } do
        local between = later(proxy.start { host = "127.0.0.1", port = server.port })
        local redis = client(rediss("localhost", between.port), { ca = ca })
        redio.run(function()
          local waiting = redio.spawn(function()
            return refused(redis)
          end)
          redio.sleep(0.05)
          between:inject("down", answer)
          redio.sleep(0.05)
          between:cut()
          assert.equal("cannot connect: TLS handshake failed: the server does not speak TLS (a plain port?)",
            (waiting:await()))
        end)
      end
    end)

    it("is never had from a server that hangs up", function()
      local between = later(proxy.start { host = "127.0.0.1", port = server.port })
      between.up.cut = 1
      local message = refused(client(rediss("localhost", between.port), { ca = ca }))
      assert.equal("cannot connect: TLS handshake failed: the server closed the connection", message)
      between.up.how = "rst"
      message = refused(client(rediss("localhost", between.port), { ca = ca }))
      assert.equal("cannot connect: TLS handshake failed: connection reset by peer (ECONNRESET)", message)
    end)

    it("is never had from a plain redis-server, which gets no word of ours", function()
      local between = later(proxy.start { host = "127.0.0.1", port = server.port })
      local url = ("rediss://user:%s@localhost:%d/"):format(SECRET, between.port)
      local redis = client(url, { ca = ca }, { connect_timeout = 0.3 })
      local message = refused(redis, "TimeoutError")
      assert.matches("TLS handshake %(is it a port for TLS%?%)", message)
      for _, link in ipairs(between.connections) do
        local bytes = link.up:bytes()
        assert.equal("\22\3", bytes:sub(1, 2))
        assert.is_nil(bytes:find("HELLO", 1, true) or bytes:find("AUTH", 1, true) or bytes:find(SECRET, 1, true))
      end
    end)

    it("is no answer for a plain client either", function()
      check.raises("ConnectionError", function()
        client(("redis://localhost:%d/"):format(server.tls_port))():ping():await()
      end)
    end)

    it("is not TLS 1.1, nor 1.2 where min_version says 1.3", function()
      local old = later(peer.openssl(certs.server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"))
      assert.matches("no TLS version that is allowed here",
        (refused(client(rediss("localhost", old.port), { ca = ca }))))
      local second = later(peer.redis(certs, { 'tls-protocols "TLSv1.2"' }))
      works(client(rediss("localhost", second.tls_port), { ca = ca }))
      assert.matches("no TLS version that is allowed here %(tls.min_version%)",
        (refused(client(rediss("localhost", second.tls_port), { ca = ca, min_version = "1.3" }))))
      works(client(rediss("localhost", server.tls_port), { ca = ca, min_version = "1.3" }))
    end)
  end)

  describe("SNI", function()
    -- The client's first record, which is in clear.
    local function hello_of(host, tls)
      local between = later(proxy.start { host = "127.0.0.1", port = server.tls_port })
      tls.verify = false
      works(client(rediss(host, between.port), tls))
      return between.connections[1].up:bytes():sub(1, 600)
    end

    it("is the host's name, or server_name", function()
      assert.truthy(hello_of("localhost", {}):find("\0\0\9localhost", 1, true))
      assert.truthy(hello_of("localhost", { server_name = "redis.test" }):find("\0\0\10redis.test", 1, true))
      assert.truthy(hello_of("127.0.0.1", { server_name = "redis.test" }):find("\0\0\10redis.test", 1, true))
    end)

    it("is never an address", function()
      assert.is_nil(hello_of("127.0.0.1", {}):find("127.0.0.1", 1, true))
      assert.is_nil(hello_of("localhost", { server_name = "::1" }):find("::1", 1, true))
    end)
  end)

  describe("the stream", function()
    local function through(options)
      local between = later(proxy.start { host = "127.0.0.1", port = server.tls_port })
      return between, client(rediss("localhost", between.port), { ca = ca }, options)
    end

    it("is an error when it is cut without close_notify", function()
      local between, redis = through()
      works(redis)
      between.down.hold = true
      redio.run(function()
        local waiting = redio.spawn(function()
          return redis():incr("spec:tls:cut"):await()
        end)
        redio.sleep(0.05)
        between:cut()
        local err = check.raises("ConnectionClosedError", waiting.await, waiting)
        assert.equal("connection lost: TLS stream cut short (no close_notify)", err.message)
        assert.equal("maybe", err.sent)
      end)
    end)

    it("ends in good order when the server says so", function()
      local redis = works(client(rediss("localhost", server.tls_port), { ca = ca }))
      redio.run(function()
        local waiting = redio.spawn(function()
          return redis():blpop("spec:tls:none", 0):await()
        end)
        redio.sleep(0.05)
        server:cli("client", "kill", "type", "normal", "skipme", "yes")
        local err = check.raises("ConnectionClosedError", waiting.await, waiting)
        assert.equal("connection closed by the server", err.message)
      end)
    end)

    it("is whole byte by byte", function()
      local between, redis = through()
      between.up.chunk, between.down.chunk = 1, 1
      works(redis, ("0123456789"):rep(20))
      assert.equal(1, #between.connections)
    end)

    it("is whole in records of 16 KiB, many at once", function()
      local between, redis = through()
      works(redis, ("0123456789abcde"):rep(200000)) -- 3 MB
      between.up.chunk, between.down.chunk = 5000, 5000
      works(redis, ("0123456789abcde"):rep(10000))
      assert.equal(1, #between.connections)
    end)

    it("carries what any other carries, under both protocols", function()
      check.protocols(function(protocol)
        local redis = client(rediss("localhost", server.tls_port), { ca = ca }, { protocol = protocol })
        redio.run(function()
          local db = redis()
          for i = 1, 2000 do
            db:set("spec:tls:" .. i, ("v"):rep(i))
          end
          db:await()
          for i = 1, 2000 do
            db:get("spec:tls:" .. i)
          end
          for i, value in ipairs(db:replies()) do
            assert.equal(i, #value)
          end
          assert.same({ 1, 2 }, redis():multi():incr("spec:tls:n"):incr("spec:tls:n"):exec():await())
          assert.is_true(redis:transaction("spec:tls:n", function(handle)
            handle:multi():del("spec:tls:n")
          end) ~= false)
          local calls = {}
          for i = 1, 100 do
            calls[i] = function()
              assert.equal("e" .. i, redis():echo("e" .. i):await())
            end
          end
          redio.gather((table.unpack or unpack)(calls)) -- luacheck: ignore unpack
        end)
        check.wipe(redis, "spec:tls:")
      end)
    end)

    it("is not read while a receiver's queue is full", function()
      local redis = client(rediss("localhost", server.tls_port), { ca = ca }, { queue_limit = 10 })
      redio.run(redio.with_timeout, 10, function()
        local receiver = redis:pubsub("spec:tls:channel"):connect()
        local db = redis()
        for i = 1, 500 do
          db:publish("spec:tls:channel", i .. ("x"):rep(1000))
        end
        db:replies()
        for i = 1, 500 do
          assert.equal(i .. ("x"):rep(1000), receiver:await())
        end
        receiver:close()
      end)
    end)

    it("is dead once a byte was forged on the way", function()
      local between, redis = through()
      works(redis)
      between:inject("down", "\23\3\3\0\32" .. ("forged! "):rep(4))
      local err = check.raises("ConnectionError", function()
        redis():echo("hello"):await()
      end)
      assert.matches("TLS failed: .*bad record mac", err.message)
    end)

    -- The write failed in the coroutine that was about to wait for it, and the process ended.
    for _, bytes in ipairs { 100, 10000, 100000 } do
      it(("is dead behind a reply upon which %d bytes are written at once"):format(bytes), function()
        local between, redis = through()
        works(redis)
        redio.run(function()
          local waiting = redio.spawn(function()
            assert.equal("first", redis():echo("first"):await())
            return check.raises("ConnectionError", function()
              redis():echo(("x"):rep(bytes)):await()
            end)
          end)
          between.down.hold = true
          redio.sleep(0.05)
          between:inject("down", "\23\3\3\0\32" .. ("forged! "):rep(4))
          between:release(true)
          assert.matches("TLS failed: .*bad record mac", waiting:await().message)
          between:cut()
          works(redis)
        end)
      end)
    end
  end)

  describe("the client", function()
    it("has its handshake within connect_timeout", function()
      local between = later(proxy.start { host = "127.0.0.1", port = server.tls_port })
      between.down.drop = true
      local before = uv.hrtime()
      local message = refused(client(rediss("localhost", between.port), { ca = ca }, { connect_timeout = 0.2 }),
        "TimeoutError")
      assert.matches("still in the TLS handshake", message)
      assert.is_true(uv.hrtime() - before < 1e9)
    end)

    it("comes back after a loss, verified again", function()
      local between = later(proxy.start { host = "127.0.0.1", port = server.tls_port })
      local redis = client(rediss("localhost", between.port), { ca = ca }, { retry = true })
      works(redis)
      between:cut()
      redio.run(redio.sleep, 0.05)
      works(redis)
      assert.equal(2, between.accepted)
    end)

    it("is collected with its connection, which ends at the server", function()
      local options = { tls = { ca = ca }, client_name = "spec-tls-dropped" }
      local function listed()
        return server:cli("client", "list"):find("spec-tls-dropped", 1, true) ~= nil
      end
      works(redio.Redis(rediss("localhost", server.tls_port), options))
      assert.is_true(listed())
      redio.run(function()
        assert.is_true(check.eventually(function()
          collectgarbage()
          collectgarbage()
          return not listed()
        end))
      end)
    end)

    it("does not load TLS for a plain connection", function()
      local output = child.run_text([[
        local redio = require "redio"
        print(redio.Redis(os.getenv "REDIS_URL")():echo("hello"):await(), package.loaded["redio.tls"])
      ]], server.url)
      assert.equal("hello\tnil\n", output)
    end)

    it("says at once when TLS is not built in", function()
      local output = child.run_text([[
        package.preload["redio.tls"] = function()
          error("module 'redio.tls' not found:\n\tno field", 0)
        end
        local redio = require "redio"
        print(pcall(function()
          redio.Redis("rediss://localhost/")
        end))
        print(redio.Redis(os.getenv "REDIS_URL")():echo("hello"):await())
      ]], server.url)
      assert.matches("^false\t[^\n]*:6: TLS is not built into this redio: [^\n]*\nhello\n$", output)
    end)

    it("leaves TLS to a transport that has its own", function()
      local own, given = {}, nil
      for name, value in pairs(require("redio.transport").default()) do
        own[name] = value
      end
      own.native_tls = true
      function own.connect(settings, done)
        given = settings.tls
        return require("redio.transport").default().connect({ host = "127.0.0.1", port = server.port }, done)
      end
      works(client("rediss://example.test/", { ca = "/ca" }, { transport = own }))
      assert.same({ ca = "/ca", verify = true, min_version = "1.2" }, given)
    end)
  end)
end)
