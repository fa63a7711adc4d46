-- SPDX-License-Identifier: MIT
-- An address at which every attempt to connect hangs. A process listens there and accepts nothing, and the queue of its
-- socket is full, so that Linux answers no SYN.

local uv = require "luv"

local lua = os.getenv "LUA" or "lua5.4"

local M = {}

local Hole = {}
Hole.__index = Hole

-- Listens until its standard input ends. It ends also with the process that started this one.
local PROGRAM = [[
  local uv = require "luv"
  local socket = uv.new_tcp()
  local bound, why = socket:bind(arg[1], tonumber(arg[2]))
  local listens = bound and socket:listen(0, function() end)
  if not listens then os.exit(1) end
  io.read "*a"
  os.exit(0)
]]

-- Connects: "connected", "refused", or nil when neither comes within so many milliseconds.
local function try(self, milliseconds)
  local socket, timer, said, over = uv.new_tcp(), uv.new_timer(), nil, false
  socket:connect(self.host, self.port, function(err)
    said = err and "refused" or "connected"
  end)
  timer:start(milliseconds, 0, function()
    over = true
  end)
  while not said and not over do
    uv.run "once"
  end
  timer:close()
  self._sockets[#self._sockets + 1] = socket
  return said
end

--- Needs the loop not to run.
---@param host string of this machine, without a listener on that port
---@param port integer
---@return table? hole `stop()`; nil where connecting goes on and on
function M.start(host, port)
  local file = os.tmpname()
  local handle = assert(io.open(file, "w"))
  handle:write(PROGRAM)
  handle:close()
  local command = ("exec %s '%s' %s %d"):format(lua, file, host, port)
  local self = setmetatable({ host = host, port = port, _file = file, _sockets = {} }, Hole)
  self._process = assert(io.popen(command, "w"))
  for _ = 1, 500 do -- until it listens, and is full
    local said = try(self, 300)
    if not said then
      return self
    elseif said == "refused" then
      uv.sleep(20)
    elseif #self._sockets > 300 then
      break
    end
  end
  self:stop()
  return nil
end

function Hole:stop()
  for _, socket in ipairs(self._sockets) do
    if not socket:is_closing() then
      socket:close()
    end
  end
  uv.run "nowait"
  self._process:close()
  os.remove(self._file)
end

return M
