-- SPDX-License-Identifier: MIT
-- Logins in nginx, where the coroutine that needs the connection logs in itself: in one exchange and in several, to
-- servers of each generation, and to peers that are no server.

local redio = require "redio"
local fakes = require "spec.support.fake"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

-- RESP3's answer to HELLO, of a server of that version.
local function hello(version)
  return ("%%3\r\n$7\r\nversion\r\n$%d\r\n%s\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"):format(#version, version)
end

local NO_HELLO = "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"

-- A server with these answers to a login. The keys are commands, or commands and subcommands. A value is a text or a
-- function of the connection and the words. Other commands are answered like `ECHO`.
local function scripted(answers)
  return fakes.start(function(conn, words)
    local name = words[1]:upper()
    local answer = answers[name .. " " .. (words[2] or ""):upper()] or answers[name]
    if type(answer) == "function" then answer = answer(conn, words) end
    if answer then return answer end
    if name == "AUTH" or name == "SELECT" or name == "CLIENT" then return "+OK\r\n" end
    if name == "SUBSCRIBE" then
      local line = "$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n"
      return (answers.protocol == 2 and "*3\r\n" or ">3\r\n") .. line:format(#words[2], words[2])
    end
    local text = words[2] or ""
    return ("$%d\r\n%s\r\n"):format(#text, text)
  end, { protocol = false })
end

-- The commands that came on its connections, as one text for each connection.
local function said_to(fake)
  local list = {}
  for i, conn in ipairs(fake.connections) do
    local names = {}
    for k, words in ipairs(conn.requests) do
      names[k] = words[1] == "CLIENT" and words[1] .. " " .. words[2] or words[1]
    end
    list[i] = table.concat(names, " ")
  end
  return list
end

-- Each request asks something, twice, on a connection of the pool, and says what came of it.
local ASK = [[
  local redis = shared("here", os.getenv "REDIS_URL", %s)
  local ok, err = pcall(function()
    local a, b = redis():echo "a":echo "b":await()
    return a .. b .. redis():echo "c":await()
  end)
  ngx.print(ok and err or type(err) == "table" and ("%%s: %%s (%%s)"):format(err.kind, err.message, err.sent)
    or tostring(err))]]

-- The same within a message's time: on a receiver.
local LISTEN = [[
  local redis = redio.Redis(os.getenv "REDIS_URL", %s)
  local receiver = redis:pubsub("news"):connect()
  ngx.print(tostring(receiver.in_pubsub))
  receiver:close()]]

local function with_scripted(answers, options, fn, other)
  local fake = scripted(answers)
  local locations = other or {}
  locations["/"] = ASK:format(options or "{}")
  locations["/listen"] = LISTEN:format(options or "{}")
  locations["/alive"] = "ngx.print 'alive'"
  nginx.with({ url = fake.url, may_log = true, locations = locations, seconds = 30 }, function(web)
    fn(web, fake)
    assert.same("alive", select(2, web:get "/alive"))
  end)
  fake:stop()
end

-- Many requests at once, most of which share a connection.
local function get_many(web, count)
  local tasks = {}
  for i = 1, count do
    tasks[i] = redio.spawn(web.get, web, "/")
  end
  for i = 1, count do
    assert.same("abc", select(2, tasks[i]:await()))
  end
end

describe("A login in nginx", function()
  if nginx.missing() then return pending(nginx.missing()) end

  describe("of several exchanges:", function()
    it("on_connect asks, sets, sleeps and selects, on connections of the pool, the shared one and a receiver's",
      function()
      local own = server.start()
      local OPTIONS = [[{ on_connect = function(db)
        local before = db:incr "connected":await()
        redio.sleep(0.001)
        db:client_setname("n" .. before):await()
        db:client_no_evict "ON":set("name", (db:client_getname():await())):await()
      end }]]
      nginx.with({ url = own.url, seconds = 30, locations = { ["/"] = ASK:format(OPTIONS),
        ["/listen"] = LISTEN:format(OPTIONS), ["/named"] = [[
        local redis = shared("here", os.getenv "REDIS_URL")
        ngx.print(redis():client_info():await():match " name=(n%d+) ")]] } }, function(web)
        assert.same("abc", select(2, web:get "/"))
        assert.matches("^n%d+$", select(2, web:get "/named"))
        assert.same("true", select(2, web:get "/listen"))
        get_many(web, 40)
        assert.is_true(tonumber(own:cli("get", "connected")) > 2)
      end)
      own:stop()
    end)

    it("what on_connect raises ends the attempt, and is told", function()
      with_scripted({ HELLO = hello "7.0.15" }, [[{ retry = false, on_connect = function(db)
        db:echo "x":await()
        error("not like this", 0)
      end }]], function(web)
        assert.same("ConnectionError: not like this (no)", select(2, web:get "/"))
      end)
    end)

    for _, protocol in ipairs { 2, 3 } do
      it(("user, password, name and database, over RESP%d"):format(protocol), function()
        local own = server.start { "user bob on >pw ~* +@all" }
        nginx.with({ url = own.url, seconds = 30, locations = { ["/"] = ([[
          local redis = shared("here", "redis://bob:pw@127.0.0.1:%d/2", { protocol = %d, client_name = "mine" })
          ngx.print(redis():client_info():await():match " name=mine .* db=2 .* user=bob " and "abc")]]):format(own.port,
          protocol) } }, function(web)
          assert.same("abc", select(2, web:get "/"))
          get_many(web, 40)
        end)
        own:stop()
      end)
    end
  end)

  describe("to a server", function()
    local function check_login(answers, options, commands)
      with_scripted(answers, options, function(web, fake)
        assert.same("abc", select(2, web:get "/"))
        assert.same({ commands .. " ECHO ECHO ECHO" }, said_to(fake))
        assert.same("true", select(2, web:get "/listen"))
        assert.same(commands .. " SUBSCRIBE", said_to(fake)[2])
        get_many(web, 30)
      end)
    end

    it("of 5, without HELLO", function()
      check_login({ HELLO = NO_HELLO, protocol = 2 }, nil, "HELLO")
      check_login({ HELLO = NO_HELLO, protocol = 2 }, "{ password = 'p', database = 2, client_name = 'n' }",
        "HELLO SELECT AUTH CLIENT SETNAME SELECT")
      check_login({
        HELLO = NO_HELLO, protocol = 2,
        AUTH = function(_, words)
          if #words == 3 then return "-ERR wrong number of arguments for 'auth' command\r\n" end
        end,
      }, "{ username = 'u', password = 'p', database = 2 }", "HELLO SELECT AUTH AUTH SELECT")
    end)

    it("where the user has no right to HELLO", function()
      check_login({ HELLO = "-NOPERM this user has no permissions to run the 'hello' command\r\n", protocol = 2 },
        "{ database = 1 }", "HELLO SELECT SELECT")
    end)

    for _, version in ipairs { "6.0.20", "6.2.14", "7.0.15" } do
      it("of " .. version, function()
        check_login({ HELLO = hello(version) }, "{ database = 2, username = 'u', password = 'p' }", "HELLO SELECT")
      end)
    end

    for _, version in ipairs { "7.2.4", "7.4.0", "8.0.2", "8.1.0", "9.0.0" } do
      it("of " .. version .. ", which is told the library", function()
        check_login({ HELLO = hello(version) }, "{ database = 2, username = 'u', password = 'p' }",
          "HELLO SELECT CLIENT SETINFO CLIENT SETINFO")
        check_login({ HELLO = hello(version) }, "{ on_connect = function(db) assert(db:echo('x'):await() == 'x') end }",
          "HELLO CLIENT SETINFO CLIENT SETINFO ECHO")
      end)
    end

    it("that refuses to be told, or is slow to say so", function()
      check_login({ HELLO = hello "7.2.4",
        ["CLIENT SETINFO"] = "-NOPERM this user has no permissions to run the 'client|setinfo' command\r\n" }, nil,
        "HELLO CLIENT SETINFO CLIENT SETINFO")
      local function later(text)
        return function(conn, words)
          redio.spawn(function()
            redio.sleep(0.02)
            conn:write(text:format(words[2]))
          end)
          return true
        end
      end
      check_login({ HELLO = hello "7.2.4", ["CLIENT SETINFO"] = function(conn, words)
        return words[3] == "LIB-NAME" and "-ERR no su" or later "ch thing\r\n-ERR nor this\r\n" (conn, words)
      end, ECHO = later "$1\r\n%s\r\n", SUBSCRIBE = later ">3\r\n$9\r\nsubscribe\r\n$4\r\n%s\r\n:1\r\n" }, nil,
        "HELLO CLIENT SETINFO CLIENT SETINFO")
    end)

    it("that refuses the user, has no room, or is loading: its error, and none is spun for", function()
      for answer, expected in pairs {
        ["-WRONGPASS invalid username-password pair or user is disabled.\r\n"] = "^AuthError: .*%(no%)$",
        ["-NOAUTH HELLO must be called with the client already authenticated\r\n"] = "^AuthError: .*%(no%)$",
        ["-ERR max number of clients reached\r\n"] = "^MaxClientsError: .*%(no%)$",
        ["-LOADING Redis is loading the dataset in memory\r\n"] = "^LoadingError: .*%(no%)$",
      } do
        with_scripted({ HELLO = answer }, "{ retry = false }", function(web)
          assert.matches(expected, select(2, web:get "/"))
        end)
      end
    end)
  end)

  describe("fails closed", function()
    local function fails(answers, options, expected)
      with_scripted(answers, options, function(web, fake)
        local _, said = web:get "/"
        assert.matches(expected, said)
        for _, conn in ipairs(fake.connections) do
          for _, words in ipairs(conn.requests) do
            assert.not_same("ECHO", words[1])
          end
        end
      end)
    end

    it("when a line too many comes before the answer to HELLO", function()
      fails({ HELLO = function(conn)
        conn:write "+hi\r\n"
        redio.spawn(function()
          redio.sleep(0.03)
          conn:write(hello "7.0.15")
        end)
        return true
      end }, "{}", "^ProtocolError: HELLO 3 was answered by a string .*%(no%)$")
    end)

    it("when HELLO is answered by anything but a map of protocol 3", function()
      for _, answer in ipairs { "+OK\r\n", ":3\r\n", "$5\r\nproto\r\n", "_\r\n", "*0\r\n",
        "%1\r\n$5\r\nproto\r\n:2\r\n", "*2\r\n$5\r\nproto\r\n:2\r\n" } do
        fails({ HELLO = answer }, "{}", "^ProtocolError: HELLO 3 was answered by .*%(no%)$")
      end
    end)

    local REFUSED = "^ProtocolError: a command of the login .*%(no%)$"

    it("when AUTH or SELECT is answered by a word that they do not have", function()
      fails({ AUTH = "+hi\r\n" }, "{ protocol = 2, password = 'p' }", REFUSED)
      fails({ SELECT = "+hi\r\n" }, "{ protocol = 2, database = 1 }", REFUSED)
      fails({ HELLO = hello "7.0.15", SELECT = ":1\r\n" }, "{ database = 1 }", REFUSED)
    end)

    it("when there is a reply too many between two exchanges, whole or in part", function()
      local function answer(tail)
        return function(conn)
          conn:write("+OK\r\n" .. tail:sub(1, 4))
          redio.spawn(function()
            redio.sleep(0.02)
            conn:write(tail:sub(5))
          end)
          return true
        end
      end
      for _, tail in ipairs { "+hi\r\n", "$2\r\nhi\r\n" } do
        fails({ AUTH = answer(tail), SELECT = function() return true end },
          "{ protocol = 2, password = 'p', database = 1 }",
          "^ProtocolError: a reply that no command asked for %(no%)$")
      end
    end)

    it("when the server hangs up before any of the answers", function()
      for _, name in ipairs { "AUTH", "SELECT" } do
        fails({ [name] = function(conn)
          conn:close()
          return true
        end }, "{ protocol = 2, password = 'p', database = 1, retry = false }", "^ConnectionClosedError: .*%(no%)$")
      end
    end)

    it("when one of the answers does not come in time, also where on_connect waits for it", function()
      local function never()
        return true
      end
      local words = "^TimeoutError: no connection within 0.1 s %(connect_timeout%): still logging in %(no%)$"
      fails({ AUTH = never }, "{ protocol = 2, password = 'p', connect_timeout = 0.1 }", words)
      fails({ SELECT = never }, "{ protocol = 2, password = 'p', database = 1, connect_timeout = 0.1 }", words)
      fails({ HELLO = hello "7.2.4", GET = never },
        "{ connect_timeout = 0.1, on_connect = function(db) db:get('x'):await() end }", words)
    end)

    it("when the task is cancelled in the midst of it", function()
      with_scripted({ HELLO = function() return true end }, nil, function(web)
        assert.same("CancelledError CancelledError", select(2, web:get "/cancel"))
      end, { ["/cancel"] = [[
        local redis = redio.Redis(os.getenv "REDIS_URL")
        local began = redio.spawn(function() redis():echo("x"):await() end)
        redio.sleep(0.02)
        began:cancel()
        local _, one = pcall(began.await, began)
        local other = redio.spawn(function()
          ngx.sleep(0.02) -- it is cancelled here, and finds out in the login
          redis():echo("x"):await()
        end)
        redio.sleep(0.01)
        other:cancel()
        local _, two = pcall(other.await, other)
        ngx.print(one.kind, " ", two.kind)]] })
    end)
  end)
end)
