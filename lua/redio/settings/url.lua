-- SPDX-License-Identifier: MIT
-- URLs: the address of the server, user and password, and options in the query. A wrong URL raises a string without a
-- position. It names the wrong part and never shows its text, since any part of a wrong URL may be a password.

local core = require "redio.core"
local messages = require "redio.base.messages"
local types = require "redio.settings.types"

local M = {}

local DEFAULT_HOST, DEFAULT_PORT = "localhost", 6379

local SCHEMES = {
  ["redis"] = {},
  ["rediss"] = { tls = true },
  ["redis+tls"] = { tls = true },
  ["redis+unix"] = { unix = true },
  ["redis-socket"] = { unix = true },
  ["unix"] = { unix = true },
  ["redis+unix+tls"] = { unix = true, tls = true },
}
local SCHEME_NAMES = "redis, rediss, redis+tls, redis+unix, unix, redis-socket, redis+unix+tls"

local function fail(message, ...)
  error("bad URL: " .. message:format(...), 0)
end

-- Percent-decodes a part. The result is never decoded again.
local function decode(part, what)
  local plain = part:gsub("%%%x%x", "")
  if plain:find("%", 1, true) then
    fail("%s has a %% without two hexadecimal digits after it; a percent sign itself is written %%25", what)
  end
  return (part:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

local function decode_or_nil(part, what)
  if part and part ~= "" then return decode(part, what) end
end

-- " 'name'" if nothing in the URL can be a password or a part of one, else "".
local function shown(name, url)
  local holds_secret = url:find("@", 1, true) or url:lower():find("pass", 1, true)
  return not holds_secret and name:find "^[a-z+_.-]+$" and " '" .. name .. "'" or ""
end

local function split_scheme(url)
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  if not scheme then return url:sub(1, 1) == "/" and SCHEMES.unix or {}, url, false end
  local found = SCHEMES[scheme:lower()]
  if not found then fail("unknown scheme%s; known are %s", shown(scheme, url), SCHEME_NAMES) end
  return found, rest, true
end

-- Splits "user:password@rest" at the last @, since a password may contain one.
local function split_user(authority, said)
  local user, rest = authority:match "^(.*)@([^@]*)$"
  if not user then return authority end
  local name, password = user:match "^([^:]*):(.*)$"
  said.username = decode_or_nil(name or user, "the user name")
  said.password = decode_or_nil(password, "the password")
  return rest
end

local function read_host(part, what)
  local host = decode(part, what)
  if not host:find "^[%w%._%-\128-\255]+$" then fail("%s has characters that no host name has", what) end
  return host
end

local function read_ip6(part)
  local host = decode(part, "the address")
  if not host:find "^[%x%.]*:[%x:%.]*$" and not host:find "^[%x%.]*:[%x:%.]*%%[%w%._%-]+$" then
    fail "between [ and ] there must be an IPv6 address, like [::1]"
  end
  return host
end

local function read_port(digits, user_given)
  local port = digits:find "^%d+$" and #digits <= 5 and tonumber(digits)
  if not port or port < 1 or port > 65535 then
    local hint = user_given and "" or " (a password ends in @: redis://:password@localhost/)"
    fail("the port must be a number from 1 to 65535%s", hint)
  end
  return port
end

-- Splits "host:port" or "[::1]:port", where either part may be missing.
local function split_host(part, said, user_given)
  local ip6, rest = part:match "^%[([^%]]*)%](.*)$"
  local host, port
  if ip6 then
    port = rest:match "^:(.*)$"
    if rest ~= "" and not port then fail "after the ] only a port may follow" end
    said.host = read_ip6(ip6)
  else
    host, port = part:match "^([^:]*):?(.*)$"
    if port:find(":", 1, true) then
      fail "more than one : after the user; an IPv6 address is written in brackets, like [::1]"
    end
    if host ~= "" then said.host = read_host(host, "the host") end
  end
  if port and port ~= "" then said.port = read_port(port, user_given) end
end

local function read_database(path)
  local digits = decode(path, "the path"):match "^/(.*)$"
  if digits == nil or digits == "" then return nil end
  if not digits:find "^%d+$" or tonumber(digits) > 2 ^ 31 - 1 then
    fail "after the host, / is followed by the number of a database, like redis://localhost/2"
  end
  return math.floor(tonumber(digits))
end

local function read_socket(path)
  local socket = decode(path, "the path")
  if socket == "" or socket == "/" then
    fail "the path of the socket is missing, as in redis+unix:///run/redis.sock"
  elseif socket:find("\0", 1, true) then
    fail "the path has a NUL in it"
  elseif #socket > core.socket_path_max then
    fail("the path of the socket has %d bytes, and a socket's can have %d at most", #socket, core.socket_path_max)
  end
  return socket
end

local function put(said, place, value)
  local field = place:match "^tls%.(.+)$"
  if field then
    said.options.tls = said.options.tls or {}
    said.options.tls[field] = value
  elseif place == "host" or place == "port" or place == "path" then
    if said.path or place == "path" and (said.host or said.port) or said[place] then
      fail("the query has a %s, and the URL itself says where the server is", place)
    end
    said[place] = value
  elseif place == "tls" then
    if said.tls and not value then fail "the scheme asks for TLS, the query for none" end
    said.tls = value
  elseif place == "username" or place == "password" or place == "database" then
    said[place] = value
  else
    said.options[place] = value
  end
end

-- Refuses an unknown option. With an @ in the query (`mistaken`) it may be the rest of a password. So may the unknown
-- option b in `?password=a&b=c`.
local function refuse_option(name, mistaken, url)
  if mistaken then fail "unknown option in the query; in a password, / ? # and %% are written %%2F %%3F %%23 %%25" end
  fail("unknown option%s in the query%s", shown(name, url), messages.did_you_mean(name, types.names))
end

local function read_query(query, said, mistaken, url)
  local given = {}
  for entry in query:gmatch "[^&]+" do
    local name, value = entry:match "^([^=]+)=(.*)$"
    if not name then fail "an entry of the query is not name=value" end
    name = decode(name, "the query")
    if not types.knows(name) then refuse_option(name, mistaken, url) end
    local ok, place, kept = pcall(types.from_text, name, decode(value, "the query"))
    if not ok then fail("%s", place) end
    if given[place] then fail("the query gives %s twice", messages.quote(place)) end
    given[place] = true
    put(said, place, kept)
  end
end

local function check_characters(url)
  if url == "" then
    fail "it is empty"
  elseif url:find "[^\32-\126\128-\255]" then
    fail "it has a control character; those are percent-encoded"
  elseif url:find("#", 1, true) then
    fail "it has a fragment (#...), which means nothing here; a # itself is written %%23"
  end
end

-- Reads the rest of a URL of a unix socket: the path and, for TLS, the name on the certificate in place of a host.
local function split_unix(host, path, scheme, said)
  if scheme.tls and host ~= "" then
    said.options.tls = { server_name = read_host(host, "the certificate's name") }
  elseif host ~= "" then
    fail "a unix socket has no host; its path needs a third slash, as in redis+unix:///run/redis.sock"
  end
  said.path = read_socket(path)
end

--- Reads a URL without defaults: `host`, `port` and `tls` are nil where it does not have them.
---@param url string
---@return table
function M.split(url)
  if type(url) ~= "string" then
    local hint = type(url) == "table" and "; options are the second argument: Redis(nil, {...})" or ""
    fail("it must be a string, got %s%s", type(url), hint)
  end
  check_characters(url)
  local scheme, rest, has_scheme = split_scheme(url)
  local authority, path, mark, query = rest:match "^([^/?]*)([^?]*)(%??)(.*)$"
  local said = { tls = scheme.tls, options = {} }
  local host = split_user(authority, said)
  local user_given = host ~= authority
  if scheme.unix or not has_scheme and user_given and host == "" and path ~= "" then
    split_unix(host, path, scheme, said)
  else
    split_host(host, said, user_given)
    said.database = read_database(path)
  end
  if mark == "?" then read_query(query, said, query:find("@", 1, true) ~= nil, url) end
  if said.options.tls and not said.tls then fail "the options of TLS need TLS: rediss://" end
  return said
end

--- Reads a URL with defaults. `host` and `port` are nil for a unix socket. `username`, `password` and `database` are
--- nil where the URL does not have them. `options` has the other options of the query, converted to their types.
---@param url? string default: redis://localhost/
---@return table parts {host, port, path, tls, username, password, database, options}
function M.parse(url)
  local said = url == nil and { options = {} } or M.split(url)
  if not said.path then
    said.host = said.host or DEFAULT_HOST
    said.port = said.port or DEFAULT_PORT
  end
  said.tls = said.tls or false
  return said
end

M.DEFAULT_HOST, M.DEFAULT_PORT = DEFAULT_HOST, DEFAULT_PORT

return M
