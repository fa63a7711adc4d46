-- SPDX-License-Identifier: MIT
-- How far a request has come over TLS. TLS hides its marks ("<" digits ">") from a proxy, so that they are watched
-- between a connection and its TLS socket, and between that and the socket below.

local tls_socket = require "redio.connection.tls_socket"

local M = {}

local Watch = { aims = { "sent", "within a record" } }
Watch.__index = Watch

local LONGEST = 60 -- no mark is longer

-- The same socket; `see` is told of the bytes that come.
local function tapped(socket, see)
  local below = {}
  function below.read_start(_, on_data, on_end)
    socket:read_start(function(bytes)
      see(bytes)
      on_data(bytes)
    end, on_end)
  end
  return setmetatable(below, {
    __index = function(_, name)
      return function(_, ...)
        return socket[name](socket, ...)
      end
    end,
  })
end

-- Leaves in `line.rest` what there is of a record that is not whole: type, version and length come first, in clear.
local function follow_records(line, bytes)
  local rest = line.rest .. bytes
  while #rest >= 5 do
    local size = 5 + rest:byte(4) * 256 + rest:byte(5)
    if #rest < size then break end
    rest = rest:sub(size + 1)
  end
  line.rest = rest
end

-- Calls `note` with every mark that is whole; returns what the next one may begin with.
local function find_marks(text, note)
  local read = 1
  for mark, after in text:gmatch "(<%d+>)()" do
    note(mark)
    read = after
  end
  return text:sub(math.max(read, #text - LONGEST))
end

local function watch_line(self, line, secured)
  local plain = getmetatable(secured).__index
  local up, down = "", ""
  function secured.write(socket, data, on_error)
    up = find_marks(up .. (type(data) == "table" and table.concat(data) or data), function(mark)
      self._lines[mark] = line
    end)
    return plain.write(socket, data, on_error)
  end
  function secured.read_start(socket, on_data, on_end)
    return plain.read_start(socket, function(bytes)
      down = find_marks(down .. bytes, function(mark)
        self._read[mark] = true
      end)
      return on_data(bytes)
    end, on_end)
  end
end

--- Follows all that redio secures from now on, until `stop()`.
function M.watch()
  local self = setmetatable({ _lines = {}, _read = {}, _wrap = tls_socket.wrap }, Watch)
  function tls_socket.wrap(socket, ...)
    local line = { rest = "" }
    local secured = self._wrap(tapped(socket, function(bytes)
      follow_records(line, bytes)
    end), ...)
    watch_line(self, line, secured)
    return secured
  end
  return self
end

--- "queued" (the client has not sent it), "sent", "within a record" (sent, and what has come on its connection ends
--- within a record) or "read" (some of its reply is in clear).
function Watch:state(mark)
  local line = self._lines[mark]
  if not line then
    return "queued"
  elseif self._read[mark] then
    return "read"
  end
  return line.rest ~= "" and "within a record" or "sent"
end

function Watch:stop()
  tls_socket.wrap = self._wrap
end

return M
