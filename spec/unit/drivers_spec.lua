-- SPDX-License-Identifier: MIT
-- The drivers of connections (lua/redio/connection/init.lua has the interface): each has all of it, and all do the same
-- by spec/support/driver_scenarios.lua. The caller's and the timer's run in a real nginx.

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local scenarios = require "spec.support.driver_scenarios"
local server = require "spec.support.server"
local uv = require "luv"

describe("The loop's driver", function()
  local admin

  setup(function()
    admin = redio.Redis(server.shared().url)
  end)

  teardown(function()
    admin:close()
  end)

  it("has the whole interface", function()
    assert.same({}, scenarios.missing("loop", true))
  end)

  for _, list in ipairs { scenarios.all, scenarios.of_one_owner } do
    for _, scenario in ipairs(list) do
      it(scenario[1], function()
        check.within(10, function()
          assert.same({}, scenarios.run({ scenario }, "loop", server.shared().url, admin))
        end)
      end)
    end
  end
end)

local is_there, reason = nginx.available()

describe("In nginx", function()
  if not is_there then
    return pending("there is no nginx: " .. tostring(reason))
  end

  local web

  setup(function()
    web = nginx.start { url = server.shared().url, locations = { ["/"] = ([[
      package.path = %q .. "/?.lua;" .. package.path
      local scenarios = require "spec.support.driver_scenarios"
      local driver, number = ngx.var.arg_driver, tonumber(ngx.var.arg_number)
      local lines
      if number then
        local list = scenarios[ngx.var.arg_list]
        local url = os.getenv "REDIS_URL"
        lines = scenarios.run({ list[number] }, driver, url, redio.Redis(url))
      else
        lines = scenarios.missing(driver, driver == "caller")
      end
      ngx.print(table.concat(lines, "\n"))]]):format(uv.cwd()) } }
  end)

  teardown(function()
    web:stop()
  end)

  local function ask(query)
    check.within(15, function()
      local status, body = web:get("/?" .. query)
      assert.same({ 200, "" }, { status, body })
    end)
  end

  for _, driver in ipairs { "caller", "timer" } do
    describe("the " .. driver .. "'s driver", function()
      it("has the whole interface", function()
        ask("driver=" .. driver)
      end)

      for _, name in ipairs { "all", driver == "caller" and "of_one_owner" or nil } do
        for number, scenario in ipairs(scenarios[name]) do
          it(scenario[1], function()
            ask(("driver=%s&list=%s&number=%d"):format(driver, name, number))
          end)
        end
      end
    end)
  end
end)
