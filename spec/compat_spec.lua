-- SPDX-License-Identifier: MIT

local compat = require "redio.compat"

describe("compat", function()
  it("packs and unpacks, with nils", function()
    local list = compat.pack(1, nil, 3, nil)
    assert.equal(4, list.n)
    assert.equal(4, select("#", compat.unpack(list, 1, list.n)))
    assert.equal(3, (select(3, compat.unpack(list, 1, list.n))))
  end)

  it("knows an integer, however it is kept", function()
    for _, n in ipairs { 0, -1, 2.0, 2 ^ 53, -2 ^ 53 } do
      assert.is_true(compat.is_integer(n))
    end
    for _, n in ipairs { 0.5, 1e300, math.huge, -math.huge, 0 / 0, "1", true } do
      assert.is_false(compat.is_integer(n))
    end
  end)

  it("says whether there are closing variables", function()
    assert.equal(load("local x <close> = nil") ~= nil, compat.has_close)
  end)

  it("closes a value when the function has returned, has raised, or is closed while it waits", function()
    local closed
    local value = setmetatable({}, { __close = function(self) closed = self end })
    assert.are.same({ 1, nil, 3 }, { compat.with_close(value, function(...) return ... end, 1, nil, 3) })
    assert.are.equal(value, closed)
    closed = nil
    local err = {}
    local ok, raised = pcall(compat.with_close, value, error, err)
    assert.is_false(ok)
    assert.are.equal(err, raised)
    assert.are.equal(value, closed)
    closed = nil
    local co = coroutine.create(function() compat.with_close(value, coroutine.yield) end)
    coroutine.resume(co)
    assert.is_nil(closed)
    coroutine.resume(co)
    assert.are.equal(value, closed)
    if not compat.close_coroutine then return end
    for _, call in ipairs { compat.with_close, compat.when_closed } do
      closed = nil
      co = coroutine.create(function() call(value, coroutine.yield) end)
      coroutine.resume(co)
      compat.close_coroutine(co)
      assert.are.equal(value, closed)
    end
  end)

  it("calls a finalizer once its object is gone, and not before", function()
    local calls = 0
    local object = compat.finalizer(function()
      calls = calls + 1
    end)
    collectgarbage()
    assert.equal(0, calls)
    assert.is_not_nil(object)
    object = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(1, calls)
  end)

  it("keeps a finalizer's error away from whoever happens to allocate", function()
    compat.finalizer(function()
      error("in a finalizer")
    end)
    assert.has_no.errors(function()
      collectgarbage()
      collectgarbage()
    end)
  end)
end)
