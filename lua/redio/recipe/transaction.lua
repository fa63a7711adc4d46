-- SPDX-License-Identifier: MIT
-- Optimistic locking: WATCH, read, queue, EXEC; and all of it again when a watched key was changed meanwhile.
-- Specs: client/transaction, hosts/nginx/requests

local arg_check = require "redio.base.arg_check"
local errors = require "redio.base.errors"
local handle = require "redio.chain.handle"
local lua_version = require "redio.base.lua_version"
local task = require "redio.task"

local M = {}

local RETRIES = 16

-- One attempt: the result of EXEC, or true when there was nothing to execute; and the server's address.
local function attempt(db, keys, fn)
  db:watch(keys):await()
  local address = db.conn.address
  fn(db)
  if not handle.opens_transaction(db) then
    if db:queued() == 0 then return true end
    handle.wrap_transaction(db)
  end
  return (db:exec():await()), address
end

local function run(client, keys, fn, retries)
  local result, address
  for _ = 0, retries do
    local db = handle.new(client)
    result, address = lua_version.with_close(db, attempt, db, keys, fn)
    if result then return result end
  end
  error(errors.new("WatchError", ("the watched keys changed each of %d times"):format(retries + 1),
    { address = address }), 0)
end

local function check_retries(opts)
  local retries = opts and opts.retries
  if retries == nil then return RETRIES end
  local is_number = type(retries) == "number"
  if not is_number or retries ~= retries or retries < 0 then
    error(("option 'retries' is a number of 0 or more, not %s"):format(is_number and retries or type(retries)), 4)
  end
  return retries
end

--- See Client:transaction.
function M.run(client, keys, fn, opts)
  if type(keys) == "string" then keys = { keys } end
  if type(keys) ~= "table" or #keys == 0 then arg_check.refuse(1, "transaction", "a key or a list of keys", keys, 1) end
  arg_check.callable(fn, 2, "transaction", 2)
  local retries = check_retries(opts)
  if not task.can_wait() then return task.block(client.transport, run, client, keys, fn, retries) end
  return run(client, keys, fn, retries)
end

return M
