-- SPDX-License-Identifier: MIT
-- Sockets, timers and the loop of libuv, through luv.
--
-- luv calls back on the coroutine that loaded it, and an error that escapes a callback ends the process: nothing that
-- is called from here may raise.

local connecting = require "redio.transport.luv_connect"
local core = require "redio.core"
local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"
local uv = require "redio.transport.uv"

core.ignore_sigpipe() -- libuv writes without MSG_NOSIGNAL

local M = { name = "luv", native_tls = false }

local reasons = {
  ECONNREFUSED = "connection refused",
  ECONNRESET = "connection reset by peer",
  EHOSTUNREACH = "no route to host",
  ENETUNREACH = "network is unreachable",
  ETIMEDOUT = "connection timed out",
  EPIPE = "broken pipe",
  ENOENT = "no such file or directory",
  EACCES = "permission denied",
  EMFILE = "too many open files",
  EAI_NONAME = "name not known",
  EAI_AGAIN = "name server does not answer",
  EAI_FAIL = "name server failed",
  EAI_NODATA = "name has no address",
}

local function reason(err)
  local code = tostring(err):match "^[%u%d_]+" or ""
  return reasons[code] and (reasons[code] .. " (" .. code .. ")") or tostring(err)
end

--- Seconds on a clock that only goes forward.
function M.now()
  return uv.hrtime() / 1e9
end

local process = uv.os_getpid()
local shares_list = true -- with whom it may be that forked

--- Whether this is the child of a process that had the loop: its sockets, and the kernel's list of them, are the
--- parent's, and nothing may touch them here.
function M.is_forked()
  if uv.os_getpid() == process then return false end
  if shares_list then
    shares_list = false
    core.leave_epoll(uv.backend_fd())
  end
  return true
end

-- A child that leaves closes its sockets, and so takes them off the list that the parent still needs. Finalizers run
-- in reverse order, so what is made right after a handle runs before it goes.
local guards = setmetatable({}, { __mode = "k" })

local function guard(handle)
  guards[handle] = lua_version.finalizer(M.is_forked)
  return handle
end

-- Neovim runs the loop from C, which luv does not notice.
local neovim = rawget(_G, "vim")
local in_neovim_loop = type(neovim) == "table" and neovim.in_fast_event or function()
  return false
end

--- Whether the loop is running, so that nobody may run it once more. Another host that runs it from C puts a function
--- of its own here.
function M.in_loop()
  return uv.loop_mode() ~= nil or in_neovim_loop()
end

-- A handle that is closing when the Lua state is closed crashes luv 1.44, and a program may say os.exit(0, true) in any
-- callback. So handles are closed where the loop finishes that at once, with nobody's code between: in its check phase.
local doomed, is_doomed = {}, {}
local sweeper, wakeful -- a check handle, and an idle one by which the loop comes to it without blocking

local function is_open(handle)
  if is_doomed[handle] then return false end
  -- one that somebody else has closed (uv.walk) is no handle any more, and says so by an error
  local ok, closing = pcall(handle.is_closing, handle)
  return ok and not closing
end

local function sweep()
  sweeper:stop()
  wakeful:stop()
  local list = doomed
  doomed, is_doomed = {}, {}
  for i = 1, #list do
    if is_open(list[i]) then list[i]:close() end
  end
end

local function start_sweeper()
  sweeper = sweeper or uv.new_check()
  wakeful = wakeful or uv.new_idle()
  sweeper:start(sweep)
  wakeful:start(function() end)
end

--- `quiet` is the method by which it stops calling back until then.
local function close(handle, quiet)
  if not handle or not is_open(handle) then return end
  if quiet then handle[quiet](handle) end
  is_doomed[handle] = true
  doomed[#doomed + 1] = handle
  if #doomed == 1 then pcall(start_sweeper) end -- (fails while the Lua state is being closed, which closes all)
end

-- Milliseconds: what any luv takes, as an integer of Lua's; on some LuaJITs these have 32 bits.
local LONGEST = 0x7fffffff

-- By timers of the longest kind one after the other; for ever, when there is no end to `ms`.
local function start_long_timer(timer, ms, fn)
  local left = ms
  local function step()
    if left <= 0 then
      close(timer, "stop")
      return fn()
    end
    local part = math.min(left, LONGEST)
    left = left - part
    timer:start(part, 0, step)
  end
  step()
end

--- Calls `fn` once, `seconds` from now: any number of them from 0 on, math.huge among them.
---@return table timer for `stop_timer`
function M.start_timer(seconds, fn)
  local timer = uv.new_timer()
  -- From now on, and not from when the loop last looked at its clock. To have it look (uv.update_time) would make
  -- timers due that another's callback has only just started: with many of them the loop never comes to its sockets.
  local late = uv.hrtime() / 1e6 - uv.now()
  local ms = math.ceil(seconds * 1000.0 + late) -- (of an integer 1000 times as much may be less than nothing)
  if ms > LONGEST then
    start_long_timer(timer, ms, fn)
    return timer
  end
  timer:start(ms, 0, function()
    close(timer, "stop")
    fn()
  end)
  return timer
end

function M.stop_timer(timer)
  close(timer, "stop")
end

--- Whether a timer alone keeps the loop running.
function M.timer_counts(timer, counts)
  if not is_open(timer) then return end
  if counts then timer:ref() else timer:unref() end
end

local turn -- an idle handle: while it is active the loop does not block
local pending, pending_count, scheduled = {}, 0, false
-- What finalizers deferred. They run in the middle of anything, under LuaJIT even between a count and what is stored
-- by it: so nobody but they adds to this list.
local collected = {}

local function run_pending()
  turn:stop()
  local list, count = pending, pending_count
  pending, pending_count, scheduled = {}, 0, false
  local late = collected
  collected = {}
  for i = 1, count do
    list[i]()
  end
  local i = 1
  while late[i] do
    late[i]()
    i = i + 1
  end
end

local function schedule()
  if scheduled or (pending_count == 0 and #collected == 0) then return end
  scheduled = true
  if not turn then turn = uv.new_idle() end
  turn:start(run_pending)
end

--- Calls `fn` in the next turn of the loop.
function M.defer(fn)
  pending_count = pending_count + 1
  pending[pending_count] = fn
  schedule()
end

--- The same for a finalizer, which may run in the middle of anything, also while the Lua state is being closed:
--- then `fn` is never called, for luv 1.44 crashes on handles that are closed there.
function M.defer_finalizer(fn)
  collected[#collected + 1] = fn
  if M.in_loop() then schedule() end
end

--- Runs the loop until `done()` is true.
---@return boolean ok false when the loop has nothing left to wait for and `done` is not true
function M.run(done)
  schedule()
  while not done() do
    if not uv.run "once" and not done() then return false end
  end
  M.flush()
  return true
end

--- Outside the loop: lets what was closed go. A handle that is closing when the Lua state is closed crashes luv 1.44.
--- (A coroutine was resumed by the loop, or waits for it: it has been running or will be.)
function M.flush()
  if not M.in_loop() and not lua_version.isyieldable() then uv.run "nowait" end
end

--- Where errors go that nothing awaited, if the program does not say otherwise: to the error output, in Neovim to its
--- messages.
function M.uncaught(err, trace)
  local message = ("redio: uncaught error: %s\n%s"):format(messages.of_error(err), trace)
  if type(neovim) ~= "table" then return io.stderr:write(message, "\n") end
  neovim.schedule(function()
    neovim.notify(message, neovim.log.levels.ERROR)
  end)
end

local AT_ONCE = 64 * 1024

---@class redio.luv.Socket
local Socket = {}
Socket.__index = Socket

local function new_socket(handle)
  return setmetatable({ _handle = handle }, Socket)
end

--- Writes a string or a list of strings, whole and in order.
---@param on_error fun(reason: string) called when a write fails, with every write the same function
function Socket:write(data, on_error)
  local handle = self._handle
  if not is_open(handle) then return end
  -- What is short the kernel nearly always takes at once: then there is no request to be made, and none to be told of.
  if type(data) == "string" and #data <= AT_ONCE then
    local taken = uv.try_write(handle, data)
    if taken == #data then return end
    if taken and taken > 0 then data = data:sub(taken + 1) end
  end
  local callback = self._written
  if not callback then
    callback = function(err)
      if err then self:_cannot_write(reason(err), on_error) end
    end
    self._written = callback
  end
  local ok, err = uv.write(handle, data, callback)
  if not ok then self:_cannot_write(reason(err), on_error) end
end

-- What the peer said before it hung up may not be read yet, and is the better reason: the loop looks for it before
-- the second turn from now.
function Socket:_cannot_write(why, on_error)
  if not is_open(self._handle) then return end
  M.defer(function()
    M.defer(function()
      if is_open(self._handle) then on_error(why) end
    end)
  end)
end

--- Reads from now on.
---@param on_data fun(bytes: string)
---@param on_end fun(reason: string?) the peer has closed (nil), or reading failed
function Socket:read_start(on_data, on_end)
  self._handle:read_start(function(err, bytes)
    if bytes then
      on_data(bytes)
    elseif err then
      on_end(reason(err))
    else
      on_end(nil)
    end
  end)
end

--- Leaves what comes in the kernel until `read_start`.
function Socket:read_stop()
  if is_open(self._handle) then self._handle:read_stop() end
end

--- Bytes written that the kernel has not taken yet.
function Socket:unwritten()
  return is_open(self._handle) and self._handle:get_write_queue_size() or 0
end

--- Whether this socket alone keeps the loop running.
function Socket:counts(counts)
  local handle = self._handle
  if not is_open(handle) then return end
  if counts then handle:ref() else handle:unref() end
end

function Socket:close()
  close(self._handle, "read_stop")
end

M.connect = connecting(uv, {
  new_socket = new_socket, guard = guard, close = close, reason = reason, defer = M.defer, start_timer = M.start_timer,
  stop_timer = M.stop_timer,
})

return M
