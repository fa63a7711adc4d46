-- SPDX-License-Identifier: MIT
-- speak_as.lua GENERATION DIRECTORY PORT HOST [PLAIN-PORT...]: a proxy in front of the redis-server 7.0 at HOST:PORT
-- and DIRECTORY/redis.sock, which makes it speak as a later generation of spec.support.generations ("valkey-8.1").
-- Listens at 127.0.0.1:PORT (and [::1]) and at DIRECTORY/front.sock, and makes the file DIRECTORY/listening then.
-- Connections to the other ports, which speak TLS, are passed on unchanged.
--
-- The proxy counts requests and replies, and so finds the reply that it has to change. A command that a 7.0 does not
-- know goes to the server as an ECHO, so that the server decides on its order, and on whether it is queued or refused.
-- Once replies cannot be counted any more (behind SUBSCRIBE, MONITOR, PSYNC, CLIENT REPLY OFF) all bytes are passed on
-- unchanged.

local uv = require "luv"
local generations = require "spec.support.generations"
local resp_stream = require "spec.support.resp_stream"

local bulk = generations.bulk
local unpack = table.unpack or unpack -- luacheck: ignore

local WINDOW = 4 * 1024 * 1024 -- bytes that may wait for a peer before no more are read for it

local generation -- to speak as

-- Changed answers -------------------------------------------------------------------------------------------

-- Kinds of answers that are looked at: from the server's to the generation's.
local answers = {}

function answers.hello(text)
  if text:find "^%-NOAUTH HELLO" then return generation:hello_needs_password() end
  local mark = text:sub(1, 1)
  if mark ~= "%" and mark ~= "*" then return text end
  local said, items = {}, resp_stream.items(text)
  for i = 1, #items, 2 do
    said[items[i]:match "\r\n(.*)\r\n"] = items[i + 1]
  end
  local role = said.role and said.role:match "\r\n(.*)\r\n"
  return generation:hello(mark == "%" and 3 or 2, tonumber(said.id:match "%d+"), role,
    said.mode:match "\r\n(.*)\r\n")
end

function answers.ok(text)
  return text == bulk "OK" and "+OK\r\n" or text
end

function answers.readonly(text)
  return text:find("cluster support disabled", 1, true) and "+OK\r\n" or text
end

local ECHO_OK = generations.list_of { bulk "ECHO", bulk "OK" }

-- By command: a request's words to the kind of its answer ("raw": the last that is counted), and the request to send in
-- its place.
local requests = {}

function requests.HELLO()
  return "hello"
end

local SINCE_72 = { ["SETINFO LIB-NAME"] = 4, ["SETINFO LIB-VER"] = 4, ["NO-TOUCH ON"] = 3, ["NO-TOUCH OFF"] = 3 }

function requests.CLIENT(words)
  local what = ("%s %s"):format(words[2] or "", words[3] or ""):upper()
  if SINCE_72[what] == #words and not (words[4] or ""):find "[^!-~]" then return "ok", ECHO_OK end
  if generation.valkey and what:find "^CAPA ." then return "ok", ECHO_OK end
  if what == "REPLY OFF" or what == "REPLY SKIP" then return "raw" end
end

function requests.READONLY()
  return generation.valkey and "readonly"
end

requests.READWRITE = requests.READONLY

function requests.SUBSCRIBE()
  return "raw"
end

for _, name in ipairs { "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC",
  "PSYNC" } do
  requests[name] = requests.SUBSCRIBE
end

-- One direction of one connection ---------------------------------------------------------------------------

local Flow = {}
Flow.__index = Flow

local function new_flow(connection, from, to)
  return setmetatable({
    connection = connection, from = from, to = to,
    bytes = "", at = 1, -- scanned up to there
    begin = 1, -- where the message at hand does; before `start` when part of it was passed on
    start = 1, -- of what was not passed on yet
    stream = resp_stream.new(), waiting = 0,
  }, Flow)
end

function Flow:write(bytes)
  if bytes == "" or self.connection.closed or self.is_lost then return end
  self.waiting = self.waiting + #bytes
  self.to:write(bytes, function(failure)
    self.waiting = self.waiting - #bytes
    if failure then return self:lost() end
    if self.stopped and self.waiting < WINDOW then self:read() end
  end)
end

-- Passes on what stands before `stop`.
function Flow:pass(stop)
  self:write(self.bytes:sub(self.start, stop - 1))
  self.start = math.max(self.start, stop)
end

-- Puts `text` in the place of the message at hand, which has ended.
function Flow:replace(text)
  self:pass(self.begin)
  self:write(text)
  self.start = self.at
end

function Flow:receive(bytes)
  if self.raw then return self:write(bytes) end
  local done = self.start - 1
  self.bytes = self.bytes:sub(self.start) .. bytes
  self.at, self.begin, self.start = self.at - done, self.begin - done, 1
  while self.at <= #self.bytes and not self.raw do
    local ended
    self.at, ended = self.stream:scan(self.bytes, self.at)
    if not ended then break end
    self:ended()
    self.begin = self.at
  end
  if self.raw then return self:pass(#self.bytes + 1) end
  self:pass(self:is_free() and self.at or self.begin)
end

function Flow:read()
  self.stopped = false
  self.from:read_start(function(failure, bytes)
    if self.connection.closed then return end
    if not bytes then
      self:pass(#self.bytes + 1)
      self.is_over = true
      local written = self.to:shutdown(function()
        if self.other.is_over or failure then self.connection:close(failure ~= nil) end
      end)
      if not written then self.connection:close(true) end
      return
    end
    self:receive(bytes)
    if self.waiting >= WINDOW and not self.connection.closed then
      self.stopped = true
      self.from:read_stop()
    end
  end)
end

-- The client is gone.
function Flow:lost()
  self.connection:close()
end

-- Up: requests --------------------------------------------------------------------------------------------

local Up = setmetatable({}, { __index = Flow })
Up.__index = Up

-- The name of the command at hand, when that much of it is there.
local function command_name(self)
  local text = self.bytes:sub(self.begin, self.begin + 60) -- (longer ones are none of those)
  local name = text:match "^%*%d+\r\n%$%d+\r\n([^\r\n]+)\r" or text:match "^(%a+)%s"
  return name and name:upper()
end

-- Notes that the request at hand is to be answered, by an answer of that kind.
local function expect(self, kind)
  local queue = self.other.queue
  queue.last = queue.last + 1
  queue[queue.last] = kind
  self.expected = true
end

local function is_empty(text)
  return text:find "^%s*$" or text:find "^%*%-?0*\r\n$" or text:find "^%*%-%d+\r\n$"
end

function Up:ended()
  if self.expected then
    self.expected = nil
    return
  end
  local rule = requests[command_name(self)]
  local text = (rule or self.at - self.begin < 10) and self.bytes:sub(self.begin, self.at - 1)
  if text and is_empty(text) then return end
  local kind, other
  if rule then kind, other = rule(resp_stream.words(text)) end
  expect(self, kind or "any")
  self.expected = nil
  if other then self:replace(other) end
  if kind == "raw" then
    self.raw = true
    self.other:look()
  end
end

-- The server is gone: what it said before it hung up may still be on its way.
function Up:lost()
  self.is_lost = true
end

-- True if the bytes of the current request may be passed on.
function Up:is_free()
  if self.expected then return true end
  local name = command_name(self)
  if not name or requests[name] then return false end
  expect(self, "any")
  return true
end

-- Down: replies -------------------------------------------------------------------------------------------

local Down = setmetatable({}, { __index = Flow })
Down.__index = Down

function Down:ended()
  if self.stream.kind == ">" then return end
  local queue = self.queue
  local kind = queue[queue.first]
  if kind then
    queue[queue.first] = nil
    queue.first = queue.first + 1
  end
  if answers[kind] then self:replace(answers[kind](self.bytes:sub(self.begin, self.at - 1))) end
  self:look()
end

-- From now on replies cannot be counted.
function Down:look()
  if self.queue[self.queue.first] ~= "raw" then return end
  self.raw = true
  self:pass(#self.bytes + 1)
end

function Down:is_free()
  return not answers[self.queue[self.queue.first]] or self.stream.kind == ">"
end

-- Connections ---------------------------------------------------------------------------------------------

local Connection = {}
Connection.__index = Connection

function Connection:close(by_reset)
  if self.closed then return end
  self.closed = true
  for _, handle in ipairs { self.client, self.server } do
    if not handle:is_closing() then
      if not (by_reset and handle.close_reset and handle:close_reset()) then handle:close() end
    end
  end
end

local function relay(client, server, is_plain)
  local connection = setmetatable({ client = client, server = server }, Connection)
  local up = setmetatable(new_flow(connection, client, server), Up)
  local down = setmetatable(new_flow(connection, server, client), Down)
  up.other, down.other = down, up
  down.queue = { first = 1, last = 0 }
  up.raw, down.raw = is_plain, is_plain
  return connection, up, down
end

-- Passes what comes to `listener` on to where `connect(handle, done)` leads.
local function serve(listener, new_handle, connect, is_plain)
  assert(listener:listen(1024, function(failure)
    assert(not failure, failure)
    local client, server = new_handle(), new_handle()
    listener:accept(client)
    local connection, up, down = relay(client, server, is_plain)
    connect(server, function(cannot)
      if cannot then return connection:close(true) end
      if client.nodelay then
        client:nodelay(true)
        server:nodelay(true)
      end
      up:read()
      down:read()
    end)
  end))
end

local function serve_port(host, port, target, is_plain)
  local listener = uv.new_tcp()
  if not listener:bind(host, port) then return listener:close() end
  serve(listener, uv.new_tcp, function(handle, done)
    handle:connect(target, port, done)
  end, is_plain)
  return true
end

local function serve_path(path, target)
  local listener = uv.new_pipe(false)
  assert(listener:bind(path))
  serve(listener, function()
    return uv.new_pipe(false)
  end, function(handle, done)
    handle:connect(target, done)
  end)
end

local function main(name, directory, port, host, ...)
  local signal = uv.new_signal()
  signal:start "sigpipe" -- of a peer that is gone the write tells
  generation = generations.named(name)
  local ports = { port, ... }
  for i, each in ipairs(ports) do
    assert(serve_port("127.0.0.1", tonumber(each), host, i > 1), "the port is in use")
    serve_port("::1", tonumber(each), host, i > 1)
  end
  serve_path(directory .. "/front.sock", directory .. "/redis.sock")
  assert(io.open(directory .. "/listening", "w")):close()
  uv.run()
end

main(unpack(arg))
