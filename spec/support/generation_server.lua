-- SPDX-License-Identifier: MIT
-- A server of any generation, in the luv loop of the spec itself. It answers logins as spec.support.generations has
-- them, then ECHO, PING, GET (the value tells the key) and SUBSCRIBE (a confirmation and one message). It records each
-- session, and how often the client waited for an answer.
--
-- `delivery` is how answers leave. "whole": the answers to one read in one write. "bytes": each byte in a read of its
-- own. "late": the answer to CLIENT SETINFO, and all behind it, 50 ms after another command has come.

local uv = require "luv"
local fake = require "spec.support.fake"
local generations = require "spec.support.generations"
local logins = require "spec.support.logins"
local loop_turns = require "spec.support.loop_turns"

local bulk, list_of = generations.bulk, generations.list_of

local M = {}

local LATE, NEVER = 50, 1000 -- milliseconds

-- delivery ------------------------------------------------------------------------------------------------

local pump

local function write_bytes(session, bytes)
  session.connection:write(bytes:sub(1, 1))
  loop_turns.next(function()
    if #bytes > 1 then return write_bytes(session, bytes:sub(2)) end
    session.writing = false
    pump(session)
  end)
end

-- Writes what is due.
function pump(session)
  if session.writing then return end
  local ready, count = {}, 0
  for _, answer in ipairs(session.outbox) do
    if answer.due > uv.now() then break end
    count = count + 1
    ready[count] = answer.bytes
  end
  for _ = 1, count do
    table.remove(session.outbox, 1)
  end
  local bytes = table.concat(ready)
  local first = session.outbox[1]
  if count == 0 and first then
    session.timer = session.timer or uv.new_timer()
    session.timer:unref()
    session.timer:start(math.max(1, first.due - uv.now()), 0, function()
      pump(session)
    end)
  end
  if bytes == "" then return end
  if session.delivery == "bytes" then
    session.writing = true
    return write_bytes(session, bytes)
  end
  session.connection:write(bytes)
  if first then pump(session) end
end

local function send(session, bytes, delay)
  session.outbox[#session.outbox + 1] = { bytes = bytes, due = uv.now() + (delay or 0) }
  if session.flushing then return end
  session.flushing = true
  loop_turns.next(function() -- behind all that came in the same read
    session.flushing = false
    pump(session)
  end)
end

-- commands ------------------------------------------------------------------------------------------------

local LOGIN = { HELLO = true, AUTH = true, SELECT = true, CLIENT = true }

local function matches(server, user, password)
  local known = server.users[user]
  return known ~= nil and (known.password == nil or known.password == password)
end

local function log_in(session, user)
  session.user = user
end

local commands = {}

function commands.HELLO(server, session, words)
  local generation = server.generation
  local protocol, at = tonumber(words[2] or session.protocol), 3
  if protocol ~= 2 and (protocol ~= 3 or server.only_resp2) then return generations.NO_PROTOCOL end
  local name
  while words[at] do
    if words[at]:upper() == "AUTH" and words[at + 2] then
      if not matches(server, words[at + 1], words[at + 2]) then return generation:wrong_password() end
      log_in(session, words[at + 1])
      at = at + 3
    elseif words[at]:upper() == "SETNAME" and words[at + 1] then
      name = words[at + 1]
      if name:find "[^!-~]" then return generations.BAD_NAME end
      at = at + 2
    else
      return ("-ERR Syntax error in HELLO option '%s'\r\n"):format(words[at])
    end
  end
  if not session.user then return generation:hello_needs_password() end
  session.protocol, session.name = protocol, name or session.name
  return generation:hello(protocol, session.id, server.condition == "masterdown" and "replica" or "master")
end

function commands.AUTH(server, session, words)
  local generation = server.generation
  if #words == 3 and generation:has_users() then
    if not matches(server, words[2], words[3]) then return generation:wrong_password() end
    log_in(session, words[2])
    return "+OK\r\n"
  elseif #words ~= 2 then
    return generation:has_users() and "-ERR syntax error\r\n" or generations.wrong_number "auth"
  elseif not server.users.default.password then
    return generation:needless_password()
  elseif not matches(server, "default", words[2]) then
    return generation:wrong_password()
  end
  log_in(session, "default")
  return "+OK\r\n"
end

function commands.SELECT(_, session, words)
  local database = tonumber(words[2])
  if not database or database > 15 then return generations.NO_DATABASE end
  session.database = database
  return "+OK\r\n"
end

local client = {}

function client.SETNAME(_, session, words)
  if words[3]:find "[^!-~]" then return generations.BAD_NAME end
  session.name = words[3]
  return "+OK\r\n"
end

function client.SETINFO(_, session, words)
  local field = words[3]:lower()
  if field ~= "lib-name" and field ~= "lib-ver" then return ("-ERR Unrecognized option '%s'\r\n"):format(words[3]) end
  if words[4]:find "[^!-~]" then
    return ("-ERR %s cannot contain spaces, newlines or special characters.\r\n"):format(words[3])
  end
  session.library[field] = words[4]
  return "+OK\r\n"
end

function commands.CLIENT(server, session, words)
  return client[words[2]:upper()](server, session, words)
end

function commands.PING(_, _, words)
  return words[2] and bulk(words[2]) or "+PONG\r\n"
end

function commands.ECHO(_, _, words)
  return bulk(words[2])
end

function commands.GET(_, session, words)
  return bulk(("%s of %d"):format(words[2], session.database))
end

function commands.SUBSCRIBE(_, session, words)
  local mark = session.protocol == 3 and ">" or "*"
  local answers = {}
  for i = 2, #words do
    answers[#answers + 1] = list_of({ bulk "subscribe", bulk(words[i]), (":%d\r\n"):format(i - 1) }, mark)
    answers[#answers + 1] = list_of({ bulk "message", bulk(words[i]), bulk("on " .. words[i]) }, mark)
  end
  return table.concat(answers)
end

function commands.QUIT()
  return "+OK\r\n"
end

-- A command's name as ACLs write it.
local function full_name(words)
  local name = words[1]:upper()
  return (name == "CLIENT" and name .. "|" .. words[2] or name):lower()
end

local function is_known(generation, name, words)
  if not commands[name] or name == "HELLO" and not generation:has_hello() then
    return generation:unknown_command(words)
  end
  if name ~= "CLIENT" then return end
  local subcommand = words[2]:upper()
  if not client[subcommand] or subcommand == "SETINFO" and not generation:has_setinfo() then
    -- (before 7 that is known only when the command runs)
    return generation:unknown_subcommand(words), generation.since < 7
  end
end

-- The error reply to a command that the ACL of its user denies, or false.
local function is_denied(server, session, words)
  local user = server.users[session.user]
  local name = full_name(words)
  local denied = user.denied and user.denied[name]
  if name == "hello" and not server.generation:guards_hello() then denied = false end
  return denied and server.generation:no_permission(session.user, name)
end

local NEVER_STALE = { GET = true, SUBSCRIBE = true }

local function answer(server, session, words)
  local generation = server.generation
  local name = words[1]:upper()
  local unknown, when_run = is_known(generation, name, words)
  if unknown and not when_run then return unknown end
  local free = name == "HELLO" or name == "AUTH" or name == "QUIT"
  if not session.user and not free then return generations.NEEDS_PASSWORD end
  local denied = session.user and name ~= "AUTH" and is_denied(server, session, words)
  if denied then return denied end
  if server.condition == "masterdown" and NEVER_STALE[name] then return generations.MASTER_IS_DOWN end
  if server.condition == "loading" and not LOGIN[name] then return generation:loading() end
  return unknown or commands[name](server, session, words)
end

-- sessions ------------------------------------------------------------------------------------------------

local function is_setinfo(words)
  return full_name(words) == "client|setinfo"
end

-- Something else was asked: what was held back until then is due soon.
local function release(session)
  if not session.held then return end
  session.held = false
  for _, one in ipairs(session.outbox) do
    if one.held then one.due = uv.now() + LATE end
  end
  pump(session)
end

local function receive(server, session, words)
  if #session.outbox == 0 and not session.writing then session.waits = session.waits + 1 end
  local is_login = LOGIN[words[1]:upper()] or words[2] == logins.GREETING or false
  session.requests[#session.requests + 1] = { words = words, wait = session.waits, is_login = is_login }
  if not is_login and not session.first then
    session.first = { user = session.user, database = session.database, name = session.name, wait = session.waits,
      protocol = session.protocol }
  end
  local bytes = answer(server, session, words)
  if is_setinfo(words) and session.delivery == "late" then
    session.held = true
    send(session, bytes, NEVER)
    session.outbox[#session.outbox].held = true
  else
    release(session)
    send(session, bytes)
  end
  if words[1]:upper() == "QUIT" then session.connection:close() end
end

local function begin(server, connection)
  local session = {
    connection = connection, id = #server.sessions + 1, protocol = 2, database = 0, library = {}, waits = 0,
    user = not server.users.default.password and "default" or nil,
    delivery = server.delivery, outbox = {}, requests = {},
  }
  server.sessions[session.id] = session
  connection.session = session
  local refusal = server.condition == "full" and generations.NO_ROOM
    or server.condition == "protected" and server.generation:denied()
  if refusal then
    connection:write(refusal)
    connection:close()
  end
end

local Server = {}
Server.__index = Server

--- How often the client waited for an answer of the login before the first command of its user left. A wait for CLIENT
--- SETINFO is needless and is counted by itself. It is certain only where that answer is late.
---@return integer waits
---@return boolean for_setinfo
function M.waits(session)
  local first = session.first and session.first.wait or math.huge
  local seen, waits, for_setinfo, told = {}, 0, false, nil
  for _, request in ipairs(session.requests) do
    if is_setinfo(request.words) then
      told = request.wait
    else
      for_setinfo = for_setinfo or told ~= nil and request.wait > told
      told = nil
      if request.is_login and request.wait < first and not seen[request.wait] then
        seen[request.wait], waits = true, waits + 1
      end
    end
  end
  return waits, for_setinfo
end

--- Starts one. `settings`: password, of the default user; users = {name = {password =, denied = {command = true}}};
--- delivery; only_resp2; condition = "loading", "masterdown", "full" or "protected".
---@param generation table
---@param settings? table
---@return table server {url, sessions}
function M.start(generation, settings)
  settings = settings or {}
  local self = setmetatable({
    generation = generation, sessions = {}, delivery = settings.delivery or "whole",
    condition = settings.condition, only_resp2 = settings.only_resp2,
    users = { default = { password = settings.password } },
  }, Server)
  for name, user in pairs(settings.users or {}) do
    self.users[name] = user
  end
  self._fake = fake.start(function(connection, words)
    receive(self, connection.session, words)
  end, { protocol = false, on_accept = function(connection)
    begin(self, connection)
  end })
  self.url = self._fake.url
  return self
end

--- Closes everything. May be called again.
function Server:stop()
  for _, session in ipairs(self.sessions) do
    if session.timer and not session.timer:is_closing() then session.timer:close() end
  end
  self._fake:stop()
end

return M
