-- SPDX-License-Identifier: MIT
-- Differences between Lua 5.3, 5.4, 5.5 and LuaJIT, found by probing for each feature. No other file asks for the
-- version of Lua.

local core = require "redio.core"

local rawget = rawget
local floor = math.floor

local M = {}

local EXACT = 2 ^ 53 -- every integer up to here is a float, too

---@type fun(list: table, first?: integer, last?: integer): ...
M.unpack = rawget(table, "unpack") or rawget(_G, "unpack")

---@type fun(...): table the arguments as a list, with their number as `n`
M.pack = rawget(table, "pack") or function(...)
  return { n = select("#", ...), ... }
end

--- True where Lua has `local x <close>`.
---@type boolean
M.has_close = load "local x <close> = nil" ~= nil

--- Closes a suspended or dead coroutine and its to-be-closed variables; nil before Lua 5.4.
---@type (fun(co: thread): boolean, any)?
M.close_coroutine = rawget(coroutine, "close")

--- Calls `fn(...)`. Calls `__close` of the value's metatable when the running coroutine is closed meanwhile. Where Lua
--- has `close_coroutine`, it also does so when `fn` returns.
---@type fun(value: any, fn: function, ...): ...
M.when_closed = M.close_coroutine and load([[
  return function(value, fn, ...)
    local closing <close> = value
    return fn(...)
  end
]], "=redio.lua_version")() or function(_, fn, ...)
  return fn(...)
end

local jit = rawget(_G, "jit")

--- Returns `fn` with LuaJIT's compiler off for it. The LuaJIT of 2022 in Debian 12 truncates a pointer to 32 bits in
--- some compiled loops over `pairs`. Loops over `pairs` that run often are wrapped in this.
---@generic T: function
---@param fn T
---@return T
function M.interpreted(fn)
  if jit then jit.off(fn) end
  return fn
end

-- (Compiled by that LuaJIT, these two sometimes raise another value than the error.)
local closed = M.interpreted(function(value, ok, ...)
  getmetatable(value).__close(value)
  if not ok then error((...), 0) end
  return ...
end)

local call_and_close = M.interpreted(function(value, fn, ...)
  return closed(value, pcall(fn, ...))
end)

--- Calls `fn(...)`, then `__close` of the value's metatable, perhaps twice: also after an error, and when the coroutine
--- is closed. (An error that ends a coroutine does not close its variables.)
---@param value any
---@param fn function
---@return any ... the results of fn
function M.with_close(value, fn, ...)
  return M.when_closed(value, call_and_close, value, fn, ...)
end

local math_type = rawget(math, "type")

--- True when `n` is an exact whole number: an integer, or a float without a fraction within 2^53.
---@param n any
---@return boolean
function M.is_integer(n)
  if type(n) ~= "number" then return false end
  if math_type and math_type(n) == "integer" then return true end
  return n >= -EXACT and n <= EXACT and floor(n) == n
end

--- True when the running coroutine may yield. (nginx replaces the table `coroutine` by one without this function.)
---@type fun(): boolean
M.isyieldable = rawget(coroutine, "isyieldable") or core.isyieldable

local newproxy = rawget(_G, "newproxy")

--- Returns an object that calls `fn` when it is collected. An error of `fn` is dropped: it would be raised in any code
--- that the collector happens to interrupt.
---@param fn fun()
---@return any
function M.finalizer(fn)
  local function collect()
    pcall(fn)
  end
  if newproxy then -- LuaJIT calls __gc for userdata only
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = collect
    return proxy
  end
  return setmetatable({}, { __gc = collect })
end

return M
