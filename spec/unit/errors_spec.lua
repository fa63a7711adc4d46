-- SPDX-License-Identifier: MIT
-- base/errors.lua: the kinds, the fields and the text of error objects. Needs no server. (Errors as a client raises
-- them: client/raised_errors_spec.lua.)

local errors = require "redio.base.errors"

-- An error reply as the core builds it.
local function reply(code, message, command, fields)
  local err = fields or {}
  err.code, err.message, err.command = code, message, command
  return setmetatable(err, errors.metatable)
end

describe("errors", function()
  describe("kinds", function()
    it("are constants of their own names", function()
      assert.equal("TimeoutError", errors.TimeoutError)
      assert.equal("RedisError", errors.RedisError)
    end)

    it("raise when they do not exist, and say what was meant", function()
      local function raises(fn, pattern)
        local ok, message = pcall(fn)
        assert.is_false(ok)
        assert.matches("errors_spec.lua:%d+: " .. pattern, message)
      end
      raises(function()
        return (errors.TimoutError)
      end, "unknown kind of error 'TimoutError'; did you mean 'TimeoutError'")
      raises(function()
        errors.is({}, "Timeout")
      end, "unknown kind of error 'Timeout'; did you mean 'TimeoutError'")
      raises(function()
        errors.new("OopsError", "oops")
      end, "unknown kind of error 'OopsError'")
    end)

    it("are a tree: an error is of its own kind and of those above", function()
      local is_a = {
        ConnectionError = { "RedisError" },
        ConnectionClosedError = { "ConnectionError", "RedisError" },
        ConnectionForcedCloseError = { "ConnectionClosedError", "ConnectionError", "RedisError" },
        TimeoutError = { "ConnectionError", "RedisError" },
        ProtocolError = { "RedisError" },
        ReplyError = { "RedisError" },
        AuthError = { "ReplyError", "RedisError" },
        MaxClientsError = { "ReplyError", "RedisError" },
        ReadOnlyError = { "ReplyError", "RedisError" },
        WatchError = { "RedisError" },
        PoolClosedError = { "RedisError" },
        ChannelClosedError = { "RedisError" },
        CancelledError = { "RedisError" },
        MasterNotFoundError = { "RedisError" },
        ReplicaNotFoundError = { "RedisError" },
      }
      for kind, parents in pairs(is_a) do
        local err = errors.new(kind, "text")
        assert.is_true(errors.is(err))
        assert.is_true(errors.is(err, kind))
        for _, parent in ipairs(parents) do
          assert.is_true(errors.is(err, parent), kind .. " is a " .. parent)
        end
      end
      assert.is_false(errors.is(errors.new("ConnectionError", "text"), "TimeoutError"))
      assert.is_false(errors.is(errors.new("WatchError", "text"), "ReplyError"))
    end)

    it("belong to nothing else", function()
      for _, value in ipairs { "text", 1, true, {}, setmetatable({}, {}), print } do
        assert.is_false(errors.is(value))
        assert.is_false(errors.is(value, "RedisError"))
      end
      assert.is_false(errors.is(nil))
    end)

    it("of error replies come from the first word, or from the text where there is only ERR", function()
      local of = {
        { "WRONGTYPE", "Operation against a key holding the wrong kind of value", "WrongTypeError" },
        { "NOAUTH", "Authentication required.", "AuthError" },
        { "WRONGPASS", "invalid username-password pair or user is disabled.", "AuthError" },
        { "ERR", "invalid password", "AuthError" },
        { "ERR", "Client sent AUTH, but no password is set", "AuthError" },
        {
          "ERR",
          "AUTH <password> called without any password configured for the default user. "
            .. "Are you sure your configuration is correct?",
          "AuthError",
        },
        { "NOPERM", "this user has no permissions to run the 'set' command", "NoPermissionError" },
        { "ERR", "max number of clients reached", "MaxClientsError" },
        { "ERR", "max number of clients + cluster connections reached", "MaxClientsError" },
        { "READONLY", "You can't write against a read only replica.", "ReadOnlyError" },
        { "NOSCRIPT", "No matching script. Please use EVAL.", "NoScriptError" },
        { "LOADING", "Redis is loading the dataset in memory", "LoadingError" },
        { "BUSY", "Redis is busy running a script.", "BusyError" },
        { "EXECABORT", "Transaction discarded because of previous errors.", "ExecAbortError" },
        { "OOM", "command not allowed when used memory > 'maxmemory'.", "OutOfMemoryError" },
        { "NOREPLICAS", "Not enough good replicas to write.", "NoReplicasError" },
        { "BUSYGROUP", "Consumer Group name already exists", "BusyGroupError" },
        { "BUSYKEY", "Target key name already exists.", "BusyKeyError" },
        { "NOGROUP", "No such consumer group", "NoGroupError" },
        { "MOVED", "3999 127.0.0.1:6381", "MovedError" },
        { "ASK", "3999 127.0.0.1:6381", "AskError" },
        { "CLUSTERDOWN", "Hash slot not served", "ClusterDownError" },
        { "CROSSSLOT", "Keys in request don't hash to the same slot", "CrossSlotError" },
        { "TRYAGAIN", "Multiple keys request during rehashing of slot", "TryAgainError" },
        { "MASTERDOWN", "Link with MASTER is down", "MasterDownError" },
        { "MISCONF", "Errors writing to the AOF file", "MisconfError" },
        { "NOPROTO", "unsupported protocol version", "NoProtoError" },
        { "UNBLOCKED", "client unblocked via CLIENT UNBLOCK", "UnblockedError" },
        { "DENIED", "Redis is running in protected mode", "ProtectedModeError" },
        { "ERR", "syntax error", "ReplyError" },
        { "MYMODULE", "something of its own", "ReplyError" },
        { "", "", "ReplyError" },
      }
      for _, case in ipairs(of) do
        local code, message, kind = case[1], case[2], case[3]
        assert.equal(kind, errors.kind_of(code, message))
        assert.equal(kind, reply(code, message).kind)
        assert.is_true(errors.is(reply(code, message), "ReplyError"))
      end
    end)
  end)

  describe("new", function()
    it("copies the fields and keeps no hold of their table", function()
      local fields = { command = "GET", index = 2, sent = "no", address = "localhost:6379" }
      local err = errors.new("TimeoutError", "no reply within 5 s", fields)
      fields.command = "SET"
      assert.equal("TimeoutError", err.kind)
      assert.equal("no reply within 5 s", err.message)
      assert.equal("GET", err.command)
      assert.equal(2, err.index)
      assert.equal("no", err.sent)
      assert.equal("localhost:6379", err.address)
      assert.is_nil(err.code)
    end)
  end)

  describe("tostring", function()
    it("is one line of what is known", function()
      local wrong_type = reply(
        "WRONGTYPE",
        "Operation against a key holding the wrong kind of value",
        "LPUSH",
        { index = 2, count = 3, address = "localhost:6379" }
      )
      assert.equal(
        "WrongTypeError: WRONGTYPE Operation against a key holding the wrong kind of value "
          .. "(LPUSH, command 2 of 3, localhost:6379)",
        tostring(wrong_type)
      )
      assert.equal("ReplyError: ERR syntax error", tostring(reply("ERR", "syntax error")))
      assert.equal("ReplyError: ERR syntax error (SET)", tostring(reply("ERR", "syntax error", "SET")))
      assert.equal(
        "ReplyError: ERR syntax error (SET, command 7)",
        tostring(reply("ERR", "syntax error", "SET", { index = 7 }))
      )
      assert.equal(
        "ReplyError: ERR syntax error (SET)",
        tostring(reply("ERR", "syntax error", "SET", { index = 1, count = 1 }))
      )
      assert.equal(
        "ConnectionError: connection refused (localhost:6379)",
        tostring(errors.new("ConnectionError", "connection refused", { address = "localhost:6379", sent = "no" }))
      )
    end)

    it("says a reply of one word once", function()
      assert.equal("ReplyError: OOPS", tostring(reply("OOPS", "OOPS")))
      assert.equal("ReplyError: ", tostring(reply("", "")))
    end)

    it("says when a command may have been executed", function()
      local fields = { command = "INCR", address = "/run/redis.sock", sent = "maybe" }
      assert.equal(
        "ConnectionClosedError: the server closed the connection "
          .. "(INCR, /run/redis.sock, it may have been executed)",
        tostring(errors.new("ConnectionClosedError", "the server closed the connection", fields))
      )
    end)

    it("escapes what could write to a terminal or begin a line in a log", function()
      assert.equal("ReplyError: ERR a\\r\\n\\x1B[2Jb\\x00", tostring(reply("ERR", "a\r\n\27[2Jb\0")))
    end)

    it("is what an uncaught error prints", function()
      local ok, err = pcall(error, errors.new("WatchError", "a watched key changed"))
      assert.is_false(ok)
      assert.equal("WatchError: a watched key changed", tostring(err))
    end)
  end)

  describe("complete", function()
    it("sets the kind, sent and the address", function()
      local err = errors.complete(reply("NOSCRIPT", "No matching script.", "EVALSHA"), "localhost:6379")
      assert.equal("NoScriptError", rawget(err, "kind"))
      assert.equal("yes", err.sent)
      assert.equal("localhost:6379", err.address)
      assert.equal("No matching script.", err.message)
    end)

    local function message_of(code, message, command)
      local err = errors.complete(reply(code, message, command), "localhost:6379")
      local once = err.message
      assert.equal(once, errors.complete(err, "localhost:6379").message) -- twice is as once
      assert.is_nil(tostring(err):find("s3cret", 1, true), tostring(err))
      return once
    end

    it("leaves out what the server repeats of the arguments", function()
      local cases = {
        { "ERR", "unknown command 'FOO', with args beginning with: 's3cret' 'b' ", "unknown command 'FOO'" },
        { "ERR", "unknown command `FOO`, with args beginning with: `s3cret`, ", "unknown command `FOO`" },
        { "ERR", "unknown command 'FOO', with args beginning with: ", "unknown command 'FOO'" },
        {
          "NOGROUP",
          "No such key 's3cret' or consumer group 's3'cret' in XREADGROUP with GROUP option",
          "No such key '...' or consumer group '...' in XREADGROUP with GROUP option",
        },
        {
          "NOGROUP",
          "No such consumer group 's3cret' for key name 's3cret'",
          "No such consumer group '...' for key name '...'",
        },
        { "ERR", "Unknown client type 's3cret'", "Unknown client type '...'" },
        { "ERR", "No such user 's3cret'", "No such user '...'" },
        { "ERR", "Unknown node s3cret", "Unknown node ..." },
      }
      for _, case in ipairs(cases) do
        assert.equal(case[3], message_of(case[1], case[2], "XREADGROUP"))
      end
      local outside = "invalid longitude,latitude pair "
      assert.equal(outside .. "...", message_of("ERR", outside .. "200.000000,1.000000", "GEOADD"))
    end)

    it("keeps the server's own words", function()
      for _, message in ipairs {
        "value is not an integer or out of range",
        "wrong number of arguments for 'get' command",
        "this user has no permissions to run the 'set' command",
        "unknown subcommand 'NOSUCH'. Try CLIENT HELP.",
        "Error compiling script (new function): user_script:1: '=' expected near 'err'",
        "command not allowed when used memory > 'maxmemory'.",
      } do
        assert.equal(message, message_of("ERR", message, "GET"))
      end
    end)

    it("keeps of secret commands what helps", function()
      local same = {
        { "WRONGPASS", "invalid username-password pair or user is disabled.", "AUTH" },
        { "NOPROTO", "unsupported protocol version", "HELLO" },
        { "NOAUTH", "Authentication required.", "CONFIG GET" },
        { "LOADING", "Redis is loading the dataset in memory", "HELLO" },
        { "LOADING", "Valkey is loading the dataset in memory", "HELLO" },
        { "ERR", "max number of clients reached", "HELLO" },
        { "ERR", "syntax error", "AUTH" },
        { "IOERR", "error or timeout connecting to the client", "MIGRATE" },
      }
      for _, case in ipairs(same) do
        assert.equal(case[2], message_of(case[1], case[2], case[3]))
      end
    end)

    it("says the rest of them in words of its own", function()
      local withheld = "refused by the server; its words are withheld, for they may repeat a secret"
      local cases = {
        {
          "HELLO",
          "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 's3cret' ",
          "unknown command 'HELLO'",
        },
        { "hello", "unknown command `HELLO`, with args beginning with: `3`, `s3cret`, ", "unknown command 'HELLO'" },
        { "HELLO", "Syntax error in HELLO option 's3cret'", withheld },
        { "AUTH", "something new about s3cret", withheld },
        { "ACL SETUSER", "Error in ACL SETUSER modifier '>s3cret': nobody knows", "a rule of ACL SETUSER is wrong" },
        {
          "ACL SETUSER",
          "Error in ACL SETUSER modifier 's3cret': Syntax error",
          "a rule of ACL SETUSER is wrong: Syntax error",
        },
        { "ACL", "unknown subcommand 's3cret'. Try ACL HELP.", "unknown subcommand" },
        { "ACL DRYRUN", "User 's3cret' not found", withheld },
        {
          "CONFIG SET",
          "Unknown option or number of arguments for CONFIG SET - 's3cret'",
          "unknown parameter, or wrong number of arguments",
        },
        {
          "CONFIG SET",
          "CONFIG SET failed (possibly related to argument 's3cret') - argument must be a memory value",
          "wrong argument: argument must be a memory value",
        },
        { "CONFIG SET", "CONFIG SET failed (possibly related to argument 'x') - s3cret", "wrong argument" },
        { "CONFIG SET", "Invalid argument 's3cret' for CONFIG SET 'maxclients'", "wrong argument" },
        { "CONFIG SET", "wrong number of arguments for 'config|set' command", "wrong number of arguments" },
        {
          "MIGRATE",
          "Target instance replied with error: ERR unknown command 'AUTH2' with args 's3cret'",
          "the target server refused it",
        },
      }
      for _, case in ipairs(cases) do
        assert.equal(case[3], message_of("ERR", case[2], case[1]))
      end
      local of_valkey = {
        { "ACL LOAD", "This instance is not configured to use an ACL file. You may want ...",
          "not configured to use an ACL file" },
        { "HELLO", "Running in protected mode because protected mode is enabled ...",
          "it is running in protected mode: it has no password, and serves its own machine only" },
        { "ACL SETUSER", "Valkey is busy running a script. You can only ...", "Valkey is busy running a script" },
      }
      for _, case in ipairs(of_valkey) do
        assert.equal(case[3], message_of("ERR", case[2], case[1]))
      end
      assert.equal(
        "the user has no permission to run it",
        message_of("NOPERM", "User s3cret has no permissions to run the 'acl|setuser' command", "ACL SETUSER")
      )
    end)

    it("takes no code from a secret command that the server has not", function()
      message_of("s3cret", "is not the password", "AUTH")
      local err = errors.complete(reply("s3cret", "s3cret", "AUTH"))
      assert.equal("ERR", err.code)
      assert.equal("ReplyError", err.kind)
    end)
  end)
end)
