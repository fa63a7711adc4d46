-- SPDX-License-Identifier: MIT
-- count_redio.lua WHAT N: does N operations, for callgrind to count their instructions.
--
-- Replies come from this program and not from a server, in pieces that are always the same. A server's pieces vary with
-- the amount that it has read.

local core = require "redio.core"
local luv = require "redio.transport.luv"
local redio = require "redio"

local what, n = arg[1], tonumber(arg[2])
local CHAIN = 1000
local COMMAND, REPLY = "*2\r\n$3\r\nGET\r\n$4\r\nv:32\r\n", "$32\r\n" .. ("v"):rep(32) .. "\r\n"

-- The pieces in which libuv reads a number of replies: up to 64 KiB each. (They are kept, so that making them again
-- does not count.)
local pieces = {}

local function answer(count, on_data)
  local list = pieces[count]
  if not list then
    local bytes = REPLY:rep(count)
    list = {}
    for from = 1, #bytes, 65536 do
      list[#list + 1] = bytes:sub(from, from + 65535)
    end
    pieces[count] = list
  end
  for i = 1, #list do
    on_data(list[i])
  end
end

-- A transport with a socket to a server that answers GETs.
local Socket = {}
Socket.__index = Socket

function Socket:write(data)
  local count = #data / #COMMAND
  assert(data:sub(1, #COMMAND) == COMMAND and count == math.floor(count), data)
  luv.defer(function()
    answer(count, self.on_data)
  end)
end

function Socket:read_start(on_data)
  self.on_data = on_data
end

function Socket.unwritten()
  return 0
end

function Socket.read_stop() end
function Socket.counts() end
function Socket.close() end

local transport = setmetatable({}, { __index = luv })

function transport.connect(_, done)
  luv.defer(function()
    done(setmetatable({}, Socket))
  end)
  return { cancel = function() end }
end

-- (with protocol 2 there is no HELLO)
local redis = redio.Redis(nil, { transport = transport, protocol = 2 })

local counted = {}

-- Queueing a command.
function counted.encode()
  local db = redis()
  for _ = 1, n / CHAIN do
    for _ = 1, CHAIN do
      db:get "v:32"
    end
    db:clear()
  end
end

-- Making a value of a reply.
function counted.decode()
  local decoder = core.decoder()
  for _ = 1, n / CHAIN do
    answer(CHAIN, function(bytes)
      decoder:feed(bytes)
    end)
    for _ = 1, CHAIN do
      local _, value = decoder:next()
      assert(#value == 32)
    end
  end
end

-- A GET of a chain of 1000.
function counted.get()
  for _ = 1, n / CHAIN do
    local db = redis()
    for _ = 1, CHAIN do
      db:get "v:32"
    end
    local results = { db:await() }
    assert(#results == CHAIN and #results[1] == 32)
  end
end

-- A GET of one of 1000 coroutines, with a new handle.
function counted.coroutines()
  local tasks = {}
  for i = 1, CHAIN do
    tasks[i] = redio.spawn(function()
      for _ = 1, n / CHAIN do
        assert(#redis():get("v:32"):await() == 32)
      end
    end)
  end
  for i = 1, CHAIN do
    tasks[i]:await()
  end
end

redio.run(counted[what])
