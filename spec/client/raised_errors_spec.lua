-- SPDX-License-Identifier: MIT
-- The errors that a client raises: kind, code, address, command, and the way out. Contract: docs, "Errors". (Error
-- objects by themselves: unit/errors_spec.lua.)

local redio = require "redio"
local server = require "spec.support.server"
local fake = require "spec.support.fake"
local check = require "spec.support.check"

local PREFIX = "spec:error:"

-- Every kind and what it is a kind of.
local KINDS = {
  ConnectionError = "RedisError",
  ConnectionClosedError = "ConnectionError",
  ConnectionForcedCloseError = "ConnectionClosedError",
  TimeoutError = "ConnectionError",
  ProtocolError = "RedisError",
  ReplyError = "RedisError",
  AuthError = "ReplyError",
  NoPermissionError = "ReplyError",
  MaxClientsError = "ReplyError",
  ReadOnlyError = "ReplyError",
  NoScriptError = "ReplyError",
  LoadingError = "ReplyError",
  ExecAbortError = "ReplyError",
  WatchError = "RedisError",
  PoolClosedError = "RedisError",
  ChannelClosedError = "RedisError",
  CancelledError = "RedisError",
  MasterNotFoundError = "RedisError",
  ReplicaNotFoundError = "RedisError",
}

describe("Errors", function()
  local shared, redis

  setup(function()
    shared = server.shared()
    redis = redio.Redis(shared.url)
    redis():set(PREFIX .. "s", "text"):await()
  end)

  teardown(function()
    check.wipe(redis, PREFIX)
    redis:close()
  end)

  -- The error of `fn(client)` against a server that answers with `answer(connection, words)`.
  local function against(kind, answer, fn, options, manners)
    local peer = fake.start(answer, manners)
    local client = redio.Redis(peer.url, options)
    local err = check.within(5, check.raises, kind, fn, client)
    client:close { drain = 0 }
    peer:stop()
    return err, peer
  end

  local function get(client)
    client():get "k":await()
  end

  local function incr(client)
    client():incr "k":await()
  end

  describe("have kinds:", function()
    it("all that the contract names are in redio.errors", function()
      assert.is_truthy(redio.errors.RedisError)
      for kind in pairs(KINDS) do
        assert.is_truthy(redio.errors[kind], kind)
      end
    end)

    it("errors.is() knows a kind, the kinds above it, and what is no error of redio's", function()
      local err = check.raises("ReplyError", function()
        redis():lpush(PREFIX .. "s", 1):await()
      end)
      assert.is_true(redio.errors.is(err))
      assert.is_true(redio.errors.is(err, "RedisError"))
      assert.is_true(redio.errors.is(err, redio.errors.ReplyError))
      assert.is_false(redio.errors.is(err, "ConnectionError"))
      for _, other in ipairs { "text", 1, {}, true, print } do
        assert.is_false(redio.errors.is(other))
        assert.is_false(redio.errors.is(other, "ReplyError"))
      end
      assert.is_false(redio.errors.is(nil))
    end)
  end)

  describe("from the server", function()
    local replies = {
      { "-WRONGTYPE Operation against a key\r\n", "ReplyError", "WRONGTYPE" },
      { "-ERR some text\r\n", "ReplyError", "ERR" },
      { "-NOAUTH Authentication required.\r\n", "AuthError", "NOAUTH" },
      { "-WRONGPASS invalid username-password pair\r\n", "AuthError", "WRONGPASS" },
      { "-NOPERM this user has no permissions\r\n", "NoPermissionError", "NOPERM" },
      { "-READONLY You can't write against a read only replica.\r\n", "ReadOnlyError", "READONLY" },
      { "-NOSCRIPT No matching script.\r\n", "NoScriptError", "NOSCRIPT" },
      { "-LOADING Redis is loading the dataset in memory\r\n", "LoadingError", "LOADING" },
      { "-EXECABORT Transaction discarded\r\n", "ExecAbortError", "EXECABORT" },
      { "-MYOWN code of a module\r\n", "ReplyError", "MYOWN" },
      { "!10\r\nERR a\r\nb c\r\n", "ReplyError", "ERR" },
    }
    for _, reply in ipairs(replies) do
      local bytes, kind, code = reply[1], reply[2], reply[3]
      it(("by -%s are a %s with that code"):format(code, kind), function()
        local err = against(kind, function()
          return bytes
        end, incr)
        assert.are.equal(code, err.code)
        assert.is_true(redio.errors.is(err, "ReplyError"))
        assert.is_nil(tostring(err):find "[\r\n]")
      end)
    end

    it("say code, message, command, index, address, and that it was sent", function()
      local err = check.raises("ReplyError", function()
        redis():get(PREFIX .. "no"):lpush(PREFIX .. "s", "v"):get(PREFIX .. "s"):await()
      end)
      assert.are.equal("WRONGTYPE", err.code)
      assert.matches("wrong kind of value", err.message)
      assert.matches("LPUSH", err.command:upper())
      assert.are.equal(2, err.index)
      assert.are.equal(3, #err.replies)
      assert.are.same({ false, err, "text" }, err.replies)
      assert.are.equal("yes", err.sent)
      assert.matches(tostring(shared.port), tostring(err.address))
    end)

    it("print as one line that names code and command", function()
      local err = check.raises("ReplyError", function()
        redis():lpush(PREFIX .. "s", "v"):await()
      end)
      local text = tostring(err)
      assert.matches("wrong kind of value", text)
      assert.matches("LPUSH", text:upper())
      assert.is_nil(text:find("\n", 1, true))
    end)

    it("count commands that have no result in `index`", function()
      local err = check.raises("ReplyError", function()
        redis():set(PREFIX .. "a", 1):set(PREFIX .. "a", 2):lpush(PREFIX .. "s", 1):await()
      end)
      assert.are.equal(3, err.index)
    end)

    it("shorten long commands", function()
      local err = check.raises("ReplyError", function()
        redis():lpush(PREFIX .. "s", ("x"):rep(1e6)):await()
      end)
      assert.is_true(#err.command < 1000)
      assert.is_true(#tostring(err) < 2000)
    end)

    it("mask secrets", function()
      local commands = { { "AUTH", "nobody", "canary-1" }, { "CONFIG", "SET", "no-such-option", "canary-1" } }
      for _, command in ipairs(commands) do
        local err = check.raises("ReplyError", function()
          local db = redis:connection()
          local ok, why = pcall(function()
            db:call((table.unpack or unpack)(command)):await() -- luacheck: ignore unpack
          end)
          db:close()
          assert(not ok)
          error(why, 0)
        end)
        assert.is_nil((tostring(err) .. err.message .. err.command):find("canary", 1, true))
      end
    end)
  end)

  describe("at login", function()
    it("are AuthError for a password that is wrong or missing", function()
      local private = server.start { password = "secret" }
      local base = ("127.0.0.1:%d/"):format(private.port)
      for _, url in ipairs { "redis://" .. base, "redis://:canary@" .. base, "redis://default:canary@" .. base } do
        for _, protocol in ipairs { 2, 3 } do
          local client = redio.Redis(url, { protocol = protocol })
          local err = check.within(5, check.raises, "AuthError", get, client)
          assert.is_nil(tostring(err):find("canary", 1, true))
          client:close()
        end
      end
      local client = redio.Redis("redis://:secret@" .. base)
      assert.is_nil((client():get("k"):await()))
      client:close()
      private:stop()
    end)

    it("are MaxClientsError where the server has no room", function()
      local private = server.start { "maxclients 1" }
      local first, second = redio.Redis(private.url), redio.Redis(private.url)
      first():ping():await()
      check.within(10, check.raises, "MaxClientsError", get, second)
      first:close()
      second:close()
      private:stop()
    end)

    it("are named where the database does not exist", function()
      local client = redio.Redis(shared.url, { database = 999999 })
      local err = check.within(5, check.raises, "RedisError", get, client)
      assert.matches("DB index", tostring(err))
      client:close()
    end)

    it("are raised where the server refuses the client's name", function()
      local client = redio.Redis(shared.url, { client_name = "a name of words" })
      check.within(5, check.raises, "RedisError", get, client)
      client:close()
    end)
  end)

  describe("of the connection", function()
    it("when it is refused name the address, and that nothing was sent", function()
      local port = server.free_port()
      local client = redio.Redis("redis://127.0.0.1:" .. port .. "/")
      local err = check.within(10, check.raises, "ConnectionError", incr, client)
      assert.matches(tostring(port), tostring(err))
      assert.matches(tostring(port), tostring(err.address))
      assert.are.equal("no", err.sent)
      client:close()
    end)

    it("when there is no such socket name its path", function()
      local client = redio.Redis "redis+unix:///no/such/redis.sock"
      local err = check.within(10, check.raises, "ConnectionError", incr, client)
      assert.matches("/no/such/redis.sock", tostring(err))
      assert.are.equal("no", err.sent)
      client:close()
    end)

    it("when there is no such host name it", function()
      local client = redio.Redis("redis://no-such-host.invalid/", { connect_timeout = 2 })
      local err = check.within(10, check.raises, "ConnectionError", incr, client)
      assert.matches("no%-such%-host%.invalid", tostring(err))
      assert.are.equal("no", err.sent)
      client:close()
    end)

    it("that ends in mid reply are ConnectionClosedError, sent maybe, and nothing is sent twice", function()
      local requests = 0
      local err = against("ConnectionClosedError", function(connection)
        requests = requests + 1
        connection:write "$10\r\nhel"
        connection:close()
      end, incr)
      assert.are.equal("maybe", err.sent)
      assert.are.equal(1, requests)
    end)

    it("end all waits, each once", function()
      local failed = 0
      against("ConnectionClosedError", function(connection)
        connection:close()
      end, function(client)
        local tasks = {}
        for i = 1, 20 do
          tasks[i] = redio.spawn(incr, client)
        end
        local last
        for _, task in ipairs(tasks) do
          local ok, err = pcall(task.await, task)
          assert(not ok)
          failed, last = failed + 1, err
        end
        error(last, 0)
      end)
      assert.are.equal(20, failed)
    end)

    it("end a chain that had some of its replies", function()
      local err = against("ConnectionClosedError", function(connection)
        connection:write ":1\r\n"
        connection:close()
      end, function(client)
        client():incr "a":incr "b":incr "c":await()
      end)
      assert.are.equal("maybe", err.sent)
    end)

    it("a read-only command survives, once", function()
      local requests = 0
      local peer = fake.start(function(connection)
        requests = requests + 1
        if requests == 1 then
          connection:close()
        else
          connection:write "$2\r\nhi\r\n"
        end
      end)
      local client = redio.Redis(peer.url)
      assert.are.equal("hi", check.within(5, function()
        return (client():get "k":await())
      end))
      client:close()
      peer:stop()
    end)

    it("are gone when the server is back", function()
      local private = server.start {}
      local client = redio.Redis(private.url)
      client():set("k", "v"):await()
      private:kill()
      check.within(10, check.raises, "ConnectionError", incr, client)
      private:restart()
      local back = redio.run(check.eventually, function()
        return (pcall(incr, client))
      end)
      assert.is_true(back)
      client:close()
      private:stop()
    end)

    it("when it stays silent are TimeoutError", function()
      local err = against("TimeoutError", function() end, incr, { timeout = 0.1 })
      assert.are.equal("TimeoutError", err.kind)
      assert.are.equal("maybe", err.sent)
      -- Silent in the handshake already: nothing of the caller's was sent.
      local deaf = { protocol = false }
      err = against("TimeoutError", function() end, incr, { connect_timeout = 0.1, protocol = 3 }, deaf)
      assert.are.equal("no", err.sent)
      against("TimeoutError", function() end, function(client)
        client():timeout(0.05):incr "k":await()
      end)
    end)

    it("after a timeout leave the late reply to no caller", function()
      local peer = fake.start(function(connection, words)
        local reply = ("$%d\r\n%s\r\n"):format(#words[2], words[2])
        if words[2] == "late" then
          connection.held = reply -- and all that come after it, for replies keep their order
          redio.spawn(function()
            redio.sleep(0.06)
            connection:write(connection.held)
            connection.held = nil
          end)
        elseif connection.held then
          connection.held = connection.held .. reply
        else
          return reply
        end
      end)
      local client = redio.Redis(peer.url)
      check.within(5, function()
        check.raises("TimeoutError", function()
          client():timeout(0.03):echo "late":await()
        end)
        for i = 1, 20 do
          assert(client():echo("token " .. i):await() == "token " .. i)
          redio.sleep(0.005)
        end
      end)
      client:close()
      peer:stop()
    end)

    it("that talks nonsense are ProtocolError, and the next await has another connection", function()
      local requests = 0
      local peer = fake.start(function()
        requests = requests + 1
        return requests == 1 and "x+OK\r\n" or ":7\r\n"
      end)
      local client = redio.Redis(peer.url)
      check.within(5, check.raises, "ProtocolError", incr, client)
      assert.are.equal(7, (client():incr "k":await()))
      client:close()
      peer:stop()
    end)

    it("that gives a stray reply is closed", function()
      local requests = 0
      local peer = fake.start(function()
        requests = requests + 1
        return requests == 1 and ":1\r\n:666\r\n" or ":2\r\n"
      end)
      local client = redio.Redis(peer.url)
      check.within(5, function()
        pcall(incr, client)
        redio.sleep(0.02)
        assert.are.equal(2, (client():incr "k":await()))
      end)
      client:close()
      peer:stop()
    end)

    it("that speaks TLS to a plain client hints at TLS", function()
      local err = against("ProtocolError", function()
        return "\21\3\3\0\2\2F"
      end, incr)
      assert.matches("TLS", tostring(err))
    end)
  end)

  describe("of one's own", function()
    it("after close() are PoolClosedError", function()
      local client = redio.Redis(shared.url)
      client():ping():await()
      client:close()
      check.raises("PoolClosedError", get, client)
    end)

    it("by close() while something waits are ConnectionForcedCloseError", function()
      check.within(5, function()
        local client = redio.Redis(shared.url)
        local task = redio.spawn(function()
          client():blpop(PREFIX .. "empty", 60):await()
        end)
        redio.sleep(0.05)
        client:close { drain = 0 }
        check.raises("ConnectionForcedCloseError", task.await, task)
      end)
    end)

    it("when an option is unknown name it at once, at the caller's line", function()
      assert.matches("no_such_option", check.misuse(function()
        redio.Redis(nil, { no_such_option = 1 })
      end))
      assert.matches("no_such_option", check.misuse(function()
        redio.Redis "redis://localhost/?no_such_option=1"
      end))
    end)

    it("when an option or URL is wrong name it at once, at the caller's line", function()
      assert.matches("max_connections", check.misuse(function()
        redio.Redis(nil, { max_connections = "many" })
      end))
      assert.matches("http", check.misuse(function()
        redio.Redis "http://localhost/"
      end))
      check.misuse(function()
        redio.Redis(42)
      end)
      check.misuse(function()
        redio.Redis("redis://localhost:99999/")
      end)
    end)

    it("in an argument are raised at the call and queue nothing", function()
      local db = redis():get "a"
      local text = check.misuse(function()
        db:set("a", nil)
      end)
      assert.matches("SET", text:upper())
      assert.matches("2", text)
      assert.are.equal(1, db:queued())
      db:clear()
    end)
  end)
end)
