-- SPDX-License-Identifier: MIT
-- Real redis-servers for the specs, each in a private directory, at a free port of the loopback interface and at a unix
-- socket. A server ends when it is stopped, and with the process that started it, however that ends. This module never
-- runs the luv loop, so that it can be called inside and outside of it.
--
-- REDIS_SERVER names another program than redis-server. With REDIO_SPEAKS_AS=valkey-8.1, or another generation of
-- spec.support.generations, spec/support/speak_as.lua is in front of each server and makes it speak as that one.

local uv = require "luv"

local M = {}

local Server = {}
Server.__index = Server

local START_DEADLINE = 10 -- seconds
local PROGRAM = os.getenv "REDIS_SERVER" or "redis-server"
local SPEAKS_AS = os.getenv "REDIO_SPEAKS_AS"
if SPEAKS_AS == "" then SPEAKS_AS = nil end
-- The address of a server with speak_as.lua in front of it. The port is the same, for specs that compare ports.
local BEHIND = "127.0.0.2"
-- Running servers, so that the collector does not stop one without other references.
M.live = {}

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

local function write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Asks `condition` every few milliseconds until it answers something true, and returns that.
--- nil when that took longer than `seconds`. Blocks; does not run the loop.
function M.wait_until(condition, seconds)
  local deadline = uv.hrtime() + (seconds or START_DEADLINE) * 1e9
  repeat
    local answer = condition()
    if answer then
      return answer
    end
    uv.sleep(5)
  until uv.hrtime() > deadline
  return nil
end

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1 </dev/null"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

--- A port without a listener. It lies below the range of outgoing connections, so that none of these takes it while a
--- server restarts. The kernel is asked by a connection that it refuses: luv 1.44 crashes at exit over a handle that
--- was closed without a turn of the loop since.
function M.free_port()
  for _ = 1, 100 do
    local a, b = uv.random(2):byte(1, 2)
    local port = 20000 + (a * 256 + b) % 12000
    if run("redis-cli -p " .. port .. " ping"):find("refused", 1, true) then
      return port
    end
  end
  error("no free port found between 20000 and 32000")
end

local version

--- The installed server's version: major, minor. (Better ask a server for what it can do: Valkey counts in its own
--- way.)
function M.version()
  version = version or { run(quote(PROGRAM) .. " --version"):match("v=(%d+)%.(%d+)") }
  return tonumber(version[1]), tonumber(version[2])
end

local function percent_encode(text)
  return (text:gsub("[^%w%-._~]", function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

-- True if the installed server is older than that.
local function is_before(major, minor)
  local its_major, its_minor = M.version()
  return its_major < major or its_major == major and its_minor < minor
end

local function configuration(self, lines)
  local conf = {
    "port " .. self.port,
    "bind " .. (self.speaks_as and BEHIND or is_before(6, 2) and "127.0.0.1" or "127.0.0.1 -::1"),
    "unixsocket " .. self._socket,
    "unixsocketperm 700",
    "dir " .. self.dir,
    "logfile " .. self.dir .. "/log",
    "loglevel warning",
    'save ""',
    "appendonly no",
    "daemonize no",
  }
  if not is_before(7, 0) then
    conf[#conf + 1] = "enable-debug-command yes"
  end
  if self.password then
    conf[#conf + 1] = ('requirepass "%s"'):format((self.password:gsub('["\\]', "\\%0")))
  end
  for _, line in ipairs(lines) do
    conf[#conf + 1] = line
  end
  return table.concat(conf, "\n") .. "\n"
end

-- The last lines of its log and of its output, after it has died.
local function last_words(self)
  local text = (read_file(self.dir .. "/output") or "") .. (read_file(self.dir .. "/log") or "")
    .. (read_file(self.dir .. "/front/output") or "")
  return text:sub(-2000)
end

-- Asks over the unix socket in the private directory: a server of another run may have taken the same port.
local function answers(self)
  local said = self:cli("ping")
  return said:find("PONG", 1, true) or said:find("NOAUTH", 1, true)
end

local function launch(self)
  os.remove(self.dir .. "/pid")
  os.remove(self.dir .. "/exited")
  local words = { "exec sh spec/support/run_until_eof.sh", quote(self.dir), quote(PROGRAM),
    quote(self.dir .. "/redis.conf") }
  for _, arg in ipairs(self._args) do
    words[#words + 1] = quote(arg)
  end
  self._leash = assert(io.popen(table.concat(words, " "), "w"))
  M.live[self] = true
  local state = M.wait_until(function()
    if read_file(self.dir .. "/exited") then
      return "dead"
    end
    -- under load it may answer before the guard has noted its process
    return answers(self) and read_file(self.dir .. "/pid") and "up"
  end)
  self.pid = tonumber(read_file(self.dir .. "/pid"))
  return state == "up"
end

-- Has something stand before the server that makes it speak as a later one; false when it cannot.
local function put_before(self, lines)
  local dir = self.dir .. "/front"
  assert(uv.fs_mkdir(dir, 448))
  local words = { "exec sh spec/support/run_until_eof.sh", quote(dir), quote(os.getenv "LUA" or "lua5.4"),
    "spec/support/speak_as.lua", quote(self.speaks_as), quote(self.dir), self.port, BEHIND }
  for _, line in ipairs(lines) do
    words[#words + 1] = line:match "^tls%-port (%d+)"
  end
  self._before = assert(io.popen(table.concat(words, " "), "w"))
  M.wait_until(function()
    return uv.fs_stat(self.dir .. "/listening") or uv.fs_stat(dir .. "/exited")
  end)
  return uv.fs_stat(self.dir .. "/listening") ~= nil
end

-- Lets go of the leash; returns when the server is gone.
local function let_go(self, word)
  if not self._leash then
    return
  end
  self._leash:write(word, "\n")
  self._leash:close()
  self._leash = nil
  M.live[self] = nil
end

--- Starts a redis-server and returns when it answers.
--- `options` holds lines of configuration (its list part), and by name: `password`; `port`, when it
--- must be a certain one; `args`, a list of words for the command line, as in {"--sentinel"}; `speaks_as`, the
--- generation of servers that it is made to speak as.
---@param options? table
---@return table server {host, port, path, dir, pid, url, unix_url, password, speaks_as}
function M.start(options)
  options = options or {}
  local tries = options.port and 1 or 10
  local speaks_as = options.speaks_as or SPEAKS_AS
  for try = 1, tries do
    local dir = assert(uv.fs_mkdtemp((uv.os_tmpdir()) .. "/redio-XXXXXX"))
    local self = setmetatable({
      host = "127.0.0.1",
      port = options.port or M.free_port(),
      dir = dir,
      path = dir .. (speaks_as and "/front.sock" or "/redis.sock"), -- for clients
      speaks_as = speaks_as,
      _socket = dir .. "/redis.sock",
      password = options.password,
      _args = options.args or {},
    }, Server)
    local user = self.password and (":" .. percent_encode(self.password) .. "@") or ""
    self.url = ("redis://%s%s:%d/"):format(user, self.host, self.port)
    self.unix_url = ("redis+unix://%s%s"):format(user, self.path)
    write_file(dir .. "/redis.conf", configuration(self, options))
    if launch(self) and (not speaks_as or put_before(self, options)) then
      return self
    end
    local words = last_words(self)
    self:stop()
    if try == tries or not words:find("in use", 1, true) then
      error("redis-server did not start: " .. words, 2)
    end
  end
end

local shared

--- The server that the specs of one process share. A spec that needs it empty calls `cli("flushall")`.
function M.shared()
  if not (shared and shared:is_running()) then
    if shared then
      shared:stop()
    end
    shared = M.start()
  end
  return shared
end

--- Runs redis-cli against the server, over its unix socket; returns what it printed, without the
--- last newline.
function Server:cli(...)
  local words = { "redis-cli", "-s", quote(self._before and self.path or self._socket) }
  if self.password then
    words[#words + 1] = "--no-auth-warning -a " .. quote(self.password)
  end
  for i = 1, select("#", ...) do
    words[#words + 1] = quote((select(i, ...)))
  end
  return (run(table.concat(words, " ")):gsub("\n$", ""))
end

function Server:is_running()
  return self._leash ~= nil and read_file(self.dir .. "/exited") == nil
end

--- Sends a signal ("sigkill" when none is named); after one that kills, returns when it is dead.
function Server:kill(signal)
  signal = signal or "sigkill"
  uv.kill(self.pid, signal)
  if signal == "sigkill" or signal == "sigterm" or signal == "sigint" then
    assert(M.wait_until(function()
      return not self:is_running()
    end), "the server survived " .. signal)
  end
end

--- Stops the process where it is: connections stay open, and nothing answers. Returns when it has stopped: until the
--- kernel comes to that it may still answer.
function Server:pause()
  uv.kill(self.pid, "sigstop")
  M.wait_until(function()
    local stat = read_file(("/proc/%d/stat"):format(self.pid))
    return not stat or stat:match("%) (%a)") == "T"
  end)
end

function Server:resume()
  uv.kill(self.pid, "sigcont")
end

--- Ends the server, if it still runs, and starts it again: same port, socket and directory.
function Server:restart()
  let_go(self, "keep")
  local up = M.wait_until(function()
    local started = launch(self)
    if not started then
      let_go(self, "keep")
    end
    return started
  end)
  if not up then
    error("redis-server did not start again: " .. last_words(self), 2)
  end
end

--- Ends the server and removes its directory. May be called again.
function Server:stop()
  if self._before then
    self._before:write "remove\n"
    self._before:close()
    self._before = nil
  end
  let_go(self, "remove")
end

return M
