-- SPDX-License-Identifier: MIT
-- A socket with TLS over one without. It has the same methods, with plaintext on this side of them. It serves
-- transports that have no TLS of their own. redio.tls is loaded with the first client that asks for TLS.

local M = {}

local CHUNK = 16 * 1024 -- of plaintext at once: what a record holds

local tls -- redio.tls, once it is needed

-- settings.tls -> its context: the files are read once.
local contexts = setmetatable({}, { __mode = "k" })

---@class redio.TlsSocket
local Socket = {}
Socket.__index = Socket

--- Loads redio.tls.
---@return boolean? ok
---@return string? why it is not there
function M.load()
  if tls then return true end
  local ok, found = pcall(require, "redio.tls")
  if ok then
    tls = found
    return true
  end
  found = tostring(found)
  local missing = found:find("module 'redio.tls' not found", 1, true)
  local detail = missing and "build redio where the headers of OpenSSL are" or found:gsub("%s*\n%s*", " ")
  return nil, "TLS is not built into this redio: " .. detail
end

local function context_of(settings)
  local context, why = contexts[settings], nil
  if not context then
    context, why = tls.context(settings)
    contexts[settings] = context
  end
  return context, why
end

local function new_engine(settings)
  local ok, why = M.load()
  if not ok then return nil, why end
  local context
  context, why = context_of(settings.tls)
  if not context then return nil, "TLS: " .. why end
  return tls.engine(context, settings.tls.server_name or settings.host)
end

-- The loop keeps these callbacks. An idle socket must not live by them; during the handshake they may be all that holds
-- it.
local function make_callbacks(self)
  local weak, hold = setmetatable({ self = self }, { __mode = "v" }), { self = self }
  self._hold = hold
  local function guarded(step)
    return function(...)
      local socket = hold.self or weak.self
      if not socket or socket._closed then return end
      local ok, err = pcall(step, socket, ...)
      if not ok then socket:_end(tostring(err)) end -- memory is out
    end
  end
  self._received = guarded(self._receive)
  self._ended = guarded(self._receive_end)
  self._write_failed = guarded(self._fail_write)
  self._go_on = guarded(self._deliver)
end

--- Puts TLS over a socket of the transport.
---@param socket table connected
---@param settings table with tls and host
---@param done fun(secured: redio.TlsSocket?, reason: string?) called once, when the handshake is over, and never after
--- close(). It is called before `wrap` returns only when the socket below fails at once.
---@param transport table for its defer()
---@return redio.TlsSocket secured the one that `done` gets; data written to it before then waits for the handshake
function M.wrap(socket, settings, done, transport)
  local self = setmetatable({
    _socket = socket,
    _transport = transport,
    _done = done,
    _open = false, -- the handshake is done
    _reading = false, -- the socket below is
    _unread = false, -- plaintext may wait in the engine
    _early = {}, -- written before the handshake was done
    _early_bytes = 0,
  }, Socket)
  make_callbacks(self)
  local engine, why = new_engine(settings)
  if engine then
    self._engine = engine
    self._reading = true
    socket:read_start(self._received, self._ended)
    self:_shake_hands()
  else
    transport.defer(function()
      self:_settle(false, why)
    end)
  end
  return self
end

-- The handshake is over.
function Socket:_settle(ok, reason, certain)
  local done = self._done
  self._hold.self, self._done = nil, nil
  if not ok then self:close() end
  if done then done(ok and self or nil, reason, certain) end
end

function Socket:_shake_hands()
  local ok, why = self._engine:handshake()
  self:_send()
  if ok == false or self._closed then return end
  if not ok then return self:_settle(false, why, true) end
  self._open = true
  local early = self._early
  self._early, self._early_bytes = nil, 0
  for i = 1, #early do
    self:_encrypt(early[i])
  end
  self:_send()
  self:_settle(true)
end

-- reading -------------------------------------------------------------------------------------------------

function Socket:_receive(bytes)
  local ok, why = self._engine:feed(bytes)
  if not ok then return self:_end(why, true) end
  if not self._open then
    self:_shake_hands()
    if not self._open or self._closed then return end
  end
  self:_deliver()
end

function Socket:_receive_end(reason)
  self._eof, self._eof_reason = true, reason
  if self._open then return self:_deliver() end
  local why
  if reason then
    why = "TLS handshake failed: " .. reason
  else
    why = select(2, self._engine:finish())
  end
  self:_end(why, true)
end

-- Hands over the engine's plaintext while the owner reads.
function Socket:_deliver()
  if self._delivering then return end
  self._delivering = true
  while self._on_data do
    local data, why = self._engine:read()
    if not data then
      self._delivering, self._unread = false, false
      return self:_read_all(data, why)
    end
    self._on_data(data)
  end
  self._delivering, self._unread = false, true
  if not self._closed then self:_pause() end
end

-- The engine has no more: for now (false), or for ever.
function Socket:_read_all(more, why)
  self:_send() -- answers of the protocol's own: to a KeyUpdate, or an alert
  if more == nil then return self:_end(why, true) end
  if not self._eof then return end
  if self._eof_reason then return self:_end(self._eof_reason) end
  self:_end(select(2, self._engine:finish()))
end

-- The stream has ended. `certain`: TLS itself failed, and would fail again.
function Socket:_end(reason, certain)
  if self._closed then return end
  if not self._open then return self:_settle(false, reason, certain) end
  local on_end = self._on_end
  self._on_data, self._on_end = nil, nil
  self:_pause()
  if on_end then on_end(reason, certain) end
end

function Socket:_pause()
  if not self._reading then return end
  self._reading = false
  self._socket:read_stop()
end

--- Reads from now on.
---@param on_data fun(bytes: string)
---@param on_end fun(reason: string?, certain: boolean?) the peer has said that it ends (nil), or reading failed;
--- `certain` when TLS itself failed, and the next attempt would end the same way
function Socket:read_start(on_data, on_end)
  if self._closed then return end
  self._on_data, self._on_end = on_data, on_end
  if not self._reading and not self._eof then
    self._reading = true
    self._socket:read_start(self._received, self._ended)
  end
  if self._unread and not self._delivering then self._transport.defer(self._go_on) end
end

--- Leaves incoming bytes to the network until `read_start`.
function Socket:read_stop()
  self._on_data = nil
  if self._open then self:_pause() end
end

-- writing -------------------------------------------------------------------------------------------------

-- Writes the engine's output to the socket below.
function Socket:_send()
  local engine = self._engine
  local first = engine:output()
  if not first then return end
  local second = engine:output()
  if not second then return self._socket:write(first, self._write_failed) end
  local list, count = { first, second }, 2
  for piece in engine.output, engine do
    count = count + 1
    list[count] = piece
  end
  self._socket:write(list, self._write_failed)
end

-- Encrypts record by record, so that large data is not in memory twice.
function Socket:_encrypt(bytes)
  local engine = self._engine
  for from = 1, #bytes, CHUNK do
    local ok, why = engine:write(bytes, from, from + CHUNK - 1)
    if not ok then return self:_fail_write(why) end
  end
end

function Socket:_fail_write(reason)
  if not self._open then return self:_settle(false, "TLS handshake failed: " .. reason) end
  if self._on_error then self._on_error(reason) end
end

--- Writes a string or a list of strings, whole and in order.
---@param data string|string[]
---@param on_error fun(reason: string) called when a write fails; each write passes the same function
function Socket:write(data, on_error)
  if self._closed then return end
  self._on_error = on_error
  local list = type(data) == "table" and data or { data }
  for i = 1, #list do
    if self._open then
      self:_encrypt(list[i])
    else
      self._early[#self._early + 1] = list[i]
      self._early_bytes = self._early_bytes + #list[i]
    end
  end
  if self._open and not self._closed then self:_send() end
end

--- Bytes written that the kernel has not taken yet.
function Socket:unwritten()
  return self._closed and 0 or self._socket:unwritten() + self._early_bytes
end

--- True when this socket alone keeps the loop running.
function Socket:counts(counts)
  self._socket:counts(counts)
end

--- "TLSv1.3" and the like, and the cipher's name.
---@return string? version
---@return string? cipher
function Socket:info()
  if self._closed or not self._open then return nil end
  return self._engine:info()
end

--- Closes both sockets, after a close_notify if the network takes it at once. No callback is called any more.
function Socket:close()
  if self._closed then return end
  self._closed = true
  self._hold.self = nil
  self._done, self._on_data, self._on_end, self._on_error = nil, nil, nil, nil
  local engine = self._engine
  if engine then
    if self._open then
      engine:shutdown()
      pcall(self._send, self)
    end
    engine:close()
  end
  self._socket:close()
end

Socket.cancel = Socket.close

return M
