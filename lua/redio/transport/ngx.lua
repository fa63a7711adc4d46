-- SPDX-License-Identifier: MIT
-- Cosockets, timers and light threads of nginx's Lua module (OpenResty).
--
-- Nothing calls back here: a light thread that waits for the network does it itself (`pulls`). A socket belongs to the
-- request that opened it, until it lies in nginx's pool of idle ones; TLS is nginx's own.

local lua_version = require "redio.base.lua_version"
local messages = require "redio.base.messages"
local timers = require "redio.transport.ngx_timers"

local ngx = rawget(_G, "ngx")

local get_phase, tcp = ngx.get_phase, ngx.socket.tcp
local ceil, max, min = math.ceil, math.max, math.min

local LONGEST = 0x7fffffff -- ms; nginx takes 0 for "as configured"

local M = { name = "ngx", native_tls = true, pulls = true, tasks = "redio.task.threads" }

local isyieldable = lua_version.isyieldable

--- Seconds, by the time at which nginx last woke up.
M.now = ngx.now

--- nginx's own always runs.
function M.in_loop()
  return true
end

--- A worker inherits no connection: none can be made before it runs.
function M.is_forked()
  return false
end

function M.flush() end

--- Where errors go that nothing awaited, if the program does not say otherwise: to nginx's log.
---@param trace string? a traceback
function M.uncaught(err, trace)
  ngx.log(ngx.ERR, "redio: uncaught error: ", messages.of_error(err), trace and "\n" .. trace or "")
end

-- Phases in which nginx lets one wait.
local WAITS = { rewrite = true, server_rewrite = true, access = true, content = true, timer = true, preread = true,
  ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true }

--- Whether nginx lets one wait here.
function M.may_wait()
  return WAITS[get_phase()] == true
end

--- Why nobody can wait here, and what to do instead.
function M.cannot_wait()
  local phase = get_phase()
  if WAITS[phase] then
    return "redio has to wait for the server, and between here and nginx is a C function across which nobody can wait "
      .. "(dofile, require, table.sort, string.gsub or the like): ask outside of it"
  end
  return ("redio has to wait for the server, and nginx lets nobody wait in %s_by_lua*: ask in a phase that may "
    .. "(rewrite, access, content) and keep the answer in ngx.ctx, or start a timer by ngx.timer.at(0, fn)"):format(
    phase)
end

--- A word for nginx's log about what a program may want to know.
function M.warn(message)
  ngx.log(ngx.WARN, "redio: ", message)
end

-- what waits ----------------------------------------------------------------------------------------------

local function context()
  return ngx.ctx
end

--- What stands for the running request or timer: nginx lets coroutines serve one after the other.
function M.request()
  local ok, ctx = pcall(context)
  return ok and ctx or nil
end

-- Whose metatables are of no other use: they hold what lasts as long as a request.
local storages = setmetatable({}, { __mode = "k" })

--- A table that the running request or timer holds, and nothing else: it goes with it, and with all that it refers to.
--- (Not among the fields of ngx.ctx, which a program may well write as JSON.)
function M.storage()
  local ctx = ngx.ctx
  local metatable = getmetatable(ctx)
  if storages[metatable or false] then return metatable end
  if metatable then -- the program's own
    ctx[storages] = ctx[storages] or {}
    return ctx[storages]
  end
  metatable = {}
  storages[metatable] = true
  setmetatable(ctx, metatable)
  return metatable
end

--- Waits for so many seconds. (None at all: nginx without OpenResty's patches warns of that each time.)
function M.sleep(seconds)
  return ngx.sleep(min(LONGEST / 1000, max(seconds, 0.001)))
end

--- Runs `fn(...)` in a light thread of its own, at once, until it first waits.
function M.spawn(fn, ...)
  return ngx.thread.spawn(fn, ...)
end

--- Ends a light thread where it waits; nothing more of it runs, and a socket that it waited for is closed. Only for the
--- thread that has started it.
---@return boolean ended
function M.kill(thread)
  return ngx.thread.kill(thread) and true or false
end

--- Calls `fn(premature)` apart from any request, `seconds` from now.
---@return boolean? ok
---@return string? why not
function M.apart(seconds, fn)
  return ngx.timer.at(seconds, fn)
end

M.start_timer, M.stop_timer, M.catch_up = timers.start_timer, timers.stop_timer, timers.catch_up

--- Whether the worker is to end as soon as nothing is left to do.
M.is_leaving = ngx.worker.exiting

--- Lets go of a light thread that has ended; else it stays until the one that started it ends. Only for him.
function M.reap(thread)
  ngx.thread.wait(thread)
end

local semaphores

--- What one light thread can wait for and another give it: `wait(seconds)` is true when it did, and `post()`.
function M.semaphore()
  semaphores = semaphores or require "ngx.semaphore"
  return semaphores.new(0)
end

-- sockets -------------------------------------------------------------------------------------------------

local function milliseconds(seconds)
  if not seconds then return LONGEST end
  return min(LONGEST, max(1, ceil(seconds * 1000 - 0.001)))
end

-- Where the request is: of all that there are just now no other has the same.
local get_request = require "resty.core.base".get_request

---@class redio.ngx.Socket
---@field reused boolean it comes from nginx's pool
local Socket = {}
Socket.__index = Socket

--- How long each write and each read may take from now on; nil or false: for ever.
function Socket:limit(write_seconds, read_seconds)
  local ms = milliseconds(write_seconds)
  self._sock:settimeouts(ms, ms, milliseconds(read_seconds))
end

--- Writes a string or a list of strings, whole.
---@return boolean? ok
---@return string? reason "timeout" when it took too long
function Socket:send(data)
  local sent, why = self._sock:send(data)
  return sent ~= nil, why
end

-- As much as one read of nginx's own returns: it is bounded by lua_socket_buffer_size.
local MOST = 1024 * 1024

--- Waits for bytes.
---@return string? bytes
---@return string? reason "timeout" when it took too long, after which it may be tried again
function Socket:receive()
  return self._sock:receiveany(MOST)
end

--- Gives it to nginx's pool, for so many seconds at most.
---@return boolean kept else it is closed
function Socket:keep(seconds)
  local sock = self._sock
  self._sock = nil
  if sock:setkeepalive(seconds * 1000) then return true end
  sock:close()
  return false
end

--- Whether it is closed: by `close`, with its request, or with a light thread that was ended while it read.
function Socket:is_gone()
  if not self._sock then return true end
  local ok, times = pcall(self._sock.getreusedtimes, self._sock)
  return ok and times == nil
end

--- Whether it is the running request's. (That of one that is over is closed, though another may be at its place.)
function Socket:is_ours()
  return self._request == get_request() and not self:is_gone()
end

--- Does nothing while another light thread reads or writes.
---@return boolean closed
function Socket:close()
  local ok, closed = pcall(self._sock.close, self._sock)
  return ok and closed ~= nil
end

-- connecting ----------------------------------------------------------------------------------------------

-- What nginx says of a certificate begins with OpenSSL's number of the reason.
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

-- settings.tls -> {certificates, key}, as nginx takes them
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

--- What nginx cannot do of what the settings ask for, in words.
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

-- A name of the machine itself needs no name server.
local LOOPBACK = { "127.0.0.1", "[::1]" }

local function addresses_of(settings)
  if settings.path then return { "unix:" .. settings.path } end
  local host = settings.host
  if host:lower() == "localhost" then return LOOPBACK end
  return { host:find(":", 1, true) and "[" .. host .. "]" or host }
end

local function connect_to(sock, address, settings, pool)
  if settings.path then return sock:connect(address, pool) end
  return sock:connect(address, settings.port, pool)
end

-- What stays the same for all sockets of these settings.
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

local function set_limits(sock, settings, prepared, seconds)
  local connect = seconds == settings.connect_timeout and prepared.connect or milliseconds(seconds)
  sock:settimeouts(connect, prepared.write, prepared.read)
end

-- What is connected, shaken hands with where that is still to be done.
local function finish(sock, settings, limit)
  local reused = sock:getreusedtimes() > 0
  if settings.tls and not reused then
    if limit then set_limits(sock, settings, settings._prepared, limit - ngx.now()) end
    local ok, why = secure(sock, settings)
    if not ok then
      sock:close()
      return nil, why, why ~= "timeout", "in the TLS handshake (is it a port for TLS?)"
    end
  end
  return setmetatable({ _sock = sock, _request = get_request(), reused = reused }, Socket)
end

--- A socket of the pool, or a new one, which has shaken hands where TLS is wanted.
---@param settings table
---@param pool table {pool=name, pool_size=, backlog=}, as the cosocket's `connect` takes it
---@param seconds number? how long it may take
---@return redio.ngx.Socket? socket
---@return string? reason "timeout" when time ran out
---@return boolean? permanent the next attempt would end the same way
---@return string? stage at what it ended, if not at connecting
function M.open(settings, pool, seconds)
  local prepared = settings._prepared or prepare(settings)
  local addresses = prepared.addresses
  local limit, why = settings.tls and seconds and ngx.now() + seconds, nil
  for i = 1, #addresses do
    local sock = tcp()
    set_limits(sock, settings, prepared, seconds)
    local connected
    connected, why = connect_to(sock, addresses[i], settings, pool)
    if connected then return finish(sock, settings, limit) end
    if why == "timeout" then break end
  end
  return nil, why
end

local salt

--- Names for pools: the same for the same parts, and nothing of them can be read from it.
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

--- Whether one could wait here, as far as Lua itself knows.
M.can_wait = isyieldable

return M
