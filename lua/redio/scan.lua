-- SPDX-License-Identifier: MIT
-- Iterators over SCAN and its kin. The server promises that what stays there the whole time is seen at least once.

local handle = require "redio.handle"

local M = {}

local function check_options(opts, with_type)
  for name in pairs(opts or {}) do
    if name ~= "match" and name ~= "count" and not (with_type and name == "type") then
      error(("unknown option '%s': there are match, count%s"):format(tostring(name), with_type and ", type" or ""), 4)
    end
  end
end

-- `step` items of each page make one turn of the loop; `fetch(handle, cursor)` queues the next page.
local function iterate(client, step, fetch)
  local cursor, page, at = "0", {}, 0
  local started = false
  return function()
    while at >= #page do
      if started and cursor == "0" then return nil end
      started = true
      local reply = fetch(handle.new(client), cursor):await()
      cursor, page, at = reply[1], reply[2], 0
    end
    at = at + step
    return page[at - step + 1], step == 2 and page[at] or nil
  end
end

function M.keys(client, opts)
  check_options(opts, true)
  return iterate(client, 1, function(db, cursor)
    return db:scan(cursor, opts or {})
  end)
end

local function within(client, step, method, key, opts)
  check_options(opts)
  return iterate(client, step, function(db, cursor)
    return db[method](db, key, cursor, opts or {})
  end)
end

function M.fields(client, key, opts)
  return within(client, 2, "hscan", key, opts)
end

function M.members(client, key, opts)
  return within(client, 1, "sscan", key, opts)
end

function M.scored(client, key, opts)
  local next_pair = within(client, 2, "zscan", key, opts)
  return function()
    local member, score = next_pair()
    if member ~= nil then return member, tonumber(score) end
  end
end

return M
