-- SPDX-License-Identifier: MIT
-- A name with several addresses, the first of which swallows every SYN: each attempt spent all its time there, and the
-- live one was never tried. Dead IPv6 beside live IPv4 is such a name.

local uv = require "luv"

local black_hole = require "spec.support.black_hole"
local certificates = require "spec.support.certificates"
local check = require "spec.support.check"
local peer = require "spec.support.tls_peer"
local process = require "spec.support.process"
local redio = require "redio"

local DEAD, LIVE, REFUSES = "127.0.0.2", "127.0.0.1", "127.0.0.3"

describe("a name with an address that does not answer", function()
  local server, certs, hole, tls_hole, getaddrinfo, found

  setup(function()
    certs = certificates.make()
    server = peer.redis(certs)
    hole, tls_hole = black_hole.start(DEAD, server.port), black_hole.start(DEAD, server.tls_port)
    local redis = redio.Redis(server.url)
    redis():ping():await() -- the transport makes what it keeps
    redis:close()
    redio.run(redio.sleep, 0.001)
    getaddrinfo = uv.getaddrinfo
    uv.getaddrinfo = function(_, _, _, callback) -- luacheck: ignore
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        timer:close()
        local list = {}
        for i, address in ipairs(found) do
          list[i] = { addr = address }
        end
        callback(nil, list)
      end)
    end
  end)

  teardown(function()
    uv.getaddrinfo = getaddrinfo -- luacheck: ignore
    for _, thing in pairs { hole or nil, tls_hole or nil } do
      thing:stop()
    end
    server:stop()
  end)

  local function each_order(test)
    if not (hole and tls_hole) then
      pending "no address here swallows what comes"
      return
    end
    local orders = { { DEAD, LIVE }, { DEAD, DEAD, REFUSES, LIVE }, { REFUSES, DEAD, LIVE }, { LIVE, DEAD } }
    for _, addresses in ipairs(orders) do
      found = addresses
      local before = process.handles()
      redio.run(test)
      redio.run(redio.sleep, 0.001)
      assert.equal(before, process.handles(), "handles left")
    end
  end

  local function ask(url, options)
    local redis = redio.Redis(url, options)
    assert.equal("hello", (redis():echo("hello"):await()))
    redis:close()
  end

  it("is connected to by the one that does", function()
    each_order(function()
      ask(("redis://two.test:%d"):format(server.port), { connect_timeout = 20, retry = false })
    end)
  end)

  it("is so when there is little time", function()
    each_order(function()
      ask(("redis://two.test:%d"):format(server.port), { connect_timeout = 2, retry = { max = 20 } })
    end)
  end)

  it("is so over TLS", function()
    each_order(function()
      ask(("rediss://two.test:%d"):format(server.tls_port), {
        connect_timeout = 20, retry = false, tls = { ca = certs.ca.cert, server_name = "localhost" },
      })
    end)
  end)

  it("takes no longer than connect_timeout when none answers, and leaves nothing behind", function()
    if not hole then
      pending "no address here swallows what comes"
      return
    end
    found = { DEAD, DEAD, REFUSES }
    local before = process.handles()
    redio.run(function()
      local redis = redio.Redis(("redis://two.test:%d"):format(server.port), { connect_timeout = 0.3, retry = false })
      local err = check.raises("TimeoutError", function()
        redis():echo("x"):await()
      end)
      assert.matches("no connection within 0.3 s %(connect_timeout%): still connecting", err.message)
      local task = redio.spawn(function()
        redis():echo("x"):await()
      end)
      redio.sleep(0.2)
      task:cancel()
      redis:close()
      redio.sleep(0.001)
    end)
    assert.equal(before, process.handles())
  end)

  it("says why when all refuse", function()
    found = { REFUSES, "127.0.0.4" }
    local redis = redio.Redis(("redis://two.test:%d"):format(server.port), { retry = false })
    local err = check.raises("ConnectionError", function()
      redis():echo("x"):await()
    end)
    assert.matches("cannot connect: connection refused", err.message)
    redis:close()
  end)
end)
