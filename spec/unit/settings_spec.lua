-- SPDX-License-Identifier: MIT
-- settings/: a client's options are checked, completed and copied. Needs no server.

local settings_of = require "redio.settings"
local types = require "redio.settings.types"

local resolve = settings_of.resolve

local function refuse(url, given, pattern)
  local ok, message = pcall(function()
    resolve(url, given)
  end)
  assert.is_false(ok)
  assert.matches("^[^:]*settings_spec.lua:%d+: ", message)
  assert.matches(pattern, message)
end

local function noop() end

describe("options.resolve", function()
  it("fills in every default", function()
    assert.same({
      host = "localhost",
      port = 6379,
      address = "localhost:6379",
      database = 0,
      protocol = 3,
      tls = false,
      connect_timeout = 5,
      timeout = 30,
      read_timeout = 30,
      write_timeout = 30,
      max_connections = 64,
      min_connections = 0,
      pool_timeout = 20,
      multiplex = true,
      retry = { max = 3, base = 0.15, cap = 3 },
      health_check_interval = false,
      decode = "none",
      decode_mode = "none",
      max_receivers = 1024,
      queue_limit = 1000,
      max_queued_bytes = 67108864,
      seeds = { { host = "localhost", port = 6379, address = "localhost:6379" } },
    }, resolve())
  end)

  it("takes every option", function()
    local transport = {}
    local given = {
      username = "u",
      password = "p",
      database = 1,
      client_name = "me",
      protocol = 2,
      tls = { ca = "/ca", cert = "/c", key = "/k", server_name = "n", verify = false, min_version = "1.3" },
      connect_timeout = 1.5,
      timeout = 2,
      max_connections = 3,
      min_connections = 1,
      pool_timeout = 4,
      multiplex = false,
      retry = { max = 1, base = 0.5, cap = 5 },
      health_check_interval = 6,
      decode = "auto",
      null = "null",
      json = { encode = noop, decode = noop },
      on_connect = noop,
      max_receivers = 9,
      queue_limit = 7,
      max_queued_bytes = 8,
      limits = { max_bulk = 1, max_elements = 2, max_line = 3, max_depth = 4 },
      host = "example.com",
      port = 7000,
      transport = transport,
    }
    local settings = resolve(nil, given)
    for name, value in pairs(given) do
      assert.same(value, settings[name], name)
    end
    assert.equal(transport, settings.transport)
    assert.equal("/run/redis.sock", resolve(nil, { path = "/run/redis.sock" }).path)
    given.path = true
    for _, name in ipairs(types.names) do
      assert.is_not_nil(given[name], "no case for " .. name)
    end
  end)

  it("copies the options and what is in them", function()
    local given = { timeout = { read = 1 }, retry = { max = 1 }, tls = { ca = "/ca" }, limits = { max_depth = 5 } }
    local settings = resolve(nil, given)
    given.timeout.read, given.retry.max, given.tls.ca, given.limits.max_depth, given.database = 9, 9, "/x", 9, 9
    assert.equal(1, settings.timeout.read)
    assert.equal(1, settings.retry.max)
    assert.equal("/ca", settings.tls.ca)
    assert.equal(5, settings.limits.max_depth)
    assert.equal(0, settings.database)
    settings.retry.base = 100
    assert.equal(0.15, resolve().retry.base)
    assert.is_nil(given.host)
  end)

  it("lets false stand where it means off", function()
    local settings = resolve(nil, {
      tls = false,
      connect_timeout = false,
      timeout = false,
      pool_timeout = false,
      multiplex = false,
      retry = false,
      health_check_interval = false,
      decode = false,
      null = false,
    })
    for _, name in ipairs {
      "tls",
      "connect_timeout",
      "timeout",
      "read_timeout",
      "write_timeout",
      "pool_timeout",
      "multiplex",
      "retry",
      "health_check_interval",
      "null",
    } do
      assert.is_false(settings[name], name)
    end
    assert.equal("none", settings.decode)
  end)

  describe("URL and table", function()
    it("are one; what the URL says wins", function()
      local settings = resolve("redis://u:p@a:1/2?timeout=3&db=4", {
        username = "x",
        password = "x",
        host = "x",
        port = 9,
        database = 9,
        timeout = 9,
        client_name = "me",
      })
      assert.equal("u", settings.username)
      assert.equal("p", settings.password)
      assert.equal("a:1", settings.address)
      assert.equal(4, settings.database)
      assert.equal(3, settings.timeout)
      assert.equal("me", settings.client_name)
    end)

    it("fill what the other leaves open", function()
      assert.equal("a:7000", resolve("redis://a", { port = 7000 }).address)
      assert.equal("b:6379", resolve("redis:///1", { host = "b" }).address)
      assert.equal(3, resolve("redis://a/", { database = 3 }).database)
      assert.equal(0, resolve("redis://a/0", { db = 3 }).database)
      assert.equal("p", resolve("redis://u@a", { password = "p" }).password)
    end)

    it("contradict each other when one has a socket and the other a host", function()
      refuse(nil, { host = "a", path = "/b" }, "contradict")
      refuse(nil, { port = 1, path = "/b" }, "contradict")
      refuse("redis://a", { path = "/b" }, "contradict")
      refuse("/b", { host = "a" }, "contradict")
      assert.equal("/b", resolve("/b", { path = "/c" }).path)
    end)

    it("raises what is wrong with the URL where the caller stands", function()
      refuse("redis://localhost:x", nil, "bad URL: the port")
      refuse({ host = "a" }, nil, "bad URL: it must be a string, got table; options are the second argument")
      refuse("localhost?timeuot=1", nil, "unknown option 'timeuot' in the query; did you mean 'timeout'")
    end)
  end)

  describe("the address, for people", function()
    it("is host:port, brackets around IPv6, or a path", function()
      assert.equal("localhost:6379", resolve().address)
      assert.equal("[::1]:7000", resolve("redis://:secret@[::1]:7000").address)
      assert.equal("[::1]:6379", resolve(nil, { host = "::1" }).address)
      assert.equal("[::1]:6379", resolve(nil, { host = "[::1]" }).address)
      assert.equal("::1", resolve(nil, { host = "[::1]" }).host)
      assert.equal("/run/redis.sock", resolve("unix://:secret@/run/redis.sock").address)
      assert.equal("/run/\\nx", resolve("unix:///run/%0Ax").address)
    end)

    it("leaves the other's fields out", function()
      local settings = resolve("/run/redis.sock")
      assert.is_nil(settings.host)
      assert.is_nil(settings.port)
    end)
  end)

  describe("timeout", function()
    it("may differ for reading and writing", function()
      local settings = resolve(nil, { timeout = { read = false, write = 15 } })
      assert.is_false(settings.read_timeout)
      assert.equal(15, settings.write_timeout)
      assert.equal(30, resolve(nil, { timeout = { read = 1 } }).write_timeout)
      assert.equal(30, resolve(nil, { timeout = { write = 1 } }).read_timeout)
    end)

    it("is a number of seconds that a clock can count", function()
      for _, bad in ipairs { 0, -1, 0 / 0, math.huge, "5", true, noop } do
        refuse(nil, { timeout = bad }, "'timeout' must be a positive number of seconds")
        refuse(nil, { timeout = { read = bad } }, "'timeout.read' must be a positive number of seconds")
        refuse(nil, { connect_timeout = bad }, "'connect_timeout' must be a positive number")
      end
      refuse(nil, { timeout = 0 / 0 }, "got NaN")
      refuse(nil, { timeout = { reed = 1 } }, "unknown option 'timeout.reed'; did you mean 'read'")
      refuse(nil, { connect_timeout = { read = 1 } }, "'connect_timeout' must be")
    end)

    it("of the pool may be 0: take a free connection or raise", function()
      assert.equal(0, resolve(nil, { pool_timeout = 0 }).pool_timeout)
      refuse(nil, { pool_timeout = -1 }, "'pool_timeout' must be")
    end)
  end)

  describe("retry", function()
    it("is off, on, or on with bounds", function()
      assert.is_false(resolve(nil, { retry = false }).retry)
      assert.same({ max = 3, base = 0.15, cap = 3 }, resolve(nil, { retry = true }).retry)
      assert.same({ max = 9, base = 0.15, cap = 3 }, resolve(nil, { retry = { max = 9 } }).retry)
      assert.equal(0, resolve(nil, { retry = { max = 0 } }).retry.max)
    end)

    it("refuses bounds that are none", function()
      refuse(nil, { retry = { max = -1 } }, "'retry.max' must be an integer, 0 or more")
      refuse(nil, { retry = { base = 0 } }, "'retry.base' must be a positive number")
      refuse(nil, { retry = { base = 4 } }, "base must not be more than cap")
      refuse(nil, { retry = { jitter = 1 } }, "unknown option 'retry.jitter'")
      refuse(nil, { retry = 3 }, "'retry' must be true, false or a table")
    end)
  end)

  describe("tls", function()
    local verified = { verify = true, min_version = "1.2" }

    it("verifies unless told otherwise", function()
      assert.is_false(resolve("redis://localhost").tls)
      assert.same(verified, resolve("rediss://localhost").tls)
      assert.same(verified, resolve("redis://localhost", { tls = true }).tls)
      assert.same(verified, resolve(nil, { tls = {} }).tls)
      assert.same({ verify = false, min_version = "1.2" }, resolve(nil, { tls = { verify = false } }).tls)
      assert.is_false(resolve("rediss://localhost?ssl_cert_reqs=none").tls.verify)
    end)

    it("is put together from URL and table, the URL's fields first", function()
      local given = { tls = { ca = "/ca", server_name = "x" } }
      local tls = resolve("redis+unix+tls://name/run/redis.sock", given).tls
      assert.same({ verify = true, min_version = "1.2", ca = "/ca", server_name = "name" }, tls)
    end)

    it("is never taken back from a URL that asks for it", function()
      refuse("rediss://localhost", { tls = false }, "the URL asks for TLS")
      refuse(nil, { tls = false, ssl_ca_certs = "/ca" }, "tls is false, and")
      assert.is_false(resolve("redis://localhost?tls=no", { tls = true }).tls)
    end)

    it("over a unix socket needs a name to verify", function()
      refuse("redis+unix+tls:///run/redis.sock", nil, "name on the certificate")
      refuse("/run/redis.sock", { tls = true }, "name on the certificate")
      assert.equal("n", resolve("/run/redis.sock", { tls = { server_name = "n" } }).tls.server_name)
      assert.is_false(resolve("/run/redis.sock", { tls = { verify = false } }).tls.verify)
    end)

    it("refuses fields it does not know", function()
      refuse(nil, { tls = { cafile = "/ca" } }, "unknown option 'tls.cafile'; did you mean 'ca'")
      refuse(nil, { tls = { verify = "no" } }, "'tls.verify' must be true or false, got string")
      refuse(nil, { tls = { min_version = "1.1" } }, "'tls.min_version' must be '1.2' or '1.3'")
      refuse(nil, { tls = { ca = "" } }, "'tls.ca' must be a string, not empty")
      refuse(nil, { tls = { key = "/k" } }, "tls.cert is missing")
      refuse(nil, { tls = "yes" }, "'tls' must be true, false or a table of ca")
    end)
  end)

  describe("decode", function()
    it("is a mode or a function", function()
      assert.equal("str", resolve(nil, { decode = "str" }).decode_mode)
      assert.equal("str", resolve(nil, { decode = "strdecode" }).decode)
      assert.equal("auto", resolve(nil, { decode = "autodecode" }).decode_mode)
      local settings = resolve(nil, { decode = noop })
      assert.equal("fn", settings.decode_mode)
      assert.equal(noop, settings.decode)
      refuse(nil, { decode = "utf-8" }, "'decode' must be 'none', 'str', 'auto' or a function")
    end)
  end)

  describe("users", function()
    it("may have no password", function()
      assert.equal("", resolve("redis://guest@localhost").password)
      assert.equal("", resolve(nil, { username = "guest", password = "" }).password)
    end)

    it("are none when empty, as an unset variable makes them", function()
      local settings = resolve(nil, { username = "", password = "" })
      assert.is_nil(settings.username)
      assert.is_nil(settings.password)
    end)
  end)

  describe("aioredis 2's names", function()
    it("are understood", function()
      local settings = resolve(nil, {
        db = 2,
        socket_timeout = 3,
        socket_connect_timeout = 4,
        decode_responses = true,
        health_check_interval = 0,
        ssl_ca_certs = "/ca",
        ssl_certfile = "/c",
        ssl_keyfile = "/k",
        ssl_cert_reqs = "required",
      })
      assert.equal(2, settings.database)
      assert.equal(3, settings.read_timeout)
      assert.equal(4, settings.connect_timeout)
      assert.equal("str", settings.decode)
      assert.is_false(settings.health_check_interval)
      assert.same({ ca = "/ca", cert = "/c", key = "/k", verify = true, min_version = "1.2" }, settings.tls)
      for _, name in ipairs { "db", "socket_timeout", "decode_responses", "ssl_ca_certs" } do
        assert.is_nil(settings[name])
      end
    end)

    it("are not said beside ours", function()
      refuse(nil, { db = 1, database = 1 }, "are the same")
      refuse(nil, { socket_timeout = 1, timeout = 1 }, "are the same")
    end)
  end)

  describe("refuses", function()
    it("what it does not know, and says what was meant", function()
      refuse(nil, { timeuot = 1 }, "unknown option 'timeuot'; did you mean 'timeout'")
      refuse(nil, { Database = 1 }, "did you mean 'database'")
      refuse(nil, { health_check = 1 }, "did you mean 'health_check_interval'")
      refuse(nil, { passwd = "s3cret" }, "unknown option 'passwd'; did you mean 'password'")
      refuse(nil, { quux = 1 }, "unknown option 'quux'$")
      refuse(nil, { "localhost" }, "a table by name")
      refuse(nil, { ["tls.ca"] = "/ca" }, "unknown option 'tls.ca'")
    end)

    it("what is of the wrong type or out of range", function()
      refuse(nil, { database = -1 }, "'database' must be an integer, 0 or more")
      refuse(nil, { database = 0.5 }, "'database' must be")
      refuse(nil, { database = "1" }, "'database' must be an integer, 0 or more, got string")
      refuse(nil, { database = 2 ^ 31 }, "'database' must be")
      refuse(nil, { port = 0 }, "'port' must be an integer from 1 to 65535")
      refuse(nil, { port = 65536 }, "'port' must be")
      refuse(nil, { host = "" }, "'host' must be")
      refuse(nil, { path = "a\0b" }, "'path' must be")
      refuse(nil, { password = 12345 }, "'password' must be a string, got number")
      refuse(nil, { protocol = 1 }, "'protocol' must be the number 2 or 3")
      refuse(nil, { multiplex = 1 }, "'multiplex' must be true or false, got number")
      refuse(nil, { on_connect = "f" }, "'on_connect' must be a function, got string")
      refuse(nil, { transport = "luv" }, "'transport' must be a table")
      refuse(nil, { json = { encode = noop } }, "'json' must be a table with the functions")
      refuse(nil, { max_connections = 0 }, "'max_connections' must be an integer, 1 or more")
      refuse(nil, { max_connections = 2, min_connections = 3 }, "'min_connections' must not be more")
      refuse(nil, { limits = { max_depth = 0 } }, "'limits.max_depth' must be")
      refuse(nil, { limits = 5 }, "'limits' must be a table of max_bulk")
      refuse(nil, "localhost", "the options must be a table, got string")
    end)

    it("at the level it is told", function()
      local function constructor(given)
        local settings = resolve(nil, given, 3)
        return settings
      end
      local line
      local _, message = pcall(function()
        line = debug.getinfo(1, "l").currentline + 1
        constructor { quux = 1 }
      end)
      assert.matches("settings_spec.lua:" .. line .. ": ", message)
    end)

    it("and shows no value, which may be a secret in the wrong place", function()
      for _, name in ipairs(types.names) do
        local ok, message = pcall(resolve, nil, { [name] = { s3cret = "s3cret" } })
        if not ok then
          assert.is_nil(message:find("s3cret", 1, true) and not message:find("unknown option", 1, true) or nil)
        end
        ok, message = pcall(resolve, nil, { [name] = "s3cret" })
        assert.is_true(ok or not message:find("s3cret", 1, true), message)
      end
    end)
  end)

  it("keeps whole numbers as integers, however they were written", function()
    assert.equal("2", tostring(resolve(nil, { database = 2.0 }).database))
    assert.equal("localhost:7000", resolve(nil, { port = 7000.0 }).address)
  end)

  it("takes a JSON library as it is", function()
    local settings = resolve(nil, { json = { encode = noop, decode = noop, _VERSION = "1" } })
    assert.same({ encode = noop, decode = noop }, settings.json)
  end)
end)
