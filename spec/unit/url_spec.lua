-- SPDX-License-Identifier: MIT

local settings_of = require "redio.settings"
local random_numbers = require "spec.support.random"
local url = require "redio.settings.url"

-- Compares the fields of a parsed URL. Fields that `expected` does not name must be nil (`options`: empty).
local function check(text, expected)
  expected.tls = expected.tls or false
  expected.options = expected.options or {}
  assert.same(expected, url.parse(text), text)
end

local function tcp(fields)
  fields.host = fields.host or "localhost"
  fields.port = fields.port or 6379
  return fields
end

local function refuse(text, pattern)
  local ok, message = pcall(url.parse, text)
  assert.is_false(ok, tostring(text) .. " was accepted")
  assert.equal("string", type(message))
  assert.equal("bad URL: ", message:sub(1, 9))
  assert.matches(pattern, message)
  return message
end

describe("url.parse", function()
  describe("TCP", function()
    it("defaults to localhost, 6379, no database said", function()
      check(nil, tcp {})
      for _, text in ipairs { "redis://localhost/", "redis://localhost", "redis://", "redis:///", "localhost" } do
        check(text, tcp {})
      end
    end)

    it("takes a database as the path", function()
      check("redis://localhost/2", tcp { database = 2 })
      check("redis:///2", tcp { database = 2 })
      check("localhost/2", tcp { database = 2 })
      check("redis://localhost/%31", tcp { database = 1 })
      check("redis://localhost/0", tcp { database = 0 })
      for _, path in ipairs { "x", "-1", "1.5", "+1", "1e1", "0x1", "1/", "1/2", "99999999999", " 1" } do
        refuse("redis://localhost/" .. path, "number of a database")
      end
    end)

    it("takes a host and a port, with a scheme or without", function()
      check("redis://example.com:7000", tcp { host = "example.com", port = 7000 })
      check("example.com:7000/1", tcp { host = "example.com", port = 7000, database = 1 })
      check("redis:7000", tcp { host = "redis", port = 7000 })
      check("my_redis-1", tcp { host = "my_redis-1" })
      check("redis://:7000", tcp { port = 7000 })
      check("redis://localhost:/1", tcp { database = 1 })
      check("redis://127.0.0.1:1", tcp { host = "127.0.0.1", port = 1 })
      check("redis://ex%61mple.com:65535", tcp { host = "example.com", port = 65535 })
    end)

    it("takes IPv6 addresses in brackets", function()
      check("redis://[::1]", tcp { host = "::1" })
      check("redis://[::1]:7000/2", tcp { host = "::1", port = 7000, database = 2 })
      check("[2001:db8::1]:7000", tcp { host = "2001:db8::1", port = 7000 })
      check("redis://u:p@[::ffff:1.2.3.4]/", tcp { host = "::ffff:1.2.3.4", username = "u", password = "p" })
      check("redis://[fe80::1%25eth0]/", tcp { host = "fe80::1%eth0" })
      refuse("redis://::1/", "brackets, like %[::1%]")
      refuse("redis://::1:6379/", "brackets")
      refuse("redis://[localhost]/", "IPv6 address")
      refuse("redis://[::1]x/", "only a port")
      refuse("redis://[fe80::1%eth0]/", "%%25")
    end)

    it("refuses a port that is none", function()
      for _, port in ipairs { "0", "65536", "-1", "x", "6379x", "+1", "99999999999999999999", "1.5", "%31" } do
        refuse("redis://localhost:" .. port .. "/", "from 1 to 65535")
      end
    end)

    it("refuses a host that is none", function()
      for _, host in ipairs { "a b", "a%2Fb", "a%00", "a*", "%0d%0a", "a,b", "[::1", "a\\b" } do
        refuse("redis://" .. host .. "/", "")
      end
    end)
  end)

  describe("user and password", function()
    it("stand before the last @", function()
      check("redis://:password@localhost/2", tcp { password = "password", database = 2 })
      check("redis://user:pass@host:1/2", {
        host = "host",
        port = 1,
        username = "user",
        password = "pass",
        database = 2,
      })
      check("user:pass@host", tcp { host = "host", username = "user", password = "pass" })
      check(":pass@host/3", tcp { host = "host", password = "pass", database = 3 })
      check("redis://user@host", tcp { host = "host", username = "user" })
      check("redis://:@host", tcp { host = "host" })
      check("redis://@host", tcp { host = "host" })
      check("redis://u:p@/2", tcp { username = "u", password = "p", database = 2 })
      check("redis://u:a@b:c@host", tcp { host = "host", username = "u", password = "a@b:c" })
    end)

    it("are percent-decoded once", function()
      check("redis://u%40x:%2525%3a%2F@host", tcp { host = "host", username = "u@x", password = "%25:/" })
      check("redis://:a+b%20c@host", tcp { host = "host", password = "a+b c" })
      check("redis://:%00%0D%0a%ff@host", tcp { host = "host", password = "\0\r\n\255" })
      for _, bad in ipairs { "%", "%4", "%zz", "a%", "%%41" } do
        refuse("redis://:" .. bad .. "@host", "the password has a %% without two hex")
        refuse("redis://" .. bad .. ":p@host", "the user name has a %%")
      end
    end)
  end)

  describe("TLS", function()
    it("is asked for by the scheme", function()
      check("rediss://localhost/", tcp { tls = true })
      check("redis+tls://u:p@host:1/2", {
        host = "host",
        port = 1,
        tls = true,
        username = "u",
        password = "p",
        database = 2,
      })
      check("REDISS://localhost", tcp { tls = true })
    end)

    it("or by the query, and is never taken back", function()
      check("redis://localhost/?tls=yes", tcp { tls = true })
      check("redis://localhost/?tls=no", tcp {})
      refuse("rediss://localhost/?tls=no", "scheme asks for TLS")
    end)

    it("takes aioredis' names for its files", function()
      check("rediss://host/?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k&ssl_cert_reqs=none", tcp {
        host = "host",
        tls = true,
        options = { tls = { ca = "/ca.pem", cert = "/c", key = "/k", verify = false } },
      })
      check("rediss://host/?ssl_cert_reqs=required", tcp {
        host = "host",
        tls = true,
        options = { tls = { verify = true } },
      })
      refuse("redis://host/?ssl_ca_certs=/ca.pem", "rediss://")
      refuse("rediss://host/?ssl_cert_reqs=maybe", "'none', 'optional' or 'required'")
    end)
  end)

  describe("unix sockets", function()
    it("have a path in place of host and port", function()
      for _, text in ipairs {
        "redis+unix:///run/redis.sock",
        "unix:///run/redis.sock",
        "redis-socket:///run/redis.sock",
        "/run/redis.sock",
        "/run/redis%2Esock",
        "Unix:///run/redis.sock",
      } do
        check(text, { path = "/run/redis.sock" })
      end
    end)

    it("take the database from the query", function()
      check("redis+unix:///run/redis.sock?database=2", { path = "/run/redis.sock", database = 2 })
      check("redis-socket:///run/redis.sock?db=2", { path = "/run/redis.sock", database = 2 })
      check("/run/redis.sock?db=2&timeout=1.5", {
        path = "/run/redis.sock",
        database = 2,
        options = { timeout = 1.5 },
      })
    end)

    it("take a user and a password", function()
      local expected = { path = "/run/r.sock", username = "u", password = "p%", database = 1 }
      check("unix://u:p%25@/run/r.sock?db=1", expected)
      check("redis+unix://u:p%25@/run/r.sock?db=1", expected)
      check("redis-socket://u:p%25@/run/r.sock?db=1", expected)
      check("u:p%25@/run/r.sock?db=1", expected)
      check("unix://:@/run/r.sock", { path = "/run/r.sock" })
      check("redis-socket://:pass@/run/r.sock", { path = "/run/r.sock", password = "pass" })
    end)

    it("have no host: a third slash is missing", function()
      refuse("redis+unix://run/redis.sock", "third slash")
      refuse("unix://localhost/run/redis.sock", "third slash")
      refuse("unix://", "path of the socket is missing")
      refuse("redis+unix:///", "path of the socket is missing")
      refuse("unix:///a%00b", "NUL")
    end)

    it("with TLS have the name on the certificate", function()
      check("redis+unix+tls://name.on.certificate/run/redis.sock", {
        path = "/run/redis.sock",
        tls = true,
        options = { tls = { server_name = "name.on.certificate" } },
      })
      check("redis+unix+tls://u:p@name/run/redis.sock?db=3&ssl_ca_certs=/ca", {
        path = "/run/redis.sock",
        tls = true,
        username = "u",
        password = "p",
        database = 3,
        options = { tls = { server_name = "name", ca = "/ca" } },
      })
      check("redis+unix+tls:///run/redis.sock", { path = "/run/redis.sock", tls = true })
      refuse("redis+unix+tls://name:1/run/redis.sock", "certificate's name")
    end)
  end)

  describe("query", function()
    it("beats the rest of the URL", function()
      check("redis://localhost/1?database=2", tcp { database = 2 })
      check("redis://localhost/1?db=2", tcp { database = 2 })
      check("redis://u:p@localhost?password=q%26%3D%26", tcp { username = "u", password = "q&=&" })
      check("redis://?username=u&password=a=b", tcp { username = "u", password = "a=b" })
    end)

    it("casts every option that fits into text", function()
      check(
        "redis://localhost/?client_name=a%20b&protocol=2&connect_timeout=.5&timeout=10&max_connections=5"
          .. "&min_connections=1&pool_timeout=0&health_check_interval=30&decode=auto&queue_limit=10"
          .. "&max_queued_bytes=1000&retry=no&multiplex=False",
        tcp {
          options = {
            client_name = "a b",
            protocol = 2,
            connect_timeout = 0.5,
            timeout = 10,
            max_connections = 5,
            min_connections = 1,
            pool_timeout = 0,
            health_check_interval = 30,
            decode = "auto",
            queue_limit = 10,
            max_queued_bytes = 1000,
            retry = false,
            multiplex = false,
          },
        }
      )
    end)

    it("reads booleans as True, False, Yes, No, 1, 0 in any case", function()
      for _, word in ipairs { "True", "true", "TRUE", "Yes", "yes", "1" } do
        check("localhost?multiplex=" .. word, tcp { options = { multiplex = true } })
      end
      for _, word in ipairs { "False", "false", "No", "NO", "0" } do
        check("localhost?multiplex=" .. word, tcp { options = { multiplex = false } })
      end
      for _, word in ipairs { "", "2", "on", "off", "y", "truee", "nil" } do
        refuse("localhost?multiplex=" .. word, "'multiplex' must be true or false")
      end
    end)

    it("reads a duration that is off", function()
      for _, word in ipairs { "false", "No", "None" } do
        check("localhost?timeout=" .. word, tcp { options = { timeout = false } })
      end
      check("localhost?health_check_interval=0", tcp { options = { health_check_interval = false } })
    end)

    it("knows aioredis 2's names", function()
      check(
        "redis://localhost/?db=1&socket_timeout=2&socket_connect_timeout=3&decode_responses=True",
        tcp { database = 1, options = { timeout = 2, connect_timeout = 3, decode = "str" } }
      )
      check("localhost?decode_responses=0", tcp { options = { decode = "none" } })
    end)

    it("may say the place, where the rest of the URL does not", function()
      check("redis://?host=example.com&port=7000", tcp { host = "example.com", port = 7000 })
      check("redis://?path=/run/redis.sock", { path = "/run/redis.sock" })
      refuse("redis://a/?host=b", "query has a host")
      refuse("redis://a/?path=/b", "query has a path")
      refuse("/run/redis.sock?port=1", "query has a port")
      refuse("redis://?host=a&path=/b", "query has a path")
    end)

    it("refuses what it cannot cast, with what it would take", function()
      refuse("localhost?database=x", "'database' must be an integer, 0 or more")
      refuse("localhost?db=-1", "'db' must be an integer")
      refuse("localhost?db=1.5", "'db' must be an integer")
      refuse("localhost?db=", "'db' must be an integer")
      refuse("localhost?db=0x10", "'db' must be an integer")
      refuse("localhost?timeout=soon", "'timeout' must be a positive number")
      refuse("localhost?timeout=-1", "'timeout' must be a positive number")
      refuse("localhost?timeout=0", "'timeout' must be a positive number")
      refuse("localhost?timeout=nan", "'timeout' must be a positive number")
      refuse("localhost?timeout=inf", "'timeout' must be a positive number")
      refuse("localhost?timeout=1e3", "'timeout' must be a positive number")
      refuse("localhost?protocol=4", "'protocol' must be the number 2 or 3")
      refuse("localhost?decode=json", "'decode' must be 'none', 'str', 'auto'")
      refuse("localhost?max_connections=0", "'max_connections' must be an integer, 1 or more")
      refuse("redis://?port=70000", "'port' must be an integer from 1 to 65535")
    end)

    it("refuses what it does not know, and says what was meant", function()
      refuse("localhost?timeuot=1", "unknown option 'timeuot' in the query; did you mean 'timeout'")
      refuse("localhost?foo=1", "unknown option 'foo' in the query$")
      refuse("localhost?tls.ca=/x", "unknown option 'tls.ca' in the query")
      refuse("localhost?password=a&b=c", "unknown option in the query$")
      refuse("redis:?//user:b=c", "unknown option in the query$")
    end)

    it("refuses what no text can be", function()
      for _, name in ipairs { "on_connect", "json", "transport", "null", "limits" } do
        refuse("localhost?" .. name .. "=1", "'" .. name .. "' cannot be given in a URL")
      end
    end)

    it("refuses what is said twice or is no entry", function()
      refuse("localhost?db=1&db=1", "'database' twice")
      refuse("localhost?db=1&database=2", "'database' twice")
      refuse("localhost?db", "name=value")
      refuse("localhost?=1", "name=value")
      refuse("localhost?db=%3", "%% without two")
      check("localhost?", tcp {})
      check("localhost?&db=1&", tcp { database = 1 })
    end)
  end)

  describe("refuses", function()
    it("an unknown scheme, naming the known", function()
      refuse("http://localhost/", "unknown scheme 'http'; known are redis, rediss, redis%+tls")
    end)

    it("fragments, control characters, nothing at all, and what is no text", function()
      refuse("redis://localhost/#1", "fragment")
      refuse("redis://localhost/2\n", "control character")
      refuse("redis://local\0host/", "control character")
      refuse("", "empty")
      refuse(1, "must be a string, got number")
      refuse({ host = "localhost" }, "second argument: Redis%(nil, {...}%)")
      refuse(false, "must be a string")
    end)
  end)

  it("shows a password in no message, whatever is wrong", function()
    for _, text in ipairs {
      "redis://:s3cret@localhost:x/",
      "redis://:s3cret@localhost/x",
      "redis://:s3cret@localhost/1#x",
      "redis://:s3cret@local host/",
      "redis://:s3cret@localhost/?foo=1",
      "redis://:s3cret@localhost/?timeout=x",
      "http://:s3cret@localhost/",
      "unix://:s3cret@host/path",
      "redis://localhost:s3cret",
      "redis://user:s3cret",
      "redis://:12/s3cret@localhost/2",
      "redis://:12?s3cret=x@localhost/2",
      "redis://a?s3cret@localhost/2",
      "redis://:a@b?s3cret=x@localhost/2",
      "redis://:12?db=s3cret@localhost/2",
      "redis://:ab#s3cret@localhost/2",
      "redis://:s3cret%zz@localhost/2",
      "redis://:s3cret:[@localhost:x/2",
      ":s3://cret@localhost/",
      "user:s3cret://x@localhost/",
      "redis://localhost/?password=s3cret&password=s3cret",
      "redis://localhost/?password=s3cret%",
      "redis://s3cret\n@localhost/",
    } do
      local message = refuse(text, "")
      assert.is_nil(message:find("s3", 1, true), message)
    end
  end)

  -- Misspelt URLs: no part of their password is in the message.
  it("shows nothing of what may have been a password, however the URL is mangled", function()
    local random = random_numbers.new "mangled URLs"
    local CANARY = "qX7~Zj9WkVq4" -- no two neighbours of it are in any message
    local places = {
      "redis://user:%s@localhost:7000/2", "rediss://:%s@[::1]/", "redis://:%s@host?db=1&timeout=3",
      "redis+unix://user:%s@/run/redis.sock?db=2", "user:%s@localhost", "redis://localhost?username=u&password=%s",
      "redis+unix+tls://:%s@name/run/redis.sock", "redis://localhost/?password=%s&client_name=me",
    }
    local marks = { ":", "/", "?", "&", "=", "@", "#", "%", "[", "]", ".", "+", "-", " ", "//", "://", "?x=", "&y=" }
    local edits = {
      function(text, at)
        return text:sub(1, at - 1) .. text:sub(at + 1)
      end,
      function(text, at)
        return text:sub(1, at - 1) .. random(marks) .. text:sub(at)
      end,
      function(text, at)
        return text:sub(1, at - 1) .. random(marks) .. text:sub(at + 1)
      end,
      function(text, at)
        return text:sub(1, at - 1) .. text:sub(at + 1, at + 1) .. text:sub(at, at) .. text:sub(at + 2)
      end,
      function(text, at)
        return text:sub(at) .. text:sub(1, at - 1)
      end,
    }
    local refusals = 0
    for _ = 1, 20000 do
      local text = random(places):format(CANARY)
      for _ = 1, random(3) do
        text = random(edits)(text, random(#text))
      end
      for _, read in ipairs { url.parse, settings_of.resolve } do
        local ok, message = pcall(read, text)
        if not ok then
          refusals = refusals + 1
          assert(type(message) == "string", text)
          for at = 1, #CANARY - 1 do
            assert(not message:find(CANARY:sub(at, at + 1), 1, true), text .. ": " .. message)
          end
        end
      end
    end
    assert.is_true(refusals > 6000)
  end)

  it("gives away a table of the caller's own", function()
    local one = url.parse("redis://localhost/")
    one.options.timeout, one.host = 1, "elsewhere"
    check("redis://localhost/", tcp {})
  end)
end)
