-- SPDX-License-Identifier: MIT
-- Iterators over SCAN and its kin. The server promises that what stays there the whole time is seen at least once.
-- Specs: promises/27, client/waits, hosts/nginx/requests

local handle = require "redio.chain.handle"

local M = {}

local function check_options(opts, with_type)
  for name in pairs(opts or {}) do
    if name ~= "match" and name ~= "count" and not (with_type and name == "type") then
      error(("unknown option '%s': there are match, count%s"):format(tostring(name), with_type and ", type" or ""), 4)
    end
  end
end

local SHARED = "another coroutine waits for the next page of this iterator: an iterator is for one coroutine"

-- `step` items of each page make one turn of the loop; `fetch(handle, cursor)` queues the next page; `convert`, if
-- given, makes the second item what it is to be.
local function iterate(client, step, fetch, convert)
  local cursor, page, at = "0", {}, 0
  local started, waiting = false, false
  local function next_page()
    if waiting then error(SHARED, 3) end
    waiting = true
    local ok, reply = pcall(function()
      return fetch(handle.new(client), cursor):await()
    end)
    waiting = false
    if not ok then error(reply, 0) end
    started, cursor, page, at = true, reply[1], reply[2], 0
  end
  return function()
    while at >= #page do
      if started and cursor == "0" then return nil end
      next_page()
    end
    at = at + step
    if step == 1 then return page[at] end
    return page[at - 1], convert and convert(page[at]) or page[at]
  end
end

function M.keys(client, opts)
  check_options(opts, true)
  return iterate(client, 1, function(db, cursor)
    return db:scan(cursor, opts or {})
  end)
end

local function within(client, step, method, key, opts, convert)
  check_options(opts)
  return iterate(client, step, function(db, cursor)
    return db[method](db, key, cursor, opts or {})
  end, convert)
end

function M.fields(client, key, opts)
  return within(client, 2, "hscan", key, opts)
end

function M.members(client, key, opts)
  return within(client, 1, "sscan", key, opts)
end

function M.scored(client, key, opts)
  return within(client, 2, "zscan", key, opts, tonumber)
end

return M
