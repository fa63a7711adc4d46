-- SPDX-License-Identifier: MIT
-- Cosockets, timers and light threads of nginx's Lua module (OpenResty).
--
-- There are no callbacks: each light thread reads and writes its own socket (`pulls`). A socket belongs to the request
-- that opened it, until it is in nginx's pool of idle sockets. nginx does TLS itself.
-- Specs: hosts/nginx

local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"
local timers = require "redio.transport.ngx_timers"

local ngx = rawget(_G, "ngx")

local get_phase, tcp = ngx.get_phase, ngx.socket.tcp
local ceil, max, min = math.ceil, math.max, math.min

local LONGEST = 0x7fffffff -- ms, for "without limit" (0 means "as configured")

local M = { name = "ngx", native_tls = true, pulls = true, tasks = "redio.task.threads" }

local isyieldable = lua_version.isyieldable

--- Seconds, by nginx's cached time.
M.now = ngx.now

--- nginx's loop always runs.
function M.in_loop()
  return true
end

--- Always false: no connection can be made before a worker runs, so a worker inherits none.
function M.is_forked()
  return false
end

function M.flush() end

--- The default for errors that nothing awaits: writes them to nginx's log.
---@param trace string? a traceback
function M.uncaught(err, trace)
  ngx.log(ngx.ERR, "redio: uncaught error: ", messages.of_error(err), trace and "\n" .. trace or "")
end

-- Phases in which Lua code may wait.
local WAITS = { rewrite = true, server_rewrite = true, access = true, content = true, timer = true, preread = true,
  ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true }

--- True in a phase in which Lua code may wait.
function M.may_wait()
  return WAITS[get_phase()] == true
end

--- The error text for a call that cannot wait here. It says why, and what to do instead.
function M.cannot_wait()
  local phase = get_phase()
  if WAITS[phase] then
    return "redio has to wait for the server, and a C function between here and nginx does not allow it (dofile, "
      .. "require, table.sort, string.gsub or the like): ask outside of it"
  end
  return ("redio has to wait for the server, and nginx does not allow it in %s_by_lua*: ask in a phase that may wait "
    .. "(rewrite, access, content) and keep the answer in ngx.ctx, or start a timer by ngx.timer.at(0, fn)"):format(
    phase)
end

--- Writes a warning to nginx's log.
function M.warn(message)
  ngx.log(ngx.WARN, "redio: ", message)
end

-- light threads -------------------------------------------------------------------------------------------

local function context()
  return ngx.ctx
end

--- Identifies the running request or timer. (In nginx a coroutine can serve one after another.)
function M.request()
  local ok, ctx = pcall(context)
  return ok and ctx or nil
end

-- Set of metatables of ngx.ctx that redio has made, as storage.
local storages = setmetatable({}, { __mode = "k" })

--- A table that only the running request or timer refers to, so that its contents live as long. It is not a field of
--- ngx.ctx, because a program may write ngx.ctx as JSON.
function M.storage()
  local ctx = ngx.ctx
  local metatable = getmetatable(ctx)
  if storages[metatable or false] then return metatable end
  if metatable then -- of the program
    ctx[storages] = ctx[storages] or {}
    return ctx[storages]
  end
  metatable = {}
  storages[metatable] = true
  setmetatable(ctx, metatable)
  return metatable
end

--- Waits for some seconds, at least 0.001. (nginx without OpenResty's patches logs a warning for 0.)
function M.sleep(seconds)
  return ngx.sleep(min(LONGEST / 1000, max(seconds, 0.001)))
end

--- Runs `fn(...)` in a new light thread, at once, until it first waits.
function M.spawn(fn, ...)
  return ngx.thread.spawn(fn, ...)
end

--- Ends a light thread where it waits, and closes the socket that it waited for. Only the thread that has started it
--- may do this.
---@return boolean ended
function M.kill(thread)
  return ngx.thread.kill(thread) and true or false
end

--- Calls `fn(premature)` outside of any request, `seconds` from now.
---@return boolean? ok
---@return string? why
function M.apart(seconds, fn)
  return ngx.timer.at(seconds, fn)
end

M.start_timer, M.stop_timer, M.catch_up = timers.start_timer, timers.stop_timer, timers.catch_up

--- True when the worker exits as soon as it has nothing left to do.
M.is_leaving = ngx.worker.exiting

--- Frees a light thread that has ended. Otherwise it stays until its parent ends. Only the parent may do this.
function M.reap(thread)
  ngx.thread.wait(thread)
end

local semaphores

--- A semaphore for two light threads: `wait(seconds)` returns true when the other one has called `post()`.
function M.semaphore()
  semaphores = semaphores or require "ngx.semaphore"
  return semaphores.new(0)
end

-- sockets -------------------------------------------------------------------------------------------------

local function milliseconds(seconds)
  if not seconds then return LONGEST end
  return min(LONGEST, max(1, ceil(seconds * 1000 - 0.001)))
end

-- The address of the running request, which no other live request has.
local get_request = require "resty.core.base".get_request

---@class redio.ngx.Socket
---@field reused boolean true when it comes from nginx's pool
local Socket = {}
Socket.__index = Socket

--- Sets the timeouts of each write and each read; nil or false: none.
function Socket:limit(write_seconds, read_seconds)
  local ms = milliseconds(write_seconds)
  self._sock:settimeouts(ms, ms, milliseconds(read_seconds))
end

--- Writes a string or a list of strings, whole.
---@return boolean? ok
---@return string? reason "timeout" when time ran out
function Socket:send(data)
  local sent, why = self._sock:send(data)
  return sent ~= nil, why
end

-- More than one read of nginx returns, which lua_socket_buffer_size bounds.
local MOST = 1024 * 1024

--- Waits for bytes.
---@return string? bytes
---@return string? reason "timeout" when time ran out; then it may be tried again
function Socket:receive()
  return self._sock:receiveany(MOST)
end

--- Puts the socket into nginx's pool, for at most some seconds.
---@return boolean kept false when it is closed instead
function Socket:keep(seconds)
  local sock = self._sock
  self._sock = nil
  if sock:setkeepalive(seconds * 1000) then return true end
  sock:close()
  return false
end

--- True when the socket is closed: by `close`, with its request, or with a light thread that ended while it read.
function Socket:is_gone()
  if not self._sock then return true end
  local ok, times = pcall(self._sock.getreusedtimes, self._sock)
  return ok and times == nil
end

--- True when the socket belongs to the running request. (A new request may have the address of one that is over, but
--- the socket of that one is closed.)
function Socket:is_ours()
  return self._request == get_request() and not self:is_gone()
end

--- Closes the socket. Fails while another light thread reads or writes.
---@return boolean closed
function Socket:close()
  local ok, closed = pcall(self._sock.close, self._sock)
  return ok and closed ~= nil
end

-- connecting ----------------------------------------------------------------------------------------------

-- The text for a failed handshake. nginx's text about a certificate begins with OpenSSL's error number.
local function reason_of_tls(why)
  if why == "timeout" then return why end
  local number = tonumber(why:match "^(%d+):")
  local untrusted = number == 2 or (number and number >= 18 and number <= 21)
  return "TLS: " .. why .. (untrusted and " (nginx trusts what lua_ssl_trusted_certificate says)" or "")
end

local function read_file(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local bytes = file:read "*a"
  file:close()
  return bytes
end

-- settings.tls -> {certificates, key}, as setclientcert takes them
local pairs_of_keys = setmetatable({}, { __mode = "k" })

local function own_certificate(tls)
  local found = pairs_of_keys[tls]
  if found or not tls.cert then return found end
  local ssl = require "ngx.ssl"
  local pem, why = read_file(tls.cert)
  local key_pem = pem
  if pem and tls.key then key_pem, why = read_file(tls.key) end
  if not key_pem then return nil, why end
  local certificates, key
  certificates, why = ssl.parse_pem_cert(pem)
  if certificates then key, why = ssl.parse_pem_priv_key(key_pem) end
  if not key then return nil, why end
  found = { certificates, key }
  pairs_of_keys[tls] = found
  return found
end

local function secure(sock, settings)
  local tls = settings.tls
  local own, why = own_certificate(tls)
  if why then return nil, "TLS: " .. why end
  if own then sock:setclientcert(own[1], own[2]) end
  local ok
  ok, why = sock:sslhandshake(false, tls.server_name or settings.host, tls.verify)
  if ok == nil then return nil, reason_of_tls(why) end
  return true
end

--- The error text for a setting that nginx cannot fulfil; nil without one.
---@return string?
function M.refuses(settings)
  local tls = settings.tls
  if tls and tls.ca then
    return "option 'tls.ca': in nginx the authorities are those of the directive lua_ssl_trusted_certificate"
  end
  if tls and tls.min_version ~= "1.2" then
    return "option 'tls.min_version': in nginx the versions are those of the directive lua_ssl_protocols"
  end
end

-- localhost needs no name server.
local LOOPBACK = { "127.0.0.1", "[::1]" }

local function addresses_of(settings)
  if settings.path then return { "unix:" .. settings.path } end
  local host = settings.host
  if host:lower() == "localhost" then return LOOPBACK end
  return { host:find(":", 1, true) and "[" .. host .. "]" or host }
end

-- Keeps the values that are the same for all sockets of these settings.
local function prepare(settings)
  local prepared = {
    addresses = addresses_of(settings),
    connect = milliseconds(settings.connect_timeout),
    write = milliseconds(settings.write_timeout),
    read = milliseconds(settings.read_timeout),
  }
  settings._prepared = prepared
  return prepared
end

-- Makes a Socket of a connected cosocket, after the TLS handshake if there is to be one.
local function finish(sock, settings, limit)
  local reused = sock:getreusedtimes() > 0
  if settings.tls and not reused then
    local prepared = settings._prepared
    if limit then sock:settimeouts(milliseconds(limit - ngx.now()), prepared.write, prepared.read) end
    local ok, why = secure(sock, settings)
    if not ok then
      sock:close()
      return nil, why, why ~= "timeout", messages.TLS_STAGE
    end
  end
  return setmetatable({ _sock = sock, _request = get_request(), reused = reused }, Socket)
end

--- A socket of the pool, or a new one, after the TLS handshake if there is to be one.
---@param settings table
---@param pool table {pool=name, pool_size=, backlog=}, as the cosocket's `connect` takes it
---@param seconds number? the time limit
---@return redio.ngx.Socket? socket
---@return string? reason "timeout" when time ran out
---@return boolean? permanent true when the next attempt would fail the same way
---@return string? stage the stage that failed, other than connecting
function M.open(settings, pool, seconds)
  local prepared = settings._prepared or prepare(settings)
  local addresses = prepared.addresses
  local limit, why = settings.tls and seconds and ngx.now() + seconds, nil
  local connect = seconds == settings.connect_timeout and prepared.connect or milliseconds(seconds)
  for i = 1, #addresses do
    local sock = tcp()
    sock:settimeouts(connect, prepared.write, prepared.read)
    local connected
    if settings.path then
      connected, why = sock:connect(addresses[i], pool)
    else
      connected, why = sock:connect(addresses[i], settings.port, pool)
    end
    if connected then return finish(sock, settings, limit) end
    if why == "timeout" then break end
  end
  return nil, why
end

local salt

--- A name for a pool: the same for the same parts, which cannot be read from it.
---@param parts string
---@return string
function M.digest(parts)
  if not salt then
    local file = io.open("/dev/urandom", "rb")
    salt = file and file:read(32) or tostring(math.random()) .. tostring({})
    if file then file:close() end
  end
  return ngx.encode_base64(ngx.hmac_sha1(salt, parts))
end

--- True where Lua allows to yield.
M.can_wait = isyieldable

return M
