-- SPDX-License-Identifier: MIT
-- Scripts: sent by their digest, and whole when the server does not know it. Either way each call is one round trip,
-- but for the one that finds the server without the script.
-- Specs: regress/script_round_trips, promises/27, hosts/nginx/requests

local arg_check = require "redio.base.arg_check"
local core = require "redio.core"
local errors = require "redio.base.errors"
local handle = require "redio.chain.handle"

local M = {}

---@class redio.Script
---@field sha string the server's name for it: its SHA-1
local Script = {}
Script.__index = Script

function M.new(client, source)
  arg_check.type(source, "string", 1, "script", 2)
  return setmetatable({ sha = core.sha1(source), _client = client, _source = source }, Script)
end

--- Runs the script.
---@param keys string[]? KEYS
---@param args any[]? ARGV
---@return any its result
function Script:__call(keys, args)
  keys, args = keys or {}, args or {}
  if type(keys) == "string" then keys = { keys } end
  local db = handle.new(self._client):evalsha(self.sha, keys, args)
  local ok, value = pcall(db.await, db)
  if ok then return value end
  if not errors.is(value, "NoScriptError") then error(value, 0) end
  return handle.new(self._client):eval(self._source, keys, args):await()
end

return M
