-- SPDX-License-Identifier: MIT
-- Each attempt looked the name up anew. While a name server was silent, the lookups of attempts that were given up held
-- libuv's four threads, and with them all file I/O of the process.

local redio = require "redio"
local server = require "spec.support.server"
local uv = require "luv"

describe("A name that is being looked up", function()
  local getaddrinfo = uv.getaddrinfo
  local asked, answers

  before_each(function()
    asked, answers = 0, {}
    uv.getaddrinfo = function(host, service, hints, tell) -- luacheck: ignore
      assert.are.equal("silent.test", host)
      assert.is_nil(service)
      assert.are.equal("stream", hints.socktype)
      asked = asked + 1
      answers[#answers + 1] = tell
      return true
    end
  end)

  after_each(function()
    uv.getaddrinfo = getaddrinfo -- luacheck: ignore
  end)

  it("is looked up once, for all clients and all attempts, and anew when that has ended", function()
    redio.run(function()
      local url = ("redis://silent.test:%d"):format(server.shared().port)
      local function ask(seconds)
        return pcall(function()
          local redis = redio.Redis(url, { connect_timeout = seconds, retry = { max = 3, base = 0.01, cap = 0.01 } })
          local value = redis():echo("a"):await()
          redis:close()
          return value
        end)
      end
      local patient = {}
      for i = 1, 3 do
        patient[i] = redio.spawn(ask, 5)
      end
      for _ = 1, 5 do
        assert.is_false((ask(0.02)))
      end
      assert.are.equal(1, asked)
      table.remove(answers)(nil, { { addr = "127.0.0.1" } })
      for i = 1, 3 do
        assert.are.same({ true, "a" }, { patient[i]:await() })
      end
      assert.is_false((ask(0.02)))
      assert.are.equal(2, asked)
      table.remove(answers)("EAI_AGAIN: temporary failure")
      redio.sleep(0)
    end)
  end)
end)
