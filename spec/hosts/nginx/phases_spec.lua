-- SPDX-License-Identifier: MIT
-- The phases of nginx: a call waits in each that may wait, and raises a clear error in each that may not.

local redio = require "redio"
local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

describe("In nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  it("what may wait can, in every phase that may", function()
    local function program(name)
      return ([[
        local redis = shared("here", os.getenv "REDIS_URL")
        ngx.ctx.%s = redis():echo("%s"):await()]]):format(name, name)
    end
    nginx.with({
      locations = {
        ["/"] = {
          rewrite = program "rewrite", access = program "access",
          content = program "content" .. [[

            local got
            local seen = redio.spawn(function() return redis():echo("thread"):await() end)
            ngx.timer.at(0, function() shared("timer", os.getenv "REDIS_URL")():set("from a timer", "yes"):await() end)
            redio.sleep(0.05)
            ngx.say(ngx.ctx.rewrite, " ", ngx.ctx.access, " ", ngx.ctx.content, " ", seen:await(), " ",
              (redis():get("from a timer"):del("from a timer"):await()))]],
        },
      },
    }, function(web)
      local _, body = web:get "/"
      assert.same("rewrite access content thread yes\n", body)
    end)
  end)

  it("also while a certificate is chosen, and within a subrequest", function()
    local certs, port = certificates.make(), server.free_port()
    local ask = [[ local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL")
      local a, b = redio.gather(function() return redis():echo("a"):await() end, function()
        return redio.with_timeout(1, function() return redis():echo("b"):await() end)
      end)
      local said = a .. b .. redis():timeout(1):echo("c"):await() ]]
    nginx.with({ http = ([[
      server {
        listen 127.0.0.1:%d ssl;
        ssl_certificate %s;
        ssl_certificate_key %s;
        ssl_certificate_by_lua_block { %s ngx.log(ngx.NOTICE, "in TLS: ", said) }
        location / { return 200 "hello"; }
      }]]):format(port, certs.server.cert, certs.server.key, ask), locations = { ["/"] = [[
      ngx.print(ngx.location.capture("/inner").body)]], ["/inner"] = ask .. "ngx.print(said)" } }, function(web)
      assert.same("abc", select(2, web:get "/"))
      certs:openssl(("s_client -connect 127.0.0.1:%d </dev/null"):format(port))
      assert.matches("in TLS: abc", web:log())
    end)
    certs:remove()
  end)

  describe("a phase that may not wait says so:", function()
    local ask = [[
      local ok, err = pcall(function() return redio.Redis(os.getenv "REDIS_URL")():get("a"):await() end)
      local ok2, err2 = pcall(redio.sleep, 0.01)
      ngx.log(ngx.NOTICE, "asked: ", tostring(ok or ok2), " ", tostring(err), " / ", tostring(err2))]]
    for _, phase in ipairs { "set", "header_filter", "body_filter", "log" } do
      it(phase, function()
        local programs = { content = "ngx.say 'x'", [phase] = ask }
        if phase == "set" then
          programs = { directives = "set_by_lua_block $x { local redio = require 'redio' " .. ask .. " return 1 }",
            content = "ngx.say 'x'" }
        end
        nginx.with({ locations = { ["/"] = programs } }, function(web)
          assert.same(200, (web:get "/"))
          redio.sleep(0.05)
          local said = web:log():match "asked: ([^\n]*)"
          assert.matches("^false ", said)
          assert.matches(phase .. "_by_lua*", said, 1, true)
          local _, times = said:gsub("nginx does not allow it in", "")
          assert.same(2, times)
          assert.matches("ngx.timer.at", said, 1, true)
        end)
      end)
    end

    for _, phase in ipairs { "init", "init_worker" } do
      it(phase, function()
        nginx.with({
          http = phase .. "_by_lua_block { local redio = require 'redio' " .. ask .. " }",
          locations = { ["/"] = "ngx.say 'x'" },
        }, function(web)
          assert.same(200, (web:get "/"))
          local said = web:log():match "asked: ([^\n]*)"
          assert.matches("^false ", said)
          assert.matches(phase .. "_by_lua*", said, 1, true)
        end)
      end)
    end
  end)
end)
