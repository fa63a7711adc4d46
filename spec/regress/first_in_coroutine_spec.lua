-- SPDX-License-Identifier: MIT
-- luv calls back on the coroutine that loads it. redio loaded it when it was first needed, on whatever coroutine that
-- was: a crash, or the end of the process, as soon as that coroutine waited.

local child = require "spec.support.child"
local server = require "spec.support.server"

local HEAD = "local URL = os.getenv 'REDIS_URL' io.stdout:setvbuf 'no' "

describe("redio that is first needed in a coroutine", function()
  local function run(code)
    return child.run_text(HEAD .. code, server.shared().url, 10)
  end

  local WORK = [[
    coroutine.wrap(function()
      local redis = redio.Redis(URL)
      print(redis():set("spec:first", 1):get("spec:first"):await())
      redio.sleep(0.01)
      print(redio.spawn(function() return redis():del "spec:first":await() end):await())
      redis:close()
    end)()
    require "luv".run()
  ]]

  it("works when it was loaded outside", function()
    assert.are.same({ "1\n1\n", 0 }, { run("local redio = require 'redio' " .. WORK) })
  end)

  it("works when luv was loaded outside", function()
    assert.are.same({ "1\n1\n", 0 }, { run([[
      require "luv"
      local redio
      coroutine.wrap(function() redio = require "redio" end)()
    ]] .. WORK) })
  end)

  it("is refused when neither was, by an error that says what to do; then it can be loaded outside", function()
    local output, status = run([[
      local redio
      coroutine.wrap(function()
        print(pcall(require, "redio"))
        print(package.loaded.luv)
      end)()
      redio = require "redio"
    ]] .. WORK)
    assert.are.equal(0, status)
    assert.matches("^false\t[^\n]*in a coroutine[^\n]*outside of coroutines[^\n]*\nnil\n1\n1\n$", output)
  end)

  -- A searcher in the place of all that would find luv.
  local WITHOUT_LUV = [[
    local searchers = package.searchers or package.loaders
    for i, searcher in ipairs(searchers) do
      searchers[i] = function(name, ...)
        if name == "luv" or name == "uv" then return "\n\tno luv here" end
        return searcher(name, ...)
      end
    end
  ]]

  it("is loaded where there is no luv at all, also in a coroutine, and says so when it needs one", function()
    for _, load in ipairs { "local redio = require 'redio' ",
      "local redio coroutine.wrap(function() redio = require 'redio' end)() " } do
      local output, status = run(WITHOUT_LUV .. load .. [[
        print(pcall(redio.Redis, URL))
        print(pcall(redio.sleep, 0))
        local toy = require "spec.support.toy_transport".new(function(_, send) send "+PONG\r\n" end)
        local redis = redio.Redis(nil, { transport = toy, protocol = 2 })
        print(redis():ping "x":await())
      ]])
      assert.are.equal(0, status, output)
      assert.matches("^false\t[^\n]*module 'luv' not found.*\nfalse\t[^\n]*module 'luv' not found.*\nPONG\n$", output)
    end
  end)
end)
