-- SPDX-License-Identifier: MIT
-- Servers from 7.2 on do not answer an AUTH that fails while other replies wait to be sent. The next reply of the chain
-- was taken for its answer. An AUTH right behind the login, which ends in a CLIENT SETINFO without a waiter, hung until
-- `timeout`. AUTH now leaves when all that was sent before is answered, or not at all.

local redio = require "redio"
local check = require "spec.support.check"
local generations = require "spec.support.generations"
local generation_server = require "spec.support.generation_server"

describe("An AUTH that fails", function()
  local server, redis

  after_each(function()
    redis:close { drain = 0 }
    server:stop()
  end)

  local function start(generation)
    server = generation_server.start(generation, { users = { bob = { password = "right" } } })
    redis = redio.Redis(server.url, { timeout = 1, retry = false })
  end

  -- The outcome: "AuthError", or "refused" when it was not sent.
  local function outcome_of(fn)
    local ok, err = pcall(fn)
    assert.is_false(ok)
    return redio.errors.is(err) and err.kind or "refused"
  end

  for _, generation in ipairs(generations.list) do
    if generation:has_users() then
      it("is told right behind the login, and leaves the handle usable: " .. generation.name, function()
        start(generation)
        check.within(5, function()
          local db = redis:connection()
          assert.equal("AuthError", outcome_of(function() db:auth("bob", "wrong"):await() end))
          assert.equal("mine", (db:echo "mine":await()))
          db:auth("bob", "right"):await()
          assert.equal("mine", (db:echo "mine":await()))
          db:close()
        end)
      end)

      it("is told in a chain, or refused there, and takes no other's reply: " .. generation.name, function()
        start(generation)
        check.within(5, function()
          local db = redis:connection()
          db:echo "0":await()
          local outcome = outcome_of(function() db:echo "a":auth("bob", "wrong"):echo "b":await() end)
          assert.is_true(outcome == "AuthError" or outcome == "refused", outcome)
          db:clear()
          assert.equal("mine", (db:echo "mine":await()))
          db:close()
        end)
      end)

      it("by HELLO is the same, and HELLO without AUTH may stand anywhere: " .. generation.name, function()
        start(generation)
        check.within(5, function()
          local db = redis:connection()
          assert.equal("AuthError", outcome_of(function() db:hello(3, { auth = { "bob", "wrong" } }):await() end))
          assert.equal("mine", (db:echo "mine":await()))
          for _, send in ipairs {
            function() db:echo "a":hello(3, "AUTH", "bob", "wrong") end,
            function() db:echo "a":call("HELLO 3 auth bob wrong") end,
            function() db:echo "a":hello(3, { auth = { "bob", "wrong" } }) end,
            function() db:multi():auth("bob", "wrong") end,
          } do
            assert.equal("refused", outcome_of(send))
            db:clear()
          end
          assert.equal("b", (select(3, db:echo "a":hello(3):echo "b":await())))
          db:close()
        end)
      end)
    end
  end
end)
