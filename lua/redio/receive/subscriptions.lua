-- SPDX-License-Identifier: MIT
-- Subscriptions of a receiver. Wanted and confirmed ones are kept apart, so that another connection can subscribe to
-- all wanted names again.
-- Specs: client/receiver, regress/subscription_taken, regress/resubscribe_refused

local core = require "redio.core"
local lua_version = require "redio.base.lua_version"

local M = {}

---@class redio.Subscriptions
---@field wanted table<string, table<string, boolean>> by kind and name
---@field confirmed table<string, table<string, boolean>>
---@field wanted_count integer
---@field confirmed_count integer
---@field unconfirmed integer confirmations that are due
---@field outgoing userdata pipeline of commands to be sent
local Subscriptions = {}
Subscriptions.__index = Subscriptions

M.KINDS = { "channel", "pattern", "shard" }

-- kind -> its commands
M.WORDS = {
  channel = { on = "SUBSCRIBE", off = "UNSUBSCRIBE" },
  pattern = { on = "PSUBSCRIBE", off = "PUNSUBSCRIBE" },
  shard = { on = "SSUBSCRIBE", off = "SUNSUBSCRIBE" },
}

-- The core expects no replies to these commands: confirmations come as pushes, one for each name.
for _, words in pairs(M.WORDS) do
  words.on_command = core.command { name = words.on, silent = true }
  words.off_command = core.command { name = words.off, silent = true }
end

-- Names in one command. LuaJIT passes at most some 8,000 arguments.
local AT_ONCE = 1000

function M.new()
  return setmetatable({
    wanted = { channel = {}, pattern = {}, shard = {} },
    confirmed = { channel = {}, pattern = {}, shard = {} },
    wanted_count = 0,
    confirmed_count = 0,
    unconfirmed = 0,
    outgoing = core.pipeline(true), -- (true: dropped with commands in it, it does not warn)
    _leaving = { channel = {}, pattern = {}, shard = {} }, -- how many confirmations of the off-command are due
  }, Subscriptions)
end

-- Sets or clears a name, and updates the count.
local function set(self, field, kind, name, is_on)
  local names = self[field][kind]
  if (names[name] or false) == is_on then return end
  names[name] = is_on or nil
  local count = field .. "_count"
  self[count] = self[count] + (is_on and 1 or -1)
end

local function queue(self, kind, is_on, names)
  local words = M.WORDS[kind]
  for first = 1, #names, AT_ONCE do
    local last = math.min(#names, first + AT_ONCE - 1)
    local ok, why = core.encode(self.outgoing, is_on and words.on_command or words.off_command,
      lua_version.unpack(names, first, last))
    if not ok then error(why, 0) end
  end
  self.unconfirmed = self.unconfirmed + #names
  if is_on then return end
  local leaving = self._leaving[kind]
  for _, name in ipairs(names) do
    leaving[name] = (leaving[name] or 0) + 1
  end
end

--- Adds names to the wanted ones, or removes them, and queues the command for that.
function Subscriptions:want(kind, is_on, names)
  for _, name in ipairs(names) do
    set(self, "wanted", kind, name, is_on)
  end
  queue(self, kind, is_on, names)
end

--- All wanted names of a kind, sorted.
function Subscriptions:names(kind)
  local names = {}
  for name in pairs(self.wanted[kind]) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- True when a name is wanted as a channel, a pattern or a shard channel.
function Subscriptions:wants(name)
  local wanted = self.wanted
  return wanted.channel[name] or wanted.pattern[name] or wanted.shard[name] or false
end

--- Forgets all confirmations. The connection is lost.
function Subscriptions:lose()
  for _, kind in ipairs(M.KINDS) do
    local confirmed = self.confirmed[kind]
    for name in pairs(confirmed) do
      confirmed[name] = nil
    end
  end
  self.confirmed_count = 0
end

--- Queues commands for all wanted names, for a new connection.
function Subscriptions:restart()
  self.outgoing:reset()
  self.unconfirmed = 0
  for _, kind in ipairs(M.KINDS) do
    self._leaving[kind] = {}
    queue(self, kind, true, self:names(kind))
  end
end

--- Removes all wanted names and queued commands.
function Subscriptions:clear()
  self.wanted, self.wanted_count = { channel = {}, pattern = {}, shard = {} }, 0
  self.outgoing:reset()
  self.unconfirmed = 0
end

-- True when the receiver has sent the off-command for that name.
local function was_asked(self, kind, name)
  local left = self._leaving[kind][name]
  if not left then return false end
  self._leaving[kind][name] = left > 1 and left - 1 or nil
  return true
end

--- Handles a confirmation. `name` is not checked: it is whatever value the server has sent.
---@return boolean was_taken the server has ended a wanted subscription by itself
function Subscriptions:confirm(kind, is_on, name)
  local is_name = type(name) == "string"
  if is_name then set(self, "confirmed", kind, name, is_on) end
  if not is_on and is_name and not was_asked(self, kind, name) then return self.wanted[kind][name] or false end
  if self.unconfirmed > 0 then self.unconfirmed = self.unconfirmed - 1 end
  return false
end

--- Queues a subscription that the server has ended again, or gives it up.
function Subscriptions:restore(kind, name, again)
  if again then queue(self, kind, true, { name }) else set(self, "wanted", kind, name, false) end
end

return M
