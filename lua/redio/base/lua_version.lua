-- SPDX-License-Identifier: MIT
-- What differs between Lua 5.3, 5.4, 5.5 and LuaJIT, found by looking for the feature itself. No other file
-- asks which Lua it runs on.

local core = require "redio.core"

local rawget = rawget
local floor = math.floor

local M = {}

local EXACT = 2 ^ 53 -- every integer up to here is a float, too

---@type fun(list: table, first?: integer, last?: integer): ...
M.unpack = rawget(table, "unpack") or rawget(_G, "unpack")

---@type fun(...): table  the arguments as a list, and their number as `n`
M.pack = rawget(table, "pack") or function(...)
  return { n = select("#", ...), ... }
end

--- Whether `local x <close>` is there.
---@type boolean
M.has_close = load "local x <close> = nil" ~= nil

--- Ends a coroutine that is suspended or has ended, and closes its variables (5.4); nil where there is no such thing.
---@type (fun(co: thread): boolean, any)?
M.close_coroutine = rawget(coroutine, "close")

--- Calls `fn(...)`. When the running coroutine is closed meanwhile (`close_coroutine`), `__close` of the value's
--- metatable is called; where that can happen, also when `fn` returns.
---@type fun(value: any, fn: function, ...): ...
M.when_closed = M.close_coroutine and load([[
  return function(value, fn, ...)
    local closing <close> = value
    return fn(...)
  end
]], "=redio.compat")() or function(_, fn, ...)
  return fn(...)
end

local function closed(value, ok, ...)
  getmetatable(value).__close(value)
  if not ok then error((...), 0) end
  return ...
end

local function call_and_close(value, fn, ...)
  return closed(value, pcall(fn, ...))
end

--- Calls `fn(...)`, and then `__close` of the value's metatable, whatever happens, perhaps twice. (An error that ends a
--- coroutine does not close its variables.)
---@param value any
---@param fn function
---@return any ... what fn returned
function M.with_close(value, fn, ...)
  return M.when_closed(value, call_and_close, value, fn, ...)
end

local math_type = rawget(math, "type")

--- Whether `n` is a number without a fraction that is known exactly: an integer, or a float within 2^53.
---@param n any
---@return boolean
function M.is_integer(n)
  if type(n) ~= "number" then return false end
  if math_type and math_type(n) == "integer" then return true end
  return n >= -EXACT and n <= EXACT and floor(n) == n
end

--- Whether the running coroutine may yield (5.3, LuaJIT 2.1; not everywhere, as nginx has a table of its own).
---@type fun(): boolean
M.isyieldable = rawget(coroutine, "isyieldable") or core.isyieldable

local jit = rawget(_G, "jit")

--- `fn`, which is not to become machine code. LuaJIT's of 2022, which Debian 12 has, exchanges a pointer by its lower
--- half in some loops over `pairs`: for those that are run often.
---@generic T: function
---@param fn T
---@return T
function M.interpreted(fn)
  if jit then jit.off(fn) end
  return fn
end

local newproxy = rawget(_G, "newproxy")

--- An object whose collection calls `fn`. Keep it as long as `fn` must not run. An error of `fn` is dropped: it
--- would surface in whatever code the collector happened to interrupt.
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
