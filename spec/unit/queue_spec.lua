-- SPDX-License-Identifier: MIT
-- base/queue.lua: the queue beside a plain list, at random.

local queue = require "redio.base.queue"
local random = require "spec.support.random".new "queue"

describe("A queue", function()
  local function list_of(q)
    local items = {}
    q:drain(function(item) items[#items + 1] = item end)
    return items
  end

  it("is first in, first out", function()
    local q = queue.new()
    for i = 1, 3 do
      q:push(i)
    end
    assert.are.equal(1, q:peek())
    assert.are.same({ 1, 3, 2 }, { q:pop(), q:pop_last(), q:pop() })
    assert.is_nil(q:pop())
    assert.is_nil(q:pop_last())
    assert.is_nil(q:peek())
    assert.are.equal(0, q:count())
  end)

  it("takes what comes while it is drained for the next time", function()
    local q, seen = queue.new(), {}
    q:push "a"
    q:drain(function(item)
      seen[#seen + 1] = item
      if #seen < 3 then q:push(item .. "a") end
    end)
    assert.are.same({ "a" }, seen)
    assert.are.same({ "aa" }, list_of(q))
  end)

  it("knows what has left, and what was never there", function()
    local q, a, b = queue.new(), {}, {}
    assert.is_false(q:leave(a))
    q:enter(a)
    q:enter(b)
    assert.is_true(q:leave(a))
    assert.is_false(q:leave(a))
    assert.are.equal(b, q:pop())
    assert.is_false(q:leave(b))
    q:enter(a)
    assert.are.equal(a, q:peek())
    assert.is_false(q:leave(b))
    assert.are.same({ a }, list_of(q))
  end)

  it("does as a list does", function()
    for _ = 1, 200 do
      local q, list, out = queue.new(), {}, {}
      for _ = 1, random(200) do
        local what = random(10)
        if what <= 4 then
          local item = table.remove(out) or {}
          q:enter(item)
          list[#list + 1] = item
        elseif what <= 7 and #list > 0 then
          local item = table.remove(list, random(#list))
          assert.is_true(q:leave(item))
          out[#out + 1] = item
        elseif what == 8 then
          local item = table.remove(list, 1)
          assert.are.equal(item, q:pop())
          out[#out + 1] = item
        elseif what == 9 then
          local item = table.remove(list)
          assert.are.equal(item, q:pop_last())
          out[#out + 1] = item
        elseif #out > 0 then
          assert.is_false(q:leave(random(out)))
        end
        assert.are.equal(#list, q:count())
        assert.are.equal(list[1], q:peek())
      end
      local rest = list_of(q)
      assert.are.equal(#list, #rest)
      for i = 1, #list do
        assert.are.equal(list[i], rest[i])
      end
      assert.are.equal(0, q:count())
    end
  end)
end)
