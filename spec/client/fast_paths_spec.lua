-- SPDX-License-Identifier: MIT
-- The fast path of a handle gives what its slow path gives, at random: methods that the core queues (core.queuer) and
-- an await that the core submits (core.send), beside `call` and a chain on a private connection, which are Lua's.
-- The fast paths below it are in spec/unit/fast_paths_spec.lua.

local redio = require "redio"
local random_numbers = require "spec.support.random"
local server = require "spec.support.server"

local ROUNDS = 150
local unpack = table.unpack or unpack

local TASKS = 4 -- at once, so that a chain finds the output of another

-- Keys for one task.
local keys = {}
for i = 1, TASKS do
  keys[i] = { ("{fast}a%d"):format(i), ("{fast}b%d"):format(i), ("{fast}c%d"):format(i) }
end

-- {method, arguments behind the key}; some do not fit the type of their key.
local commands = {
  { "set", "v:32" }, { "set", "" }, { "set", 12.5 }, { "set", "v", "GET" }, { "set", ("x"):rep(20000) }, { "get" },
  { "incr" }, { "append", "1" }, { "strlen" }, { "exists" }, { "del" }, { "del" }, { "type" }, { "hset", "f", "1" },
  { "hset", "f", 2, "g", 3 }, { "hget", "f" }, { "hgetall" }, { "hmget", "f", "none" }, { "rpush", "a", 7, "" },
  { "lrange", 0, -1 }, { "lpop" }, { "zadd", 1.5, "m", 2, "n" }, { "zrange", 0, -1, "WITHSCORES" }, { "zscore", "m" },
  { "sadd", "a", "b" }, { "smembers" }, { "expire", 100 }, { "persist" }, { "get", "too", "many" },
}

local function some_chain(random, own_keys)
  local chain = {}
  for i = 1, random(3) == 1 and 1 or random(40) do
    local command = random(commands)
    chain[i] = { command[1], random(own_keys), unpack(command, 2) }
  end
  return chain
end

local function queue_by_method(db, item)
  db[item[1]](db, unpack(item, 2))
end

local function queue_by_call(db, item)
  db:call(item[1]:upper(), unpack(item, 2))
end

-- A copy of results and errors, without the fields that tell connections apart.
local function plain(value)
  if type(value) ~= "table" then
    return value
  end
  if redio.errors.is(value) then
    return { value.kind, value.code or false, value.message, value.index or false, value.command or false }
  end
  local copy = {}
  for key, item in pairs(value) do
    copy[key] = plain(item)
  end
  return copy
end

local function run_chain(client, chain, queue, finish)
  local db = client()
  for _, item in ipairs(chain) do
    queue(db, item)
  end
  local function packed(...)
    return plain { n = select("#", ...), ... }
  end
  return packed(pcall(db[finish], db))
end

-- The results of the chains, each in a task of its own, on keys that are not there before.
local function run(client, chains, queue, finish)
  local tasks, results = {}, {}
  client():flushdb():await()
  for i, chain in ipairs(chains) do
    tasks[i] = redio.spawn(function()
      results[i] = run_chain(client, chain, queue, finish)
    end)
  end
  for _, task in ipairs(tasks) do
    task:await()
  end
  return results
end

describe("The fast path of a handle agrees with the slow path", function()
  for _, protocol in ipairs { 2, 3 } do
    it("under RESP" .. protocol, function()
      local random = random_numbers.new("fast paths of handles, RESP" .. protocol)
      local url = server.shared().url
      local fast = redio.Redis(url, { protocol = protocol })
      local slow = redio.Redis(url, { protocol = protocol, multiplex = false })
      redio.run(function()
        for round = 1, ROUNDS do
          local chains, finish = {}, round % 4 == 0 and "replies" or "await"
          for i = 1, TASKS do
            chains[i] = some_chain(random, keys[i])
          end
          assert.same(run(slow, chains, queue_by_call, finish), run(fast, chains, queue_by_method, finish))
        end
      end)
      fast:close()
      slow:close()
    end)
  end
end)
