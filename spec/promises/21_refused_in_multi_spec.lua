-- SPDX-License-Identifier: MIT
-- Promise 21, refused in MULTI: a command that cannot be paired with its reply inside MULTI is refused there, before a
-- byte of it is sent. (A real server desynchronises on some of these.)

local server = require "spec.support.server"
local check = require "spec.support.check"
local spellings = require "spec.support.spellings"
local fixtures = require "spec.support.fixtures"


local REFUSED = {
  { "SUBSCRIBE", "c" }, { "PSUBSCRIBE", "c*" }, { "SSUBSCRIBE", "c" }, { "UNSUBSCRIBE" }, { "UNSUBSCRIBE", "c" },
  { "PUNSUBSCRIBE" }, { "SUNSUBSCRIBE" }, { "MONITOR" }, { "RESET" }, { "HELLO" }, { "HELLO", "2" }, { "HELLO", "3" },
  { "QUIT" }, { "CLIENT REPLY", "OFF" }, { "CLIENT REPLY", "SKIP" }, { "CLIENT REPLY", "ON" },
  { "SYNC" }, { "PSYNC", "?", "-1" }, { "WATCH", "k" }, { "MULTI" },
}

describe("Promise 21, refused inside MULTI:", function()
  local it_needs = fixtures.new()

  after_each(function()
    it_needs:clear()
  end)

  local function sent(line)
    local bytes = 0
    for _, connection in ipairs(line.connections) do
      bytes = bytes + #connection.up:bytes()
    end
    return bytes
  end

  for _, words in ipairs(REFUSED) do
    it(table.concat(words, " ") .. ": in a chain, and where MULTI was left open across an await", function()
      local line = it_needs:proxy()
      local redis = it_needs:client(line.url)
      check.within(5, function()
        redis():ping():await()
        for _, spelling in ipairs(spellings.of(words)) do
          local name, send = spelling[1], spelling[2]

          -- a chain that is not yet sent
          local db = redis():multi():set("spec:p21", "a"):get("spec:p21")
          local before = sent(line)
          local ok, err = pcall(send, db)
          assert.is_false(ok, name)
          assert.are.equal("string", type(err), name)
          assert.are.equal(before, sent(line), name)
          assert.are.equal(3, db:queued(), name)
          -- the chain is as it was
          assert.are.same({ "a" }, (db:exec():await()), name)

          -- a transaction that is open on the server
          db = redis()
          db:multi():set("spec:p21", "b"):await()
          before = sent(line)
          ok = pcall(send, db)
          assert.is_false(ok, name)
          assert.are.equal(before, sent(line), name)
          assert.are.same({ "b" }, (db:get("spec:p21"):exec():await()), name)
          db:close()
        end
        -- other callers still get their own replies
        assert.are.equal("paired", (redis():echo "paired":await()))
      end)
    end)
  end

  it("so are EXEC and DISCARD without MULTI", function()
    local line = it_needs:proxy()
    local redis = it_needs:client(line.url)
    redis():ping():await()
    local before = sent(line)
    assert.matches("EXEC", check.misuse(function() redis():exec() end))
    assert.matches("DISCARD", check.misuse(function() redis():discard() end))
    assert.are.equal(before, sent(line))
  end)

  it("once EXEC is queued, what MULTI forbade is allowed again where it was before", function()
    local redis = it_needs:client(server.shared().url)
    local db = redis()
    db:multi():set("spec:p21", 1):exec():watch("spec:p21"):await()
    db:unwatch():del("spec:p21"):await()
    db:close()
  end)
end)
