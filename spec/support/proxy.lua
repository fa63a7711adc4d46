-- SPDX-License-Identifier: MIT
-- A TCP proxy that makes faults, in the luv loop of the spec itself. Bytes go "up", from the client to the server, and
-- "down". The faults are set per direction, in `proxy.up` and `proxy.down`, at any time, for all connections:
--
--   delay = seconds     each byte arrives that much later
--   chunk = n           pieces of n bytes, each in a read of its own
--   cut = n             after n bytes of a connection in this direction, both its ends are closed ...
--   how = "rst"         ... by RST; otherwise by FIN
--   window = n          while n bytes or more wait here, no more are read, so that they back up to the sender
--   hold = true         bytes, and the end, wait until `proxy:release()`
--   drop = true         bytes, and the end, vanish (a black hole)
--
-- `proxy.refuse = true` resets new connections as they come. None of its handles keeps the loop alive.

local uv = require "luv"
local loop_turns = require "spec.support.loop_turns"

local M = {}

local Proxy = {}
Proxy.__index = Proxy
local Connection = {}
Connection.__index = Connection
local Flow = {}
Flow.__index = Flow

-- One direction of one connection -----------------------------------------------------------------

local function new_flow(connection, faults, from, to)
  return setmetatable({
    connection = connection,
    faults = faults,
    from = from,
    to = to,
    passed = 0, -- bytes written on
    waiting = 0, -- bytes in the queue
    _queue = {}, -- of {bytes, due}: not yet written; due in milliseconds of uv.now()
    _seen = {}, -- all that came, in pieces
    _writing = true, -- until the connection is made
    _ended = false, -- the sender's FIN came
  }, Flow)
end

--- All bytes that came from the sender, passed on or not.
function Flow:bytes()
  return table.concat(self._seen)
end

function Flow:_push(bytes)
  local due = uv.now() + (self.faults.delay or 0) * 1000
  self._queue[#self._queue + 1] = { bytes = bytes, due = due }
  self.waiting = self.waiting + #bytes
  self:_pump()
end

function Flow:_receive(bytes)
  self._seen[#self._seen + 1] = bytes
  if not self.faults.drop then
    self:_push(bytes)
  end
end

-- Makes one piece of what waits.
function Flow:_join()
  local pieces = {}
  for i, piece in ipairs(self._queue) do
    pieces[i] = piece.bytes
  end
  if #pieces > 1 then
    self._queue = { { bytes = table.concat(pieces), due = uv.now() } }
  end
end

function Flow:_end()
  if not self.faults.drop then
    self._ended = true
    self:_pump()
  end
end

-- The piece that may be written now, shortened as the faults say; nil if none may.
function Flow:_take()
  local first = self._queue[1]
  if not first or self._writing or self.faults.hold then
    return nil
  end
  if first.due > uv.now() then
    self:_wake_in(first.due - uv.now())
    return nil
  end
  local length = #first.bytes
  if self.faults.chunk then
    length = math.min(length, self.faults.chunk)
  end
  if self.faults.cut then
    length = math.max(0, math.min(length, self.faults.cut - self.passed))
  end
  self.waiting = self.waiting - length
  local piece = first.bytes:sub(1, length)
  first.bytes = first.bytes:sub(length + 1)
  if first.bytes == "" then
    table.remove(self._queue, 1)
  end
  return piece
end

-- Reads from the sender, or does not.
function Flow:_turn_tap()
  local open = self.waiting < (self.faults.window or math.huge)
  if open == self._open or self.connection.closed then
    return
  end
  self._open = open
  if not open then
    return self.from:read_stop()
  end
  self.from:read_start(function(error_text, bytes)
    if error_text then
      self.connection:close("rst")
    elseif bytes then
      self:_receive(bytes)
    else
      self:_end()
    end
  end)
end

function Flow:_wake_in(milliseconds)
  if not self._timer then
    self._timer = uv.new_timer()
    self._timer:unref()
  end
  self._timer:start(math.ceil(milliseconds), 0, function()
    self:_pump()
  end)
end

function Flow:_written(error_text)
  self._writing = false
  local cut = self.faults.cut
  if self.connection.closed then
    return
  elseif cut and self.passed >= cut then
    self.connection:close(self.faults.how)
  elseif error_text then
    self.connection:close("rst")
  elseif self.faults.chunk then
    self._writing = true
    loop_turns.next(function()
      self._writing = false
      self:_pump()
    end)
  else
    self:_pump()
  end
end

function Flow:_pump()
  if self.connection.closed then
    return
  end
  local piece = self:_take()
  if piece then
    self._writing = true
    self.passed = self.passed + #piece
    self.to:write(piece, function(error_text)
      self:_written(error_text)
    end)
  elseif self._ended and #self._queue == 0 and not (self._writing or self.faults.hold or self.finished) then
    self.finished = true
    self.to:shutdown()
    self.connection:_close_when_finished()
  end
  if self._open ~= nil then
    self:_turn_tap()
  end
end

-- A connection ------------------------------------------------------------------------------------

local function close_handle(handle, how)
  if handle:is_closing() then
    return
  end
  if not (how == "rst" and handle.close_reset and handle:close_reset()) then
    handle:close()
  end
end

--- Closes both ends: the client's by FIN, or by RST when `how` is "rst".
function Connection:close(how)
  if self.closed then
    return
  end
  self.closed = true
  for _, flow in ipairs({ self.up, self.down }) do
    if flow._timer then
      flow._timer:close()
    end
  end
  close_handle(self.client, how)
  close_handle(self.server)
end

function Connection:_close_when_finished()
  if self.up.finished and self.down.finished then
    -- In the next turn: the shutdown is still on its way.
    loop_turns.next(function()
      self:close()
    end)
  end
end

--- Slips bytes into a direction ("up" or "down"), behind those that wait there.
function Connection:inject(direction, bytes)
  self[direction]:_push(bytes)
end

local function connect(proxy, server, act)
  if proxy._target.path then
    server:connect(proxy._target.path, act)
  else
    server:connect(proxy._target.host, proxy._target.port, act)
  end
end

local function accept(proxy)
  local client = uv.new_tcp()
  proxy._listener:accept(client)
  client:unref()
  proxy.accepted = proxy.accepted + 1
  if proxy.refuse then
    return close_handle(client, "rst")
  end
  client:nodelay(true)
  local server = proxy._target.path and uv.new_pipe(false) or uv.new_tcp()
  server:unref()
  local connection = setmetatable({ client = client, server = server, closed = false }, Connection)
  connection.up = new_flow(connection, proxy.up, client, server)
  connection.down = new_flow(connection, proxy.down, server, client)
  connection.down._writing = false
  proxy.connections[#proxy.connections + 1] = connection
  connection.up:_turn_tap()
  connect(proxy, server, function(error_text)
    if connection.closed then
      return
    elseif error_text then
      return connection:close("rst")
    end
    if not proxy._target.path then
      server:nodelay(true)
    end
    connection.down:_turn_tap()
    connection.up._writing = false
    connection.up:_pump()
  end)
end

-- The proxy -----------------------------------------------------------------------------------------

--- Starts a proxy before `target`: {host, port} or {path}, so a server of spec.support.server does.
---@param target table
---@return table proxy {host, port, url, up, down, accepted, connections}
function M.start(target)
  local over_tcp = target.port ~= nil
  local self = setmetatable({
    up = {},
    down = {},
    accepted = 0, -- connections so far
    connections = {}, -- all of them, closed ones too
    _target = over_tcp and { host = target.host or "127.0.0.1", port = target.port } or { path = target.path },
  }, Proxy)
  self.host = "127.0.0.1"
  self:listen()
  self.url = ("redis://%s:%d/"):format(self.host, self.port)
  return self
end

--- Listens, again on the same port after `deafen`.
function Proxy:listen()
  self._listener = uv.new_tcp()
  assert(self._listener:bind(self.host, self.port or 0))
  assert(self._listener:listen(1024, function(error_text)
    assert(not error_text, error_text)
    accept(self)
  end))
  self._listener:unref()
  self.port = self._listener:getsockname().port
end

--- Stops listening: the kernel refuses new connections; those that there are go on.
function Proxy:deafen()
  if self._listener then
    self._listener:close()
    self._listener = nil
  end
end

--- How many connections are open.
function Proxy:open_connections()
  local count = 0
  for _, connection in ipairs(self.connections) do
    count = count + (connection.closed and 0 or 1)
  end
  return count
end

--- Ends `hold` in both directions; what waited goes on, with `as_one` in one piece.
function Proxy:release(as_one)
  self.up.hold, self.down.hold = nil, nil
  for _, connection in ipairs(self.connections) do
    if as_one then
      connection.up:_join()
      connection.down:_join()
    end
    connection.up:_pump()
    connection.down:_pump()
  end
end

--- Closes all connections now: by FIN, or by RST when `how` is "rst".
function Proxy:cut(how)
  for _, connection in ipairs(self.connections) do
    connection:close(how)
  end
end

--- Slips bytes into all open connections, "up" or "down".
function Proxy:inject(direction, bytes)
  for _, connection in ipairs(self.connections) do
    connection:inject(direction, bytes)
  end
end

--- Lets go of what a long run would pile up: closed connections, and the bytes that came so far.
function Proxy:forget()
  local open = {}
  for _, connection in ipairs(self.connections) do
    if not connection.closed then
      open[#open + 1] = connection
      connection.up._seen, connection.down._seen = {}, {}
    end
  end
  self.connections = open
end

--- Closes everything. May be called again.
function Proxy:stop()
  self:deafen()
  self:cut()
end

return M
