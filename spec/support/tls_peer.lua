-- SPDX-License-Identifier: MIT
-- Peers for TLS: a redis-server, openssl's own server, and a unix socket in front of either.

local uv = require "luv"
local server = require "spec.support.server"

local M = {}

-- redis-server ------------------------------------------------------------------------------------------

--- A redis-server that listens on TLS as well.
---@param certificates table of spec.support.certificates
---@param options? table `certificate` (its name, "server"), `clients`: whether they need a certificate; lines of
---configuration in its list part; the rest as for server.start
---@return table server with `tls_port`
function M.redis(certificates, options)
  options = options or {}
  local own = certificates[options.certificate or "server"]
  for try = 1, 10 do
    local port = server.free_port()
    local lines = { password = options.password, "tls-port " .. port, "tls-cert-file " .. own.cert,
      "tls-key-file " .. own.key, "tls-ca-cert-file " .. certificates.ca.cert,
      "tls-auth-clients " .. (options.clients and "yes" or "no") }
    for _, line in ipairs(options) do
      lines[#lines + 1] = line
    end
    local ok, started = pcall(server.start, lines)
    if ok then
      started.tls_port = port
      return started
    end
    assert(try < 10 and started:find("tls", 1, true), started)
  end
end

-- openssl s_server ----------------------------------------------------------------------------------------

-- Kills the server when descriptor 3 ends. It ends also with the process that started the server.
local GUARD = [[
exec 4<&0 </dev/null
openssl "$0" "$@" <&4 3<&- 4<&- &
exec 4<&-
read -r word <&3
kill -KILL $!
wait 2>/dev/null]]

local OpenSSL = {}
OpenSSL.__index = OpenSSL

--- openssl's server, which sends what it gets on its standard input, and obeys its commands there: "k" and "K" for a
--- KeyUpdate, "r" for a renegotiation, each a line of its own. Needs the loop to run for its output.
---@return table peer `port`, `output()`, `type(text)`, `stop()`
function M.openssl(own, ...)
  local self = setmetatable({ _said = {} }, OpenSSL)
  local input, output, errors, leash = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local args = { "-c", GUARD, "s_server", "-accept", "127.0.0.1:0", "-cert", own.cert, "-key", own.key, ... }
  local spawned = { args = args, stdio = { input, output, errors, leash } }
  self._process = assert(uv.spawn("sh", spawned, function()
    self.exited = true
  end))
  self._input, self._leash, self._handles = input, leash, { input, output, errors, self._process }
  for i = 2, 3 do
    self._handles[i]:read_start(function(_, text)
      self._said[#self._said + 1] = text
    end)
  end
  M.run_until(function()
    return self:output():find("ACCEPT 127[%d.]+:%d+")
  end)
  self.port = tonumber(self:output():match("ACCEPT [%d.]+:(%d+)"))
  assert(self.port, self:output())
  return self
end

--- Its output so far.
function OpenSSL:output()
  return table.concat(self._said)
end

--- Types something into it.
function OpenSSL:type(text)
  self._input:write(text)
end

function OpenSSL:stop()
  if not self._leash:is_closing() then
    self._leash:close()
  end
  M.run_until(function()
    return self.exited
  end)
  for _, handle in ipairs(self._handles) do
    if not handle:is_closing() then
      handle:close()
    end
  end
  uv.run("nowait")
end

-- A unix socket -------------------------------------------------------------------------------------------

local Relay = {}
Relay.__index = Relay

local function pass(from, to)
  from:read_start(function(_, bytes)
    if bytes then
      to:write(bytes)
    elseif not to:is_closing() then
      to:shutdown()
    end
  end)
end

--- Relays a unix socket to a port, both ways.
---@param path string
---@param port integer
---@return table relay `accepted`, `cut()`: ends all its connections, `stop()`
function M.relay(path, port)
  local self = setmetatable({ accepted = 0, _handles = {} }, Relay)
  local listener = uv.new_pipe(false)
  assert(listener:bind(path))
  assert(listener:listen(16, function()
    local client, peer = uv.new_pipe(false), uv.new_tcp()
    listener:accept(client)
    self.accepted = self.accepted + 1
    self._handles[#self._handles + 1], self._handles[#self._handles + 2] = client, peer
    client:unref()
    peer:unref()
    peer:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      pass(client, peer)
      pass(peer, client)
    end)
  end))
  listener:unref()
  self._listener = listener
  return self
end

function Relay:cut()
  for _, handle in ipairs(self._handles) do
    if not handle:is_closing() then
      handle:close()
    end
  end
end

function Relay:stop()
  self:cut()
  self._listener:close()
  uv.run("nowait")
end

-- The loop ------------------------------------------------------------------------------------------------

--- Runs the loop until `condition` answers something true, which it returns; raises after five seconds.
function M.run_until(condition)
  local timer, late = uv.new_timer(), false
  timer:start(5000, 0, function()
    late = true
  end)
  local answer = condition()
  while not answer and not late do
    uv.run("once")
    answer = condition()
  end
  timer:close()
  uv.run("nowait")
  if not answer then
    error("waited for five seconds", 2)
  end
  return answer
end

return M
