-- SPDX-License-Identifier: MIT
-- Answers of a server in a special condition, and how redio handles them. One test for each condition, with a real
-- server in it where that is possible.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local QUICKLY = { max = 3, base = 0.001, cap = 0.005 }

describe("When the server", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- Calls `fn` again and again for so many seconds; how often the server was connected to meanwhile.
  local function connects_within(seconds, line, fn)
    local before, over = line.accepted, false
    local trying = redio.spawn(function()
      while not over do
        pcall(fn)
        redio.sleep(0.001)
      end
    end)
    redio.sleep(seconds)
    over = true
    trying:await()
    return line.accepted - before
  end

  it("has no room (maxclients): MaxClientsError on connect, backing off, and in as soon as there is room", function()
    local one = it_needs:server()
    local line = it_needs:proxy(one)
    local first = it_needs:client(one.url)
    first():config_set("maxclients", 1):await()
    local redis = it_needs:client(line.url, { retry = { max = 0, base = 0.05, cap = 0.1 } })
    check.within(10, function()
      local err = check.raises("MaxClientsError", function() redis():ping():await() end)
      assert.are.equal("no", err.sent)
      local count = connects_within(0.5, line, function() redis():ping():await() end)
      assert.is_true(count >= 2 and count <= 60, count .. " connects")
      first():config_set("maxclients", 100):await()
      assert.is_true(check.eventually(function() return pcall(function() redis():ping():await() end) end))
    end)
  end)

  it("wants a password, or another: AuthError, the connection is closed, no hot retry", function()
    local one = it_needs:server { password = "right" }
    for _, protocol in ipairs { 2, 3 } do
      for code, options in pairs {
        NOAUTH = { protocol = protocol },
        WRONGPASS = { protocol = protocol, password = "wrong" },
      } do
        local line = it_needs:proxy(one)
        options.retry = QUICKLY
        local redis, name = it_needs:client(line.url, options)
        check.within(10, function()
          local err = check.raises("AuthError", function() redis():get "k":await() end)
          assert.are.equal(code, err.code)
          assert.are.equal("no", err.sent)
          assert.are.equal(1, line.accepted)
          assert.is_true(check.eventually(function() return line:open_connections() == 0 end))
          assert.are.equal(0, redis:stats().connections)
          assert.is_nil(one:cli("client", "list"):find(name, 1, true))
        end)
      end
    end
  end)

  it("is older than 6 and gets a user with the password: once more with the password alone", function()
    local peer = it_needs:fake(function(_, words)
      if words[1] == "HELLO" then return "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n" end
      if words[1] == "AUTH" and #words == 3 then return "-ERR wrong number of arguments for 'auth' command\r\n" end
      return words[1] == "GET" and "$1\r\nv\r\n" or "+OK\r\n"
    end, { protocol = false })
    local redis = it_needs:client(peer.url, { username = "u", password = "p", client_name = "n" })
    assert.are.equal("v", (redis():get "k":await()))
    assert.are.same({ { "AUTH", "u", "p" }, { "AUTH", "p" }, { "CLIENT", "SETNAME", "n" }, { "GET", "k" } },
      { peer.requests[2], peer.requests[3], peer.requests[4], peer.requests[5] })
    assert.are.equal(1, peer.accepted)
  end)

  describe("has no HELLO, or does not allow it: RESP2, with AUTH, on the same connection:", function()
    local function assert_works(redis, line)
      check.within(5, function()
        assert.are.equal("v", (redis():set("spec:sc", "v"):get("spec:sc"):await()))
        local _, all = redis():del("spec:sc:h"):hset("spec:sc:h", "a", 1):await()
        assert.are.equal(1, all)
        assert.are.same({ a = "1" }, (redis():hgetall("spec:sc:h"):await()))
      end)
      assert.are.equal(1, line.accepted)
    end

    it("an unknown command", function()
      local one = it_needs:server { 'rename-command HELLO ""', password = "pw" }
      local line = it_needs:proxy(one)
      assert_works(it_needs:client(line.url, { password = "pw" }), line)
    end)

    it("NOPERM", function()
      local one = it_needs:server()
      one:cli("acl", "setuser", "u", "on", ">pw", "~*", "&*", "+@all", "-hello")
      local line = it_needs:proxy(one)
      assert_works(it_needs:client(line.url, { username = "u", password = "pw" }), line)
    end)

    it("NOPROTO, and an error of a proxy's own", function()
      for _, refusal in ipairs { "-NOPROTO unsupported protocol version\r\n", "-ERR unknown command 'HELLO'\r\n" } do
        local peer = it_needs:fake(function(_, words)
          if words[1] == "HELLO" then return refusal end
          return words[1] == "GET" and "$1\r\nv\r\n" or "+OK\r\n"
        end, { protocol = false })
        local redis = it_needs:client(peer.url, { password = "pw" })
        assert.are.equal("v", (redis():get "k":await()))
        assert.are.same({ "AUTH", "pw" }, peer.requests[2])
        assert.are.equal(1, peer.accepted)
      end
    end)
  end)

  it("is loading: LoadingError, and nothing was executed", function()
    local one = it_needs:server { "key-load-delay 200", "loading-process-events-interval-bytes 1024" }
    local redis = it_needs:client(one.url, { retry = false })
    local reloading = it_needs:client(one.url, { retry = false })
    check.within(10, function()
      redis():call("DEBUG", "POPULATE", 3000):incr("n"):await()
      local task = redio.spawn(function() reloading():call("DEBUG", "RELOAD"):await() end)
      local err
      while not err and task:status() == "waiting" do
        local _, said = pcall(function() redis():incr("n"):await() end)
        err = redio.errors.is(said) and said
      end
      assert.is_true(redio.errors.is(err, "LoadingError"), tostring(err))
      assert.are.equal("LOADING", err.code)
      task:await()
    end)
  end)

  it("runs a script that does not end: BusyError for all others, until it is killed", function()
    local one = it_needs:server { "busy-reply-threshold 20" }
    local redis = it_needs:client(one.url, { retry = false })
    local other = it_needs:client(one.url, { retry = false })
    check.within(10, function()
      other():ping():await()
      local endless = redio.spawn(function() redis():eval("while true do end", 0):await() end)
      redio.sleep(0.1)
      local err = check.raises("BusyError", function() other():incr "n":await() end)
      assert.are.equal("BUSY", err.code)
      other():call("SCRIPT KILL"):await()
      check.raises("ReplyError", endless.await, endless)
      assert.are.equal(1, (other():incr "n":await()))
    end)
  end)

  it("is out of memory, lacks replicas: to the caller; the connection stays", function()
    local one = it_needs:server { "maxmemory 2mb", "maxmemory-policy noeviction" }
    local redis = it_needs:client(one.url)
    local id = redis():client_id():await()
    local err = check.raises("OutOfMemoryError", function()
      for i = 1, 20 do
        redis():set("k" .. i, ("x"):rep(500000)):await()
      end
    end)
    assert.are.equal("OOM", err.code)
    redis():config_set("maxmemory", 0, "min-replicas-to-write", 1):await()
    assert.are.equal("NOREPLICAS", check.raises("NoReplicasError", function() redis():set("k", 1):await() end).code)
    assert.are.equal(id, (redis():client_id():await()))
  end)

  it("is a read-only replica: to the caller, and the next one is on another connection", function()
    local master, replica = it_needs:server(), it_needs:server()
    replica:cli("replicaof", "127.0.0.1", master.port)
    local redis = it_needs:client(replica.url, { retry = false })
    check.within(10, function()
      local id = redis():client_id():await()
      local err = check.raises("ReadOnlyError", function() redis():set("k", 1):await() end)
      assert.are.equal("yes", err.sent)
      assert.are_not.equal(id, (redis():client_id():await()))
      -- a chain in flight beside it is not disturbed
      local reading = redio.spawn(function() return redis():call("DEBUG", "SLEEP", "0.05"):echo "beside":await() end)
      redio.sleep(0)
      check.raises("ReadOnlyError", function() redis():set("k", 1):await() end)
      assert.are.equal("beside", select(-1, reading:await()))
      replica:cli("replicaof", "no", "one")
      redis():set("k", 1):await()
    end)
  end)

  describe("closes the connection, ConnectionClosedError with sent = 'maybe':", function()
    local function lost(redis, fn)
      local err = check.within(10, check.raises, "ConnectionClosedError", fn)
      assert.are.equal("maybe", err.sent)
      check.within(5, function() assert.are.equal("again", (redis():echo "again":await())) end)
    end

    it("CLIENT KILL", function()
      local shared = server.shared()
      local redis, name = it_needs:client(shared.url, { retry = false })
      local observer = it_needs:client(shared.url)
      lost(redis, function()
        local waiting = redio.spawn(function() redis():blpop("spec:sc:none", 0):await() end)
        redio.sleep(0.02)
        for _, each in ipairs(check.clients(observer, name)) do
          observer():client_kill("ID", each.id):await()
        end
        waiting:await()
      end)
    end)

    it("its idle timeout: the next command is simply on a new connection", function()
      local one = it_needs:server { "timeout 1" }
      local redis = it_needs:client(one.url)
      check.within(10, function()
        local id = redis():client_id():await()
        assert.is_true(check.eventually(function()
          redio.sleep(0.1)
          return redis:stats().connections == 0
        end))
        assert.are_not.equal(id, (redis():client_id():await()))
      end)
    end)

    it("its limit of output, in the middle of replies", function()
      local one = it_needs:server { "client-output-buffer-limit normal 1mb 0 0" }
      local redis = it_needs:client(one.url, { retry = false })
      lost(redis, function()
        local db = redis():set("spec:sc:large", ("x"):rep(500000))
        for _ = 1, 100 do
          db:get "spec:sc:large"
        end
        db:replies()
      end)
    end)

    it("FIN and RST in the middle of a reply", function()
      for _, how in ipairs { "close", "reset" } do
        local peer = it_needs:fake(function(connection, words)
          if words[1] == "ECHO" then return "$5\r\nagain\r\n" end
          connection:write "$10\r\nhalf"
          connection[how](connection)
        end)
        local redis = it_needs:client(peer.url, { retry = false })
        lost(redis, function() redis():incr "k":await() end)
      end
    end)
  end)

  it("finds an argument too large: what it says is read although it hangs up while we write", function()
    local one = it_needs:server { "proto-max-bulk-len 1mb" }
    for _, url in ipairs { one.url, one.unix_url } do
      for _, size in ipairs { 2, 64 } do
        local redis = it_needs:client(url, { retry = false })
        check.within(10, function()
          redis():ping():await()
          local ok, err = pcall(function() redis():set("k", ("x"):rep(size * 1024 * 1024)):await() end)
          assert.is_false(ok)
          assert.matches("invalid bulk length", tostring(err))
          assert.are.equal("still there", (redis():echo "still there":await()))
        end)
      end
    end
  end)

  it("said why and reset before we wrote: the failed write is not the reason that is told", function()
    local peer = it_needs:fake(function() return "+OK\r\n" end)
    local redis = it_needs:client(peer.url, { retry = false })
    check.within(5, function()
      redis():call("X"):await()
      peer.connections[1].handle:try_write "-ERR you are not wanted any more\r\n"
      peer.connections[1]:reset()
      -- in the same turn of the loop: nothing of it has been read yet
      local ok, err = pcall(function() redis():incr "k":await() end)
      assert.is_false(ok)
      assert.matches("you are not wanted any more", tostring(err))
    end)
  end)

  it("refuses EXEC: ExecAbortError; finds a watched key changed: false", function()
    local shared = server.shared()
    local redis, other = it_needs:client(shared.url), it_needs:client(shared.url)
    check.protocols(function(protocol)
      redis = it_needs:client(shared.url, { protocol = protocol })
      local replies = redis():multi():call("NO SUCH"):set("spec:sc", 1):exec():replies()
      assert.is_true(redio.errors.is(replies[#replies], "ExecAbortError"), tostring(replies[#replies]))
      assert.are.equal("EXECABORT", replies[#replies].code)
      local db = redis()
      db:watch("spec:sc"):await()
      other():set("spec:sc", "other's"):await()
      assert.is_false((db:multi():set("spec:sc", "mine"):exec():await()))
      assert.are.equal("other's", (redis():get("spec:sc"):del("spec:sc"):await()))
    end)
  end)

  it("is told QUIT: a clean close, no error, no reconnect", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url)
    check.within(5, function()
      local db = redis:connection()
      db:ping():await()
      db:call "QUIT":await()
      assert.is_true(check.eventually(function() return line:open_connections() == 0 end))
      assert.are.equal(1, line.accepted)
      assert.are.equal(0, redis:stats().connections)
      assert.are.equal(0, redis:stats().reconnects)
      redio.sleep(0.05)
      assert.are.equal(1, line.accepted)
      db:close()
    end)
  end)
end)
