-- SPDX-License-Identifier: MIT
-- A fake server with the spec's own answers, in the luv loop of the spec itself: for replies that no real server gives.
-- None of its handles keeps the loop alive.

local uv = require "luv"
local loop_turns = require "spec.support.loop_turns"

local M = {}

local Fake = {}
Fake.__index = Fake
local Connection = {}
Connection.__index = Connection

-- Requests ------------------------------------------------------------------------------------------

-- The request at `from`: its words, and where the rest begins. nil if bytes are missing.
local function parse(text, from)
  local count, at = text:match("^%*(%d+)\r\n()", from)
  if not count then
    if text:find("^%*%d*\r?$", from) or from > #text then
      return nil
    end
    local line, rest = text:match("^([^*\r\n][^\r\n]*)\r?\n()", from)
    assert(line or not text:find("\n", from, true), "not a request: " .. text:sub(from, from + 39))
    if not line then
      return nil
    end
    local words = {}
    for word in line:gmatch("%S+") do
      words[#words + 1] = word
    end
    return words, rest
  end
  local words = {}
  for i = 1, tonumber(count) do
    local length, start = text:match("^%$(%d+)\r\n()", at)
    if not length or #text < start + length + 1 then
      return nil
    end
    words[i] = text:sub(start, start + length - 1)
    at = start + length + 2
  end
  return words, at
end

-- Handshake -----------------------------------------------------------------------------------------

local function bulk(text)
  return ("$%d\r\n%s\r\n"):format(#text, text)
end

local function hello(version)
  local fields = bulk "server" .. bulk "redis" .. bulk "version" .. bulk "7.0.15" .. bulk "proto"
    .. ":" .. version .. "\r\n" .. bulk "id" .. ":1\r\n" .. bulk "mode" .. bulk "standalone"
    .. bulk "role" .. bulk "master" .. bulk "modules" .. "*0\r\n"
  return (version == "3" and "%7\r\n" or "*14\r\n") .. fields
end

local plain_ok = { AUTH = true, CLIENT = true, SELECT = true }

-- The answer to what a client says before its first command; nil for anything else.
local function greet(protocol, words)
  local name = words[1]:upper()
  if name == "HELLO" then
    return protocol == 3 and hello(words[2] or "2") or "-ERR unknown command 'HELLO', with args beginning with: \r\n"
  end
  return plain_ok[name] and "+OK\r\n" or nil
end

-- Connections -----------------------------------------------------------------------------------------

--- Writes raw bytes; with `chunk`, in pieces of so many bytes that each arrive in a read of their own.
function Connection:write(bytes, chunk)
  if self.closed then
    return
  end
  if not chunk then
    self.handle:write(bytes)
  elseif bytes ~= "" then
    self.handle:write(bytes:sub(1, chunk))
    loop_turns.next(function()
      self:write(bytes:sub(chunk + 1), chunk)
    end)
  end
end

--- Closes by FIN, after what was written.
function Connection:close()
  if not self.closed then
    self.closed = true
    local closing = self.handle:shutdown(function()
      self.handle:close()
    end)
    if not closing then
      self.handle:close() -- the peer is gone
    end
  end
end

--- Closes by RST.
function Connection:reset()
  if not self.closed then
    self.closed = true
    self.handle:close_reset()
  end
end

local function answer(fake, connection, words)
  local said = fake._protocol and greet(fake._protocol, words)
  if not said then
    connection.requests[#connection.requests + 1] = words
    fake.requests[#fake.requests + 1] = words
    said = fake._handler(connection, words)
  end
  if type(said) == "string" then
    connection:write(said)
  end
end

local function receive(fake, connection, bytes)
  local input, from = connection._input .. bytes, 1
  while not connection.closed do
    local words, rest = parse(input, from)
    if not words then break end
    from = rest
    answer(fake, connection, words)
  end
  connection._input = input:sub(from)
end

local function accept(fake)
  local handle = uv.new_tcp()
  fake._listener:accept(handle)
  handle:nodelay(true)
  handle:unref()
  local connection = setmetatable({ handle = handle, requests = {}, closed = false, _input = "" }, Connection)
  fake.connections[#fake.connections + 1] = connection
  fake.accepted = fake.accepted + 1
  if fake._on_accept then
    fake._on_accept(connection)
  end
  handle:read_start(function(error_text, bytes)
    if bytes then
      receive(fake, connection, bytes)
    elseif error_text then
      connection:reset()
    else
      connection:close()
    end
  end)
end

-- The server ----------------------------------------------------------------------------------------

--- Starts one. `handler(connection, words)` is called for each request; what it returns, if it is a
--- string, is written, and it may write by itself. HELLO, AUTH, CLIENT and SELECT are answered without
--- it, as a server that speaks RESP3 would; `options.protocol = 2` knows no HELLO, and with
--- `options.protocol = false` the handler gets these, too. `options.on_accept(connection)` is called before a
--- request has come.
---@param handler fun(connection: table, words: string[]): string|nil
---@param options? table
---@return table fake {host, port, url, accepted, connections, requests}
function M.start(handler, options)
  local protocol = 3
  if options and options.protocol ~= nil then
    protocol = options.protocol
  end
  local self = setmetatable({
    host = "127.0.0.1",
    accepted = 0,
    connections = {},
    requests = {}, -- all that came to the handler
    _handler = handler,
    _protocol = protocol,
    _on_accept = options and options.on_accept,
    _listener = uv.new_tcp(),
  }, Fake)
  assert(self._listener:bind(self.host, 0))
  assert(self._listener:listen(1024, function(error_text)
    assert(not error_text, error_text)
    accept(self)
  end))
  self._listener:unref()
  self.port = self._listener:getsockname().port
  self.url = ("redis://%s:%d/"):format(self.host, self.port)
  return self
end

--- Closes everything. May be called again.
function Fake:stop()
  if self._listener then
    self._listener:close()
    self._listener = nil
  end
  for _, connection in ipairs(self.connections) do
    connection:reset()
  end
end

return M
