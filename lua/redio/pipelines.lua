-- SPDX-License-Identifier: MIT
-- Pipelines that nobody uses just now. They are lent to handles and come back when their replies are in, so that
-- a handle made for one command costs one small table.

local core = require "redio.core"

local new_pipeline = core.pipeline

local M = {}

local MOST = 1024

local free, count = {}, 0

function M.lend()
  if count == 0 then return new_pipeline() end
  local pipeline = free[count]
  free[count] = nil
  count = count - 1
  return pipeline
end

function M.recycle(pipeline)
  if count < MOST then
    count = count + 1
    free[count] = pipeline
  end
end

return M
