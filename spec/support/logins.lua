-- SPDX-License-Identifier: MIT
-- Logins of every kind, as data for any host, and the outcome of one.

local M = {}

M.SECRET = "hidden-by-all-means"
M.GREETING = "greeting" -- the key that an awaiting on_connect reads

-- The options of a login by name. Some cost waits, for the database, the name and on_connect: see `waits`.
M.wanted = {
  { name = "nothing" },
  { name = "a password", password = true },
  { name = "a user and a password", user = "bob", password = true },
  { name = "a database", database = 3 },
  { name = "a name", client_name = "walker" },
  { name = "an on_connect that awaits", awaits = true },
  { name = "all of that", user = "bob", password = true, database = 3, client_name = "walker", awaits = true },
}

--- The options of a client that wants that.
function M.options(wanted, protocol)
  return {
    protocol = protocol, username = wanted.user, password = wanted.password and M.SECRET or nil,
    database = wanted.database, client_name = wanted.client_name, awaits = wanted.awaits,
    retry = false, timeout = 5, connect_timeout = 3,
  }
end

--- The settings of spec.support.generation_server for it.
function M.settings(wanted)
  local settings = {}
  if wanted.user then
    settings.users = { [wanted.user] = { password = M.SECRET } }
    settings.password = M.SECRET -- (before 6 there is no other user)
  elseif wanted.password then
    settings.password = M.SECRET
  end
  return settings
end

-- Logins that go wrong, and the kind of their error. `sent` is the error's field for the user's command. It is "no"
-- where the login itself is refused: then the server must not have seen the command. Else the server has refused it.
M.unwanted = {
  { name = "a wrong password", options = { password = "wrong" .. M.SECRET }, settings = { password = M.SECRET },
    kind = "AuthError", sent = "no" },
  { name = "a wrong user", options = { username = "nobody", password = "wrong" .. M.SECRET },
    settings = { password = M.SECRET }, kind = "AuthError", sent = "no" },
  { name = "a password where none is set", options = { password = M.SECRET }, settings = {},
    kind = "AuthError", sent = "no", but = "default" },
  { name = "no password where one is set", options = {}, settings = { password = M.SECRET },
    kind = "AuthError", sent = "either" },
  { name = "a database that it does not have", options = { database = 16 }, settings = {},
    kind = "ReplyError", sent = "no" },
  { name = "no room", options = {}, settings = { condition = "full" }, kind = "MaxClientsError", sent = "no" },
  { name = "protected mode", options = {}, settings = { condition = "protected" },
    kind = "ProtectedModeError", sent = "no" },
  { name = "loading", options = {}, settings = { condition = "loading" }, kind = "LoadingError", sent = "yes" },
  { name = "a replica without its master", options = {}, settings = { condition = "masterdown" },
    kind = "MasterDownError", sent = "yes" },
}

-- Commands of a login that may be refused without harm.
M.harmless = {
  { name = "CLIENT SETINFO is denied", denied = "client|setinfo" },
  { name = "HELLO is denied", denied = "hello" },
  { name = "RESP3 is not spoken", only_resp2 = true },
}

--- How often a client has to wait before it may send what its user wants: once for HELLO, with all that it says
--- besides; without it, once for each AUTH, and once for name and database.
function M.waits(wanted, protocol, has_hello, has_users)
  local waits = wanted.awaits and 2 or 0 -- on_connect has two chains
  if protocol == 3 then waits = waits + 1 end
  if protocol == 3 and has_hello then return waits end
  if wanted.password then waits = waits + (wanted.user and not has_users and 2 or 1) end
  return waits + ((wanted.database or wanted.client_name) and 1 or 0)
end

-- The client ------------------------------------------------------------------------------------------------

local unpack = table.unpack or unpack -- luacheck: ignore
local ROUNDS, TASKS = 3, 4

local function same(wanted, got)
  if got ~= wanted then error(("PAIRING: %s for %s"):format(tostring(got), wanted), 0) end
end

local function ask(redis, database, token)
  local echo, value, pong = redis():echo("e" .. token):get("k" .. token):ping("p" .. token):await()
  same("e" .. token, echo)
  same(("k%s of %d"):format(token, database), value)
  same("p" .. token, pong)
end

-- On connections of every kind: the shared one, by several at once; a private one; a receiver's.
local function traffic(redio, redis, database)
  local tasks = {}
  for i = 1, TASKS do
    tasks[i] = function()
      for round = 1, ROUNDS do
        ask(redis, database, i .. "." .. round)
      end
      return true
    end
  end
  redio.gather(unpack(tasks))
  local private = redis:connection()
  same("mine", (private:echo "mine":await()))
  same("again of " .. database, (private:get "again":await()))
  private:close()
  local receiver = redis:pubsub "news"
  same("on news", receiver:await())
  receiver:close()
end

--- Logs in and works; returns "well", or the kind of the error and its text.
---@param redio table
---@param url string
---@param options table
---@return string outcome
function M.try(redio, url, options)
  local database = options.database or 0
  local taken = {}
  for key, value in pairs(options) do
    taken[key] = value
  end
  if taken.awaits then
    taken.on_connect = function(db)
      same(("%s of %d"):format(M.GREETING, database), (db:get(M.GREETING):await()))
      same(M.GREETING, (db:echo(M.GREETING):get(M.GREETING):await()))
    end
  end
  taken.awaits, taken.only_get = nil, nil
  local redis = redio.Redis(url, taken)
  local ok, err
  if options.only_get then
    ok, err = pcall(function() redis():get "k":await() end)
  else
    ok, err = pcall(traffic, redio, redis, database)
  end
  redis:close { drain = 0 }
  if ok then return "well" end
  if not redio.errors.is(err) then return tostring(err) end
  return ("%s %s: %s"):format(err.kind, err.sent or "-", tostring(err))
end

return M
