-- SPDX-License-Identifier: MIT
-- How far a request has come, as a proxy sees it. Requests are known by marks, "<" digits ">", which stand in the
-- request and in its reply, perhaps more than once.

local M = {}

local Watch = { aims = { "half written", "half read" } }
Watch.__index = Watch

--- Follows what goes through a proxy of spec.support.proxy.
function M.watch(proxy)
  return setmetatable({ _proxy = proxy, _known = 0, _open = {}, _flows = setmetatable({}, { __mode = "k" }) }, Watch)
end

-- Where each mark first begins and last ends in a direction; goes on where it stopped last.
local function spans_of(self, flow)
  local known = self._flows[flow]
  if not known then
    known = { pieces = 0, before = 0, rest = "", spans = {} }
    self._flows[flow] = known
  end
  local seen = flow._seen
  if known.pieces < #seen then
    local text = known.rest .. table.concat(seen, "", known.pieces + 1)
    known.pieces = #seen
    local read = 1
    for first, mark, after in text:gmatch "()(<%d+>)()" do
      local span = known.spans[mark] or { first = known.before + first - 1 }
      span.last = known.before + after - 1
      known.spans[mark], read = span, after
    end
    known.before, known.rest = known.before + read - 1, text:sub(read)
  end
  return known.spans
end

-- "" before it, "half" within it, "all" behind it.
local function progress(flow, span)
  if not span or flow.passed <= span.first then
    return ""
  end
  return flow.passed < span.last and "half" or "all"
end

local names = {
  up = { [""] = "on its way", half = "half written" },
  down = { [""] = "written", half = "half read", all = "read" },
}

local function open_connections(self)
  local all, open = self._proxy.connections, {}
  for i = self._known + 1, #all do
    self._open[#self._open + 1] = all[i]
  end
  self._known = #all
  for _, connection in ipairs(self._open) do
    open[#open + 1] = not connection.closed and connection or nil
  end
  self._open = open
  return open
end

--- "queued" (the client has not sent it), "on its way" (no byte of it has reached the server), "half written",
--- "written" (no byte of its reply has reached the client), "half read" or "read".
function Watch:state(mark)
  for _, connection in ipairs(open_connections(self)) do
    local sent = spans_of(self, connection.up)[mark]
    if sent then
      local up = names.up[progress(connection.up, sent)]
      return up or names.down[progress(connection.down, spans_of(self, connection.down)[mark])]
    end
  end
  return "queued"
end

return M
