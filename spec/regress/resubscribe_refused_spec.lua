-- SPDX-License-Identifier: MIT
-- A receiver that resubscribes reconnected for ever, silently and faster than any back-off, when the server would not
-- let it subscribe any more, or no connection could be made any more.

local redio = require "redio"
local certificates = require "spec.support.certificates"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local QUICKLY = { max = 3, base = 0.001, cap = 0.005 }

local SUBSCRIBED = ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"

describe("a receiver that resubscribes", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  -- Waits of all kinds, as tasks.
  local function start(receiver, name)
    local view = receiver:channel(name)
    local tasks = {
      redio.spawn(receiver.await, receiver), redio.spawn(view.get, view), redio.spawn(view.wait_message, view),
      redio.spawn(receiver.await, receiver),
    }
    redio.sleep(0.02)
    return tasks
  end

  local function assert_raise(kind, tasks)
    for _, task in ipairs(tasks) do
      check.raises(kind, task.await, task)
    end
  end

  it("raises when the right to its channel was taken, to all that wait, and asks anew with the next wait", function()
    local one = it_needs:server()
    local line = it_needs:proxy(one)
    one:cli("acl", "setuser", "reader", "on", ">pw", "resetchannels", "&*", "+@all")
    check.within(10, function()
      local redis = it_needs:client(line.url, { username = "reader", password = "pw", retry = QUICKLY })
      local gaps = 0
      local receiver = redis:pubsub("secret"):resubscribe(function() gaps = gaps + 1 end):connect()
      local tasks = start(receiver, "secret")
      -- the server ends the connection of a subscriber that has lost its right
      one:cli("acl", "setuser", "reader", "resetchannels", "&public")
      assert_raise("NoPermissionError", tasks)
      redio.sleep(0.2)
      assert.are.equal(2, line.accepted)
      check.raises("NoPermissionError", receiver.await, receiver)
      assert.are.equal(3, line.accepted)
      assert.are.equal(0, gaps)
      assert.are.same({ false, 0 }, { receiver.in_pubsub, redis:stats().receivers })
      one:cli("acl", "setuser", "reader", "&secret")
      tasks = start(receiver, "secret")
      assert.is_true(check.eventually(function() return receiver.in_pubsub end))
      assert.are.equal(1, gaps)
      one:cli("publish", "secret", "again")
      assert.are.equal("again", (tasks[2]:await()))
      receiver:close()
      assert.is_nil((tasks[1]:await()))
    end)
  end)

  it("raises what its login is refused with", function()
    local one = it_needs:server()
    one:cli("acl", "setuser", "reader", "on", ">pw", "&*", "+@all")
    check.within(10, function()
      local redis = it_needs:client(one.url, { username = "reader", password = "pw", retry = QUICKLY })
      local receiver = redis:pubsub("c"):resubscribe():connect()
      local tasks = start(receiver, "c")
      one:cli("acl", "setuser", "reader", "resetpass", ">other")
      one:cli("client", "kill", "type", "pubsub")
      assert_raise("AuthError", tasks)
      receiver:close()
    end)
  end)

  it("goes on through what passes: a server that is down, loading or full, or sends garbage", function()
    local answers = {
      false, "-LOADING Redis is loading the dataset in memory\r\n", "-ERR max number of clients reached\r\n", "\n\0",
      "-MASTERDOWN Link with MASTER is down\r\n",
    }
    local round, refused = 1, 0
    local peer = it_needs:fake(function(connection, words)
      local answer = answers[round]
      if words[1] == "HELLO" and answer == nil then
        return "%1\r\n$5\r\nproto\r\n:3\r\n"
      elseif words[1] == "HELLO" then
        refused = refused + 1
        if answer then connection:write(answer) end
        connection:close()
      elseif words[1] == "SUBSCRIBE" then
        return SUBSCRIBED
      else
        return "+OK\r\n"
      end
    end, { protocol = false })
    round = #answers + 1
    check.within(20, function()
      local redis = it_needs:client(peer.url, { retry = QUICKLY })
      local gaps = 0
      local receiver = redis:pubsub("c"):resubscribe(function() gaps = gaps + 1 end):connect()
      local task = redio.spawn(receiver.await, receiver)
      redio.sleep(0)
      for i = 1, #answers do
        round, refused = i, 0
        peer.connections[#peer.connections]:reset()
        assert.is_true(check.eventually(function() return refused > 3 end))
        assert.are.equal("waiting", task:status())
        round = #answers + 1
        assert.is_true(check.eventually(function() return gaps == i end))
      end
      peer.connections[#peer.connections]:write ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nheard\r\n"
      assert.are.equal("heard", (task:await()))
      receiver:close()
    end)
  end)

  it("raises what will not pass: a certificate that is not accepted", function()
    local certs = certificates.make()
    it_needs:finally(function() certs:remove() end)
    local tls_peer = require "spec.support.tls_peer"
    local one = tls_peer.redis(certs)
    it_needs:finally(function() one:stop() end)
    local line = it_needs:proxy { host = one.host, port = one.tls_port }
    local ca = os.tmpname()
    it_needs:finally(function() os.remove(ca) end)
    local function trust(path)
      local from, to = assert(io.open(path)), assert(io.open(ca, "w"))
      to:write(from:read "*a")
      from:close()
      to:close()
    end
    trust(certs.ca.cert)
    check.within(10, function()
      local redis = it_needs:client(("rediss://%s:%d/"):format(line.host, line.port),
        { tls = { ca = ca, server_name = "localhost" }, retry = QUICKLY })
      local receiver = redis:pubsub("c"):resubscribe():connect()
      local tasks = start(receiver, "c")
      redis.settings.tls.server_name = "another.test" -- as if it had been given another certificate
      line:cut "rst"
      for _, task in ipairs(tasks) do
        local err = check.raises("ConnectionError", task.await, task)
        assert.is_true(err.permanent)
      end
      assert.is_true(line.accepted <= 3)
      receiver:close()
    end)
  end)

  it("is backed off from when it asks again and again", function()
    local peer = it_needs:fake(function() return "-NOPERM this user has no permissions\r\n" end)
    check.within(20, function()
      local redis = it_needs:client(peer.url, { retry = { max = 3, base = 0.1, cap = 0.2 } })
      local receiver, over = redis:pubsub("c"):resubscribe(), false
      local task = redio.spawn(function()
        while not over do
          check.raises("NoPermissionError", receiver.await, receiver)
        end
      end)
      redio.sleep(1.5)
      over = true
      task:await()
      -- the mean pause is at least 0.05, and 0.1 from the third on
      assert.is_true(peer.accepted >= 2 and peer.accepted < 40, peer.accepted .. " connects")
      receiver:close()
    end)
  end)
end)
