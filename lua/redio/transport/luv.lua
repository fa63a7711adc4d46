-- SPDX-License-Identifier: MIT
-- Sockets, timers and the loop of libuv, through luv.
--
-- luv runs callbacks on the coroutine that loaded it. An error that escapes a callback ends the process, so nothing
-- that is called from here may raise.
-- Specs: hosts/transport, promises/23, regress/first_in_coroutine

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
local shares_epoll = true -- until `is_forked` has seen a fork

--- True in a forked child of the process that made the loop. The sockets and the epoll set are shared with the parent,
--- and the child must not touch them.
function M.is_forked()
  if uv.os_getpid() == process then return false end
  if shares_epoll then
    shares_epoll = false
    core.leave_epoll(uv.backend_fd())
  end
  return true
end

-- A child that exits closes its sockets, which would remove them from the parent's epoll set. This finalizer prevents
-- that. Finalizers run in reverse order of creation, so one that is made right after a handle runs before the handle's.
local guards = setmetatable({}, { __mode = "k" })

local function guard(handle)
  guards[handle] = lua_version.finalizer(M.is_forked)
  return handle
end

-- Neovim runs the loop from C, where uv.loop_mode() is nil.
local neovim = rawget(_G, "vim")
local in_neovim_loop = type(neovim) == "table" and neovim.in_fast_event or function()
  return false
end

--- True while the loop is running, so that it must not be run again. Another host that runs the loop from C assigns a
--- function of its own here.
function M.in_loop()
  return uv.loop_mode() ~= nil or in_neovim_loop()
end

-- luv 1.44 crashes when the Lua state is closed while a handle is closing, and a program may call os.exit(0, true) in
-- any callback. So handles are closed in the loop's check phase: the loop finishes that at once, before any callback
-- runs.
local doomed, is_doomed = {}, {}
local sweeper, wakeful -- a check handle, and an idle handle that keeps the loop from blocking before it

local function is_open(handle)
  if is_doomed[handle] then return false end
  -- A handle that the program has closed (by uv.walk) raises an error here.
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

-- Closes a handle in the check phase. `quiet` is the method that stops its callbacks until then.
local function close(handle, quiet)
  if not handle or not is_open(handle) then return end
  if quiet then handle[quiet](handle) end
  is_doomed[handle] = true
  doomed[#doomed + 1] = handle
  if #doomed == 1 then pcall(start_sweeper) end -- (fails while the Lua state is being closed, which closes all handles)
end

-- Milliseconds of the longest timer: integers of some LuaJITs have 32 bits.
local LONGEST = 0x7fffffff

-- Starts a longer timer as a series of timers, without end when `ms` is infinite.
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

--- Calls `fn` once, `seconds` from now: a number from 0 to math.huge.
---@return table timer for `stop_timer`
function M.start_timer(seconds, fn)
  local timer = uv.new_timer()
  -- libuv counts from the loop's cached time, which may be old. uv.update_time is no remedy: timers that another
  -- callback has just started would be due at once, and with many of them the loop never gets to its sockets.
  local late = uv.hrtime() / 1e6 - uv.now()
  local ms = math.ceil(seconds * 1000.0 + late) -- (1000.0, as an integer could overflow)
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

--- Sets whether a timer keeps the loop running.
function M.timer_counts(timer, counts)
  if not is_open(timer) then return end
  if counts then timer:ref() else timer:unref() end
end

local turn -- an idle handle: while it is active the loop does not block
local pending, pending_count, scheduled = {}, 0, false
-- Functions that finalizers have deferred. Finalizers run in the middle of any code, under LuaJIT even between the
-- increment of `pending_count` and the store. So they have a list of their own.
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

--- The same for a finalizer, which may run in the middle of any code. While the Lua state is being closed `fn` is never
--- called, because luv 1.44 crashes when handles are closed there.
function M.defer_finalizer(fn)
  collected[#collected + 1] = fn
  if M.in_loop() then schedule() end
end

--- Runs the loop until `done()` is true.
---@return boolean ok false when the loop has nothing left to wait for and `done()` is still false
function M.run(done)
  schedule()
  while not done() do
    if not uv.run "once" and not done() then return false end
  end
  M.flush()
  return true
end

--- Outside of the loop: finishes the closing of handles, because luv 1.44 crashes when the Lua state is closed before
--- that. Not needed in a coroutine, which only runs when the loop does.
function M.flush()
  if not M.in_loop() and not lua_version.isyieldable() then uv.run "nowait" end
end

--- The default for errors that nothing awaits: writes them to the error output, in Neovim to its messages.
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
---@param on_error fun(reason: string) called when a write fails; must be the same function at every write
function Socket:write(data, on_error)
  local handle = self._handle
  if not is_open(handle) then return end
  -- The kernel takes short data at once nearly always. Then no write request and no callback are needed.
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

-- Reports a failed write two turns of the loop later. The peer may have sent a reason before it closed the connection,
-- which is then read first.
function Socket:_cannot_write(why, on_error)
  if not is_open(self._handle) then return end
  M.defer(function()
    M.defer(function()
      if is_open(self._handle) then on_error(why) end
    end)
  end)
end

--- Starts to read.
---@param on_data fun(bytes: string)
---@param on_end fun(reason: string?) nil when the peer has closed
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

--- Stops reading until `read_start`. Incoming bytes stay in the kernel.
function Socket:read_stop()
  if is_open(self._handle) then self._handle:read_stop() end
end

--- The number of written bytes that the kernel has not taken yet.
function Socket:unwritten()
  return is_open(self._handle) and self._handle:get_write_queue_size() or 0
end

--- Sets whether this socket keeps the loop running.
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
