-- SPDX-License-Identifier: MIT
-- TLS in nginx, which is nginx's own.

local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  describe("TLS", function()
    local certs, port, own

    setup(function()
      certs, port = certificates.make(), server.free_port()
      own = server.start { "tls-port " .. port, "tls-cert-file " .. certs.server.cert,
        "tls-key-file " .. certs.server.key, "tls-ca-cert-file " .. certs.ca.cert, "tls-auth-clients optional" }
    end)

    teardown(function()
      own:stop()
      certs:remove()
    end)

    local function answer(trusted, host, options, plain_port)
      local said
      nginx.with({ may_log = true, http = trusted and "lua_ssl_trusted_certificate " .. trusted .. ";",
        locations = { ["/"] = ([[
        for name in pairs(package.loaded) do assert(name ~= "redio.tls") end
        local ok, err = pcall(function()
          return redio.Redis("rediss://%s:%d", %s)():echo("secret"):await()
        end)
        ngx.print(ok and err or type(err) == "table" and err.kind .. ": " .. err.message or err)
        assert(not package.loaded["redio.tls"])]]):format(host, plain_port or port, options or "nil") } },
        function(web)
          said = select(2, web:get "/")
        end)
      return said
    end

    it("is nginx's own, and verified", function()
      assert.same("secret", answer(certs.ca.cert, "localhost"))
    end)

    it("refuses the wrong authority, the wrong name, and what is no TLS", function()
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.other_ca.cert, "localhost"))
      assert.matches("lua_ssl_trusted_certificate", answer(certs.other_ca.cert, "localhost"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(nil, "localhost"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.ca.cert, "127.0.0.1"))
      assert.matches("^ConnectionError: cannot connect: TLS: ", answer(certs.ca.cert, "localhost",
        "{ tls = { server_name = 'elsewhere.test' } }"))
      assert.matches("^TimeoutError: .*still in the TLS handshake", answer(certs.ca.cert, "localhost",
        "{ retry = false, connect_timeout = 0.2 }", own.port))
    end)

    it("takes another name, no verification and a certificate of the client's when told so", function()
      assert.same("secret", answer(certs.ca.cert, "127.0.0.1", "{ tls = { server_name = 'redis.test' } }"))
      assert.same("secret", answer(nil, "localhost", "{ tls = { verify = false } }"))
      assert.same("secret", answer(certs.ca.cert, "localhost",
        ("{ tls = { cert = %q, key = %q } }"):format(certs.client.cert, certs.client.key)))
    end)

    it("of the options, those that are nginx's are refused", function()
      assert.matches("lua_ssl_trusted_certificate", answer(nil, "localhost", "{ tls = { ca = '/ca.crt' } }"))
      assert.matches("lua_ssl_protocols", answer(nil, "localhost", "{ tls = { min_version = '1.3' } }"))
    end)
  end)
end)
