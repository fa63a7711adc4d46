-- SPDX-License-Identifier: MIT
-- Walks of a host through logins of every kind. `try(url, options)` logs in there, as spec.support.logins does, and
-- returns the same. A walk returns a line for each finding.

local redio = require "redio"
local generation_server = require "spec.support.generation_server"
local logins = require "spec.support.logins"

local unpack = table.unpack or unpack -- luacheck: ignore

local M = {}

local AT_ONCE = 6

local function shown(value)
  return value == nil and "none" or tostring(value)
end

-- Compares the session at the first command of its user with the wanted one.
local function look_at(session, wanted, protocol, generation, add)
  local first = session.first
  if not first then return end
  local function compare(what, expected, got)
    if expected ~= got then add(("%s is %s, not %s"):format(what, shown(got), shown(expected))) end
  end
  local speaks = protocol == 3 and generation:has_hello() and 3 or 2
  compare("the protocol", speaks, first.protocol)
  compare("the user", generation:has_users() and wanted.user or "default", first.user)
  compare("the database", wanted.database or 0, first.database)
  compare("the name", wanted.client_name, first.name)
  if speaks == 3 and generation:has_setinfo() then
    compare("the library", "redio", session.library["lib-name"])
    compare("its version", require "redio.base.version", session.library["lib-ver"])
  end
end

local function look_at_waits(session, wanted, protocol, generation, add)
  local waits, for_setinfo = generation_server.waits(session)
  local most = logins.waits(wanted, protocol, generation:has_hello(), generation:has_users())
  if waits > most then add(("%d waits for the login, %d are enough"):format(waits, most)) end
  if session.delivery == "late" and for_setinfo then add "the answer to CLIENT SETINFO is waited for" end
end

local function one_login(generation, wanted, protocol, delivery, try, lines)
  local settings = logins.settings(wanted)
  settings.delivery = delivery
  local server = generation_server.start(generation, settings)
  local function add(text)
    lines[#lines + 1] = ("%s, RESP%d, %s, %s: %s"):format(generation.name, protocol, wanted.name, delivery, text)
  end
  local outcome = try(server.url, logins.options(wanted, protocol))
  if outcome ~= "well" then add(outcome) end
  local served = 0
  for _, session in ipairs(server.sessions) do
    served = served + (session.first and 1 or 0)
    look_at(session, wanted, protocol, generation, add)
    look_at_waits(session, wanted, protocol, generation, add)
  end
  if outcome == "well" and served < 2 then add(served .. " connections were used") end
  server:stop()
end

-- Calls `fn` with each item, several at once.
local function each(items, fn)
  local at, tasks = 0, {}
  for i = 1, AT_ONCE do
    tasks[i] = redio.spawn(function()
      while at < #items do
        at = at + 1
        fn(unpack(items[at]))
      end
    end)
  end
  for i = 1, AT_ONCE do
    tasks[i]:await()
  end
end

--- All that may be wanted of a login, under both protocols, answered in every way.
---@param generation table
---@param try fun(url: string, options: table): string
---@return string[] lines
function M.logins(generation, try)
  local items, lines = {}, {}
  for _, wanted in ipairs(logins.wanted) do
    for protocol = 2, 3 do
      for _, delivery in ipairs { "whole", "bytes", "late" } do
        if delivery ~= "late" or protocol == 3 and generation:has_setinfo() then
          items[#items + 1] = { wanted, protocol, delivery }
        end
      end
    end
  end
  each(items, function(wanted, protocol, delivery)
    one_login(generation, wanted, protocol, delivery, try, lines)
  end)
  return lines
end

local function one_refusal(generation, case, protocol, try, lines)
  local server = generation_server.start(generation, case.settings)
  local function add(text)
    lines[#lines + 1] = ("%s, RESP%d, %s: %s"):format(generation.name, protocol, case.name, text)
  end
  local options = { protocol = protocol, retry = false, timeout = 5, connect_timeout = 3, only_get = true }
  for name, value in pairs(case.options) do
    options[name] = value
  end
  local outcome = try(server.url, options)
  -- HELLO AUTH takes any password of a user that has none
  local expected = case.but and protocol == 3 and generation:has_users() and "well" or case.kind
  if expected ~= "well" and case.sent == "no" and (next(case.options) or protocol == 3 and generation:has_hello()) then
    expected = expected .. " no" -- the login itself is refused
  end
  if outcome:sub(1, #expected) ~= expected then add(outcome .. ", not " .. expected) end
  if outcome:find("withheld", 1, true) then add("the reason is kept from the user: " .. outcome) end
  if outcome:find(logins.SECRET, 1, true) then add("it tells the password: " .. outcome) end
  local reached = false
  for _, session in ipairs(server.sessions) do
    reached = reached or session.first ~= nil
  end
  if expected ~= "well" and case.sent ~= "either" and reached ~= (case.sent == "yes") then
    add(reached and "the command was sent" or "the command was not sent")
  end
  if #server.sessions > 2 then add(#server.sessions .. " connections") end
  server:stop()
end

--- All that may go wrong with a login, under both protocols.
function M.refusals(generation, try)
  local items, lines = {}, {}
  for _, case in ipairs(logins.unwanted) do
    for protocol = 2, 3 do
      items[#items + 1] = { case, protocol }
    end
  end
  each(items, function(case, protocol)
    one_refusal(generation, case, protocol, try, lines)
  end)
  return lines
end

local function one_denial(generation, case, try, lines)
  local wanted = { user = "bob", password = true, database = 3, client_name = "walker", awaits = true }
  local settings = logins.settings(wanted)
  settings.only_resp2 = case.only_resp2
  if case.denied then
    -- (HELLO is asked of the user that one is before it)
    settings.password, settings.users.default = nil, { denied = { [case.denied] = true } }
    settings.users.bob.denied = settings.users.default.denied
  end
  local server = generation_server.start(generation, settings)
  local outcome = try(server.url, logins.options(wanted, 3))
  local function add(text)
    lines[#lines + 1] = ("%s, %s: %s"):format(generation.name, case.name, text)
  end
  if outcome ~= "well" then add(outcome) end
  for _, session in ipairs(server.sessions) do
    local first = session.first
    if first and not (first.database == 3 and first.name == "walker") then add "the session is not as it was wanted" end
  end
  server:stop()
end

--- Commands of the login that servers may refuse without harm.
function M.denials(generation, try)
  local items, lines = {}, {}
  for _, case in ipairs(logins.harmless) do
    if generation:has_users() then items[#items + 1] = { case } end
  end
  each(items, function(case)
    one_denial(generation, case, try, lines)
  end)
  return lines
end

M.parts = {
  { name = "logins of every kind", walk = M.logins },
  { name = "logins that are refused", walk = M.refusals },
  { name = "refusals without harm", walk = M.denials },
}

return M
