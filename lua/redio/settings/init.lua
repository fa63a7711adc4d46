-- SPDX-License-Identifier: MIT
-- Combines a URL and a table of options into one table of settings that has a value for each option.

local messages = require "redio.base.messages"
local types = require "redio.settings.types"
local url = require "redio.settings.url"

local M = {}

--- The defaults. Durations are seconds.
M.defaults = {
  database = 0,
  protocol = 3, -- 2 where the server has no HELLO
  tls = false,
  connect_timeout = 5, -- name, TCP, TLS and handshake together
  timeout = 30,
  max_connections = 64,
  max_receivers = 1024,
  min_connections = 0,
  pool_timeout = 20,
  multiplex = true,
  retry = true,
  health_check_interval = false,
  decode = "none",
  queue_limit = 1000, -- messages of a receiver
  max_queued_bytes = 64 * 1024 * 1024, -- submitted and not yet taken by the socket; beyond it, callers wait
}

-- Attempts after the first, and the bounds of the pause between them. With 500 clients and a server that is away for
-- 10 s, no tenth of a second has more than a tenth of all connects, or of the connects after the server's return.
local RETRY = { max = 3, base = 0.15, cap = 3 }

local TLS = { verify = true, min_version = "1.2" }

local function fail(message)
  error(message, 0)
end

local function overlay(...)
  local result = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...))) do
      result[name] = value
    end
  end
  return result
end

-- Checks the table of options, and replaces aliases. Returns `tls` as true, false or nil, and its fields apart.
local function read_table(options)
  if type(options) ~= "table" then fail("the options must be a table, got " .. type(options)) end
  local said, tls, given = {}, {}, {}
  for name, value in pairs(options) do
    local place, kept = types.from_value(name, value)
    if given[place] then fail("options '" .. given[place] .. "' and '" .. name .. "' are the same") end
    given[place] = name
    local field = place:match "^tls%.(.+)$"
    if field then
      tls[field] = kept
    else
      said[place] = kept
    end
  end
  if type(said.tls) == "table" then
    said.tls, tls = true, overlay(said.tls, tls)
  elseif next(tls) ~= nil then
    if said.tls == false then fail "tls is false, and there are options of TLS" end
    said.tls = true
  end
  return said, tls
end

-- Refuses a path beside a host or a port.
local function check_place(from_url, from_table)
  local url_tcp = from_url.host or from_url.port
  local table_tcp = from_table.host or from_table.port
  if from_table.path and (table_tcp or url_tcp) or from_url.path and table_tcp then
    fail "host or port and path contradict each other: a server is at one of them"
  end
end

local function settle_tls(settings, fields)
  if not settings.tls then return false end
  local tls = overlay(TLS, fields)
  if tls.key and not tls.cert then fail "tls.key is the key of a certificate: tls.cert is missing" end
  if settings.path and tls.verify and not tls.server_name then
    fail "TLS over a unix socket needs the name on the certificate: redis+unix+tls://name/path or tls.server_name"
  end
  return tls
end

local function settle_retry(retry)
  if not retry then return false end
  local settled = overlay(RETRY, retry == true and {} or retry)
  if settled.base > settled.cap then fail "option 'retry': base must not be more than cap" end
  return settled
end

local function settle_timeout(settings)
  local timeout, default = settings.timeout, M.defaults.timeout
  if type(timeout) ~= "table" then timeout = { read = timeout, write = timeout } end
  timeout = overlay({ read = default, write = default }, timeout)
  settings.read_timeout, settings.write_timeout = timeout.read, timeout.write
end

-- An empty string, as an unset variable of the environment gives it, means none. A user without a password logs in with
-- an empty one, which the server accepts only for a user that needs none.
local function settle_user(settings)
  if settings.username == "" then settings.username = nil end
  if settings.username then
    settings.password = settings.password or ""
  elseif settings.password == "" then
    settings.password = nil
  end
end

local function settle_place(settings)
  if settings.path then
    settings.address = messages.printable(settings.path)
  else
    settings.host = (settings.host or url.DEFAULT_HOST):gsub("^%[(.*)%]$", "%1")
    settings.port = settings.port or url.DEFAULT_PORT
    settings.address = M.address(settings.host, settings.port)
  end
  settings.seeds = {
    { host = settings.host, port = settings.port, path = settings.path, address = settings.address },
  }
end

local function settle(settings, tls_fields)
  settle_place(settings)
  settings.tls = settle_tls(settings, tls_fields)
  settings.retry = settle_retry(settings.retry)
  settle_timeout(settings)
  settings.decode_mode = type(settings.decode) == "function" and "fn" or settings.decode
  settle_user(settings)
  if settings.min_connections > settings.max_connections then
    fail("option 'min_connections' must not be more than max_connections (" .. settings.max_connections .. ")")
  end
  return settings
end

local function combine(where, options)
  local from_table, table_tls = read_table(options == nil and {} or options)
  local from_url = where == nil and { options = {} } or url.split(where)
  check_place(from_url, from_table)
  local parts, from_query = overlay(from_url), overlay(from_url.options)
  local url_tls = from_query.tls or {}
  parts.options, from_query.tls = nil, nil
  if from_url.tls and from_table.tls == false then fail "the URL asks for TLS, the options for none" end
  local settings = overlay(M.defaults, from_table, from_query, parts)
  return settle(settings, overlay(table_tls, url_tls))
end

--- The address of a server for messages.
---@param host string
---@param port integer
---@return string
function M.address(host, port)
  host = messages.printable(host)
  return (host:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(host, port)
end

--- The settings of a client: every option or its default, `address` (for messages), `decode_mode` ("none", "str",
--- "auto", or "fn" when `decode` is a function), `read_timeout` and `write_timeout`, and `seeds`, a list of the servers
--- to begin with, each {host, port, path, address}. `tls` is false or a table, `retry` is false or {max, base, cap}.
--- The URL takes precedence over the table. The table is copied.
---@param where? string a URL
---@param options? table
---@param level? integer as in `error`: 1 is this function, 2 (the default) its caller
---@return table
function M.resolve(where, options, level)
  local ok, settings = pcall(combine, where, options)
  if not ok then error(settings, level or 2) end
  return settings
end

return M
