-- SPDX-License-Identifier: MIT
-- The way from nothing to ready, where a loop calls back: connect, the TLS handshake, the login, and one deadline for
-- all of it.
-- Specs: promises/11, regress/second_address

local messages = require "redio.base.messages"
local task = require "redio.task"
local tls_socket = require "redio.connection.tls_socket"

local M = {}

-- A server without room says so and hangs up. When it hangs up on bytes that it has not read, that reason is lost on
-- the way. So after the first such end the next socket is silent for so many seconds, and the server may speak first.
local LISTEN_SECONDS = 0.1

---@class redio.Opening
local Opening = {}
Opening.__index = Opening

--- Opens a connection, `delay` seconds from now. It is told `attach(socket)`, then `log_in()`, then `opened()`; or it
--- fails.
---@param conn redio.LoopConnection
function M.start(conn, delay)
  local self = setmetatable({
    conn = conn,
    transport = conn.transport,
    settings = conn.settings,
    attempt = nil, -- to connect, or to shake hands
    timer = nil, -- for the delay, then for the deadline
    listens = false,
  }, Opening)
  conn.opening = self
  if delay <= 0 then
    self:begin()
  else
    self.timer = self.transport.start_timer(delay, function()
      self:begin()
    end)
  end
end

function Opening:begin()
  local seconds, transport, conn = self.settings.connect_timeout, self.transport, self.conn
  self.timer = seconds and transport.start_timer(seconds, function()
    task.after_reading(transport, function()
      if not conn.was_ready then conn:fail(conn:overdue_connect()) end
    end)
  end)
  self:connect()
end

function Opening:connect()
  local secures = self.settings.tls and not self.transport.native_tls
  self.conn:advance "connect"
  self.attempt = self.transport.connect(self.settings, function(socket, reason)
    if socket and secures then return self:secure(socket) end
    self:connected(socket, reason)
  end)
end

function Opening:secure(socket)
  self.attempt = nil
  if self.conn.lost then return socket:close() end
  self.conn.stage = messages.TLS_STAGE
  self.attempt = tls_socket.wrap(socket, self.settings, function(secured, reason, certain)
    self:connected(secured, reason, certain)
  end, self.transport)
end

function Opening:connected(socket, reason, permanent)
  local conn = self.conn
  self.attempt = nil
  if conn.lost then return socket and socket:close() end
  if not socket then return conn:fail(conn:unreachable(reason, permanent)) end
  conn:attach(socket)
  conn:advance "connected"
  if not self.listens then return self:log_in() end
  self.transport.start_timer(LISTEN_SECONDS, function()
    if not conn.lost then self:log_in() end
  end)
end

function Opening:log_in()
  task.resume(coroutine.create(function()
    if not self.conn:log_in() then return end
    self:stop()
    self.conn:opened()
  end))
end

--- The server has hung up before it said anything. The first time that is not the end: it is listened to once more.
---@return boolean
function Opening:listens_first()
  if self.listens then return false end
  self.listens = true
  self.conn:detach()
  self:connect()
  return true
end

--- Gives up, or is done.
function Opening:stop()
  if self.timer then self.transport.stop_timer(self.timer) end
  if self.attempt then self.attempt:cancel() end
  self.timer, self.attempt = nil, nil
end

return M
