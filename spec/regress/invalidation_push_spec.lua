-- SPDX-License-Identifier: MIT
-- Under RESP3 the server tells of invalidated keys by a push of its own kind, which was dropped. A receiver of
-- "__redis__:invalidate" got nothing, unlike under RESP2.

local server = require "spec.support.server"
local check = require "spec.support.check"
local fixtures = require "spec.support.fixtures"

local INVALIDATE = "__redis__:invalidate"

for _, protocol in ipairs { 2, 3 } do
  describe(("a receiver of %s under RESP%d"):format(INVALIDATE, protocol), function()
    local it_needs = fixtures.new()
    local writer

    before_each(function()
      writer = it_needs:client(server.shared().url)
    end)

    after_each(function()
      it_needs:clear()
    end)

    -- A receiver, and a handle. The reads of the handle are tracked for the receiver.
    local function set_up(options)
      local id
      options = options or {}
      options.protocol = protocol
      options.on_connect = function(db) id = id or db:client_id():await() end
      local redis = it_needs:client(server.shared().url, options)
      local receiver = redis:pubsub(INVALIDATE, "other"):connect()
      local reader = it_needs:client(server.shared().url, { protocol = protocol }):connection()
      reader:client_tracking("ON", "REDIRECT", id, "BCAST", "PREFIX", "spec:inv:"):await()
      it_needs:finally(function()
        reader:close()
        receiver:close()
      end)
      return receiver
    end

    it("gets the keys as a list", function()
      check.within(10, function()
        local receiver = set_up():with_channel()
        writer():set("spec:inv:a", 1):await()
        assert.are.same({ INVALIDATE, { "spec:inv:a" } }, { receiver:await() })
        writer():publish("other", "text"):await()
        assert.are.same({ "other", "text" }, { receiver:await() })
      end)
    end)

    it("gets false when all keys are gone", function()
      check.within(10, function()
        local own = it_needs:server()
        local id
        local redis = it_needs:client(own.url, { protocol = protocol, on_connect = function(db)
          id = id or db:client_id():await()
        end })
        local receiver = redis:pubsub(INVALIDATE):connect()
        local reader = it_needs:client(own.url):connection()
        reader:client_tracking("ON", "REDIRECT", id):await()
        reader:get("k"):await()
        it_needs:client(own.url)():flushall():await()
        local heard = receiver:await()
        assert.are.equal(false, heard)
        receiver:close()
        reader:close()
      end)
    end)

    it("gets them undecoded, for keys are no values; in a view as well", function()
      check.within(10, function()
        local receiver = set_up { decode = "auto" }
        local view = receiver:channel(INVALIDATE)
        writer():mset("spec:inv:1", 1, "spec:inv:2", 2):await()
        local keys, channel = view:get { decoder = error }
        if #keys == 1 then keys[2] = view:get_json()[1] end
        table.sort(keys)
        assert.are.same({ "spec:inv:1", "spec:inv:2" }, keys)
        assert.are.equal(INVALIDATE, channel)
      end)
    end)

    it("hears no more of them when it has unsubscribed", function()
      check.within(10, function()
        local receiver = set_up()
        receiver:unsubscribe(INVALIDATE):connect()
        writer():set("spec:inv:a", 1):publish("other", "text"):await()
        assert.are.equal("text", (receiver:await()))
      end)
    end)
  end)
end

describe("a push of an unknown kind", function()
  it("is skipped", function()
    local it_needs = fixtures.new()
    local peer = it_needs:fake(function(_, words)
      if words[1] == "SUBSCRIBE" then
        return ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>2\r\n$5\r\nnovel\r\n*1\r\n:1\r\n>1\r\n$8\r\npubsubby\r\n"
          .. ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nheard\r\n"
      end
      return ">2\r\n$5\r\nnovel\r\n:1\r\n+x\r\n"
    end)
    check.within(10, function()
      local redis = it_needs:client(peer.url)
      local receiver = redis:pubsub("c"):connect()
      assert.are.equal("heard", (receiver:await()))
      assert.are.equal("x", (redis():call("X"):await()))
      receiver:close()
    end)
    it_needs:clear()
  end)
end)
