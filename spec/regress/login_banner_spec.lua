-- SPDX-License-Identifier: MIT
-- HELLO took whatever came next for its answer. After a line too many (a banner, a proxy's word) the first command got
-- HELLO's map, and under steady traffic each caller got the reply of the one before. (In nginx:
-- hosts/nginx/login_spec.lua.)

local redio = require "redio"
local check = require "spec.support.check"
local fake = require "spec.support.fake"

local HELLO = "%2\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n"

describe("A login", function()
  -- The error of the first await. `answers`: the server's, by command, each a text or a function of the connection.
  local function refused(answers, options)
    local server = fake.start(function(conn, words)
      local answer = answers[words[1]] or "+OK\r\n"
      if type(answer) == "function" then answer = answer(conn) end
      return answer
    end, { protocol = false })
    local redis = redio.Redis(server.url, options)
    local err = check.within(5, function()
      return check.raises("ProtocolError", function() redis():get("k"):await() end)
    end)
    assert.equal("no", err.sent)
    for _, words in ipairs(server.requests) do
      assert.not_equal("GET", words[1])
    end
    redis:close()
    server:stop()
    return err.message
  end

  it("fails when a line comes before the answer to HELLO", function()
    local message = refused { HELLO = function(conn)
      conn:write "+hi\r\n"
      redio.spawn(function()
        redio.sleep(0.03)
        conn:write(HELLO)
      end)
    end }
    assert.matches("^HELLO 3 was answered by a string instead of a map with proto = 3: is this a Redis server", message)
  end)

  it("fails when HELLO is answered by anything but a map of protocol 3", function()
    for answer, what in pairs {
      ["+OK\r\n"] = "a string", ["+PONG\r\n"] = "a string", [":3\r\n"] = "a number", ["_\r\n"] = "null",
      ["*0\r\n"] = "a list or map",
      ["%1\r\n$5\r\nproto\r\n:2\r\n"] = "a map with another", ["*2\r\n$5\r\nproto\r\n:2\r\n"] = "a map with another",
    } do
      assert.matches("HELLO 3 was answered by " .. what, refused { HELLO = answer }, 1, true)
    end
  end)

  it("takes a list with proto = 3 as well", function()
    local server = fake.start(function(_, words)
      return words[1] == "HELLO" and HELLO:gsub("^%%2", "*4") or "$1\r\nv\r\n"
    end, { protocol = false })
    local redis = redio.Redis(server.url)
    assert.equal("v", check.within(5, function() return redis():get("k"):await() end))
    redis:close()
    server:stop()
  end)

  it("fails when AUTH, CLIENT SETNAME or SELECT is answered by a word that it does not have", function()
    for command, options in pairs {
      AUTH = { protocol = 2, password = "p" }, CLIENT = { protocol = 2, client_name = "n" },
      SELECT = { protocol = 2, database = 1 },
    } do
      assert.matches("^a command of the login was answered by something else than OK or an error",
        refused({ [command] = "+hi\r\n" }, options))
    end
    refused({ HELLO = HELLO, SELECT = ":1\r\n" }, { database = 1 })
  end)
end)
