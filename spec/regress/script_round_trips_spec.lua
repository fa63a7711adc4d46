-- SPDX-License-Identifier: MIT
-- A script's first call took two round trips where one does: it had the server compute the digest by SCRIPT LOAD.

local core = require "redio.core"
local redio = require "redio"
local server = require "spec.support.server"

describe("A script", function()
  local function calls(redis)
    local stats, found = redis():info("commandstats"):await(), {}
    for name, count in stats:gmatch "cmdstat_([^:]+):calls=(%d+)" do
      found[name] = tonumber(count)
    end
    return found
  end

  it("is one round trip where the server knows it, and one more where it does not", function()
    redio.run(function()
      local redis = redio.Redis(server.shared().url)
      local source = "return ARGV[1] -- " .. tostring({})
      redis():script_flush():config_resetstat():await()
      assert.are.equal("a", redis:script(source)({}, { "a" }))
      local counted = calls(redis)
      assert.are.same({ 1, 1 }, { counted.evalsha, counted.eval })
      assert.is_nil(counted["script|load"])
      redis():config_resetstat():await()
      local another = redis:script(source)
      assert.are.equal("b", another({}, { "b" }))
      assert.are.equal("c", another({}, { "c" }))
      counted = calls(redis)
      assert.are.same({ 2 }, { counted.evalsha, counted.eval })
      redis():script_flush():await()
      assert.are.equal("d", another({}, { "d" }))
      redis:close()
    end)
  end)

  it("has the digest that the server gives it, whatever its length", function()
    redio.run(function()
      local redis = redio.Redis(server.shared().url)
      for length = 0, 200 do
        local source = "return 1 --" .. ("x"):rep(length)
        assert.are.equal(redis():script_load(source):await(), redis:script(source).sha)
      end
      local bytes = {}
      for i = 0, 255 do
        bytes[#bytes + 1] = string.char(i)
      end
      local source = "return 1 --" .. table.concat(bytes):gsub("[\r\n]", ""):rep(1000)
      assert.are.equal(redis():script_load(source):await(), redis:script(source).sha)
      assert.are.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", core.sha1(""))
      redis:close()
    end)
  end)
end)
