-- SPDX-License-Identifier: MIT
-- The list parts of handles and clients, which the core reads: see src/lhandle.c.
-- Specs: client/fast_paths, client/handle

return {
  -- of a handle
  CLIENT = 1,
  PIPELINE = 2, -- the queued commands; false: none; BUSY while a coroutine waits for their results
  IS_SET = 3, -- true: the next await has to go through Lua
  -- of a client
  CORE = 1, -- the core of the shared connection while chains may be submitted to it, else false
  WAITERS = 2, -- the waiters of that connection
}
