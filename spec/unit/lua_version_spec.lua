-- SPDX-License-Identifier: MIT
-- base/lua_version.lua: the differences between Luas are hidden.

local lua_version = require "redio.base.lua_version"

describe("lua_version", function()
  it("packs and unpacks, with nils", function()
    local list = lua_version.pack(1, nil, 3, nil)
    assert.equal(4, list.n)
    assert.equal(4, select("#", lua_version.unpack(list, 1, list.n)))
    assert.equal(3, (select(3, lua_version.unpack(list, 1, list.n))))
  end)

  it("knows an integer, however it is kept", function()
    for _, n in ipairs { 0, -1, 2.0, 2 ^ 53, -2 ^ 53 } do
      assert.is_true(lua_version.is_integer(n))
    end
    for _, n in ipairs { 0.5, 1e300, math.huge, -math.huge, 0 / 0, "1", true } do
      assert.is_false(lua_version.is_integer(n))
    end
  end)

  it("says whether there are closing variables", function()
    assert.equal(load("local x <close> = nil") ~= nil, lua_version.has_close)
  end)

  it("closes a value when the function has returned, has raised, or is closed while it waits", function()
    local closed
    local value = setmetatable({}, { __close = function(self) closed = self end })
    assert.are.same({ 1, nil, 3 }, { lua_version.with_close(value, function(...) return ... end, 1, nil, 3) })
    assert.are.equal(value, closed)
    closed = nil
    local err = {}
    local ok, raised = pcall(lua_version.with_close, value, error, err)
    assert.is_false(ok)
    assert.are.equal(err, raised)
    assert.are.equal(value, closed)
    closed = nil
    local co = coroutine.create(function() lua_version.with_close(value, coroutine.yield) end)
    coroutine.resume(co)
    assert.is_nil(closed)
    coroutine.resume(co)
    assert.are.equal(value, closed)
    if not lua_version.close_coroutine then return end
    for _, call in ipairs { lua_version.with_close, lua_version.when_closed } do
      closed = nil
      co = coroutine.create(function() call(value, coroutine.yield) end)
      coroutine.resume(co)
      lua_version.close_coroutine(co)
      assert.are.equal(value, closed)
    end
  end)

  it("calls a finalizer once its object is gone, and not before", function()
    local calls = 0
    local object = lua_version.finalizer(function()
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

  it("keeps a finalizer's error away from the code that happens to allocate", function()
    lua_version.finalizer(function()
      error("in a finalizer")
    end)
    assert.has_no.errors(function()
      collectgarbage()
      collectgarbage()
    end)
  end)
end)
