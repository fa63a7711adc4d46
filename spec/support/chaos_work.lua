-- SPDX-License-Identifier: MIT
-- The kinds of work of the random driver (chaos.lua). Each returns the results and the expected ones, as lists. Objects
-- in `job.open` are closed afterwards, whatever happens.

local redio = require "redio"

local M = {}

local PREFIX = "chaos:"

local work = {}

local Job = {}
Job.__index = Job

function Job:handle(redis)
  local db = (redis or self.redis)()
  if self.timeout then
    db:timeout(self.timeout)
  end
  table.insert(self.open, db)
  return db
end

function Job:key(name)
  return PREFIX .. self.mark .. (name or "")
end

local function echoes(job, db, count)
  local expected = {}
  for i = 1, count do
    expected[i] = job.mark .. i
    db:echo(expected[i])
  end
  return expected
end

function work.echo(job)
  return { job:handle():echo(job.mark):await() }, { job.mark }
end

function work.get(job)
  local key = job:key()
  return { job:handle():set(key, key, "PX", 5000):get(key):await() }, { key }
end

-- A counter of its own. After a command that was executed twice it is 2.
function work.incr(job)
  return { job:handle():incr(job:key()):expire(job:key(), 5):echo(job.mark):await() }, { 1, true, job.mark }
end

function work.chain(job)
  local db = job:handle()
  local expected = echoes(job, db, job.random(40))
  return { db:await() }, expected
end

function work.replies(job)
  local db = job:handle()
  local expected = echoes(job, db, job.random(300))
  return db:replies(), expected
end

-- Errors between replies: each in its place.
function work.failing(job)
  local db, key = job:handle(), job:key()
  local list = db:echo(job.mark):set(key, "x", "PX", 5000, "GET"):lpop(key):echo(job.mark .. 2):replies()
  local err = list[3]
  list[3] = redio.errors.is(err, "WrongTypeError") and err.index
  return list, { job.mark, false, 3, job.mark .. 2 }
end

-- Arguments that travel as pieces of their own, and replies of many reads.
function work.large(job)
  local text = job.mark .. ("x"):rep(15000 + job.random(40000)) .. job.mark
  return { job:handle():echo(text):echo(job.mark):await() }, { text, job.mark }
end

function work.multi(job)
  local db = job:handle():multi()
  local expected = echoes(job, db, job.random(8))
  return db:exec():await(), expected
end

-- A transaction in steps, on a connection of its own.
function work.steps(job)
  local db = job:handle()
  db:watch(job:key()):await()
  if db:echo(job.mark .. 0):await() ~= job.mark .. 0 then
    return { "another's echo" }, { job.mark .. 0 }
  end
  db:multi():echo(job.mark .. 1):await()
  local expected = echoes(job, db, 1)
  return db:exec():await(), { expected[1], job.mark .. 1 }
end

function work.transaction(job)
  local key = job:key()
  local list = job.redis:transaction(key, function(db)
    db:get(key):await()
    db:multi():incr(key):echo(job.mark)
  end)
  return list, { 1, job.mark }
end

function work.pop(job)
  local key = job:key()
  local length, item = job:handle():rpush(key, job.mark):blpop(key, 1):await()
  return { length, type(item) == "table" and item[1], type(item) == "table" and item[2] }, { 1, key, job.mark }
end

function work.wait(job)
  local list = job:handle():blpop(job:key "none", 0.01 + job.random() * 0.1):echo(job.mark):replies()
  return list, { false, job.mark }
end

function work.script(job)
  local script = job.redis:script("return {ARGV[1], '" .. job.random(5) .. "', KEYS[1]}")
  local n = script._source:match "'(%d)'"
  return script({ job:key() }, { job.mark }), { job.mark, n, job:key() }
end

function work.subscribe(job)
  local a, b = job:key "a", job:key "b"
  local receiver = job.redis:pubsub(a, b):with_channel()
  table.insert(job.open, receiver)
  receiver:connect()
  job:handle():publish(b, job.mark .. 1):publish(a, job.mark .. 2):await()
  local got = { receiver:await() }
  got[3], got[4] = receiver:await()
  return got, { b, job.mark .. 1, a, job.mark .. 2 }
end

function work.borrow(job)
  return job.redis:with_connection(function(db)
    return { db:echo(job.mark):await(), db:client_setname("chaos"):echo(job.mark .. 2):await() },
      { job.mark, job.mark .. 2 }
  end)
end

function work.gather(job)
  local function one(i)
    return function()
      return job.redis():echo(job.mark .. i):await()
    end
  end
  return { redio.gather(one(1), one(2), one(3)) }, { job.mark .. 1, job.mark .. 2, job.mark .. 3 }
end

-- A client of one's own, for this once.
function work.visit(job)
  local settings = job.redis.settings
  local scheme = settings.tls and "rediss" or "redis"
  local client = redio.Redis(("%s://127.0.0.1:%d/"):format(scheme, settings.port), {
    timeout = 1, connect_timeout = 1, retry = { max = 1, base = 0.01, cap = 0.1 }, protocol = job.random(2) + 1,
    tls = settings.tls or nil,
  })
  table.insert(job.open, { close = function()
    client:close { drain = 0 }
  end })
  return { job:handle(client):echo(job.mark):await() }, { job.mark }
end

local names = {}
for name in pairs(work) do
  names[#names + 1] = name
end
table.sort(names)

--- Chooses a kind of work.
---@param choose function the worker's generator
---@param mark string
---@param random function the request's own
function M.new(choose, mark, random)
  local name = names[choose(#names)]
  return setmetatable({ name = name, run = work[name], mark = mark, random = random, open = {}, ended = 0 }, Job)
end

return M
