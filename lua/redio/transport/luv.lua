-- SPDX-License-Identifier: MIT
-- Sockets, timers and the loop of libuv, through luv.
--
-- luv calls back on the coroutine that loaded it, and an error that escapes a callback ends the process: nothing that
-- is called from here may raise.

local compat = require "redio.compat"
local core = require "redio.core"
local text = require "redio.text"
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
  guards[handle] = compat.finalizer(M.is_forked)
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

--- Calls `fn` once, `seconds` from now.
---@return table timer for `stop_timer`
function M.start_timer(seconds, fn)
  local timer = uv.new_timer()
  -- From now on, and not from when the loop last looked at its clock. To have it look (uv.update_time) would make
  -- timers due that another's callback has only just started: with many of them the loop never comes to its sockets.
  local late = uv.hrtime() / 1e6 - uv.now()
  timer:start(math.ceil(seconds * 1000 + late), 0, function()
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
  if not M.in_loop() and not compat.isyieldable() then uv.run "nowait" end
end

--- Where errors go that nothing awaited, if the program does not say otherwise: to the error output, in Neovim to its
--- messages.
function M.uncaught(err, trace)
  local message = ("redio: uncaught error: %s\n%s"):format(text.of_error(err), trace)
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

---@class redio.luv.Attempt a connection that is being made
local Attempt = {}
Attempt.__index = Attempt

function Attempt:_finish(socket, err)
  local done = self._done
  self._done = nil
  if done then done(socket, err) elseif socket then socket:close() end
end

--- Gives up; `done` is not called any more.
function Attempt:cancel()
  self._done = nil
  close(self._handle)
end

function Attempt:_connected(handle, err)
  self._handle = nil
  if not self._done then return close(handle) end
  if not err then return self:_finish(new_socket(handle)) end
  close(handle)
  self._error = reason(err)
  self:_next()
end

--- Tries the next address of the name.
function Attempt:_next()
  local address = table.remove(self._addresses, 1)
  if not address then return self:_finish(nil, self._error) end
  local handle = guard(uv.new_tcp())
  self._handle = handle
  local ok, err = handle:connect(address, self._port, function(failure)
    if not failure then
      handle:nodelay(true)
      handle:keepalive(true, 60)
    end
    self:_connected(handle, failure)
  end)
  if not ok then self:_connected(handle, err) end
end

local function is_number(host)
  return host:find(":", 1, true) or host:find "^%d+%.%d+%.%d+%.%d+$"
end

function Attempt:_resolve(host)
  if is_number(host) then
    self._addresses = { host }
    return self:_next()
  end
  uv.getaddrinfo(host, nil, { socktype = "stream" }, function(err, found)
    if not self._done then return end
    -- a machine without a hosts file has a loopback all the same (RFC 6761, 6.3)
    if err and host:lower() == "localhost" then err, found = nil, { { addr = "127.0.0.1" }, { addr = "::1" } } end
    if err then return self:_finish(nil, reason(err)) end
    self._addresses = {}
    for i = 1, #found do
      self._addresses[i] = found[i].addr
    end
    self._error = "name has no address"
    self:_next()
  end)
end

function Attempt:_open_path(path)
  local handle = guard(uv.new_pipe(false))
  self._handle = handle
  local _, err = handle:connect(path, function(failure)
    self:_connected(handle, failure)
  end)
  if err then self:_connected(handle, err) end
end

--- Connects to `{host=, port=}`, each address of the name in turn, or to `{path=}`.
---@param address table
---@param done fun(socket: redio.luv.Socket?, reason: string?) called once, never before this returns
---@return redio.luv.Attempt
function M.connect(address, done)
  local attempt = setmetatable({ _done = done, _port = address.port, _addresses = {} }, Attempt)
  M.defer(function()
    if not attempt._done then return end
    local ok, err = pcall(function()
      if address.path then attempt:_open_path(address.path) else attempt:_resolve(address.host) end
    end)
    if not ok then attempt:_finish(nil, tostring(err)) end
  end)
  return attempt
end

return M
