-- SPDX-License-Identifier: MIT
-- redio, the Redis client for Lua: the public face, and nothing else.
-- Specs: client/ancestor, tree/annotations

local client = require "redio.client"
local core = require "redio.core"
local errors = require "redio.base.errors"
local gather = require "redio.task.gather"
local task = require "redio.task"
local url = require "redio.settings.url"
local version = require "redio.base.version"

---@type redio see meta/contract.lua
local M = {
  _VERSION = "redio " .. version,
  Redis = client.new,
  run = task.run,
  spawn = task.spawn,
  gather = gather.gather,
  sleep = task.sleep,
  with_timeout = task.with_timeout,
  on_uncaught = task.on_uncaught,
  parse_url = url.parse,
  null = core.null,
  strencode = core.strencode,
  errors = errors,
}

return M
