-- SPDX-License-Identifier: MIT
-- The scenarios of spec/support/oom.c with redio.core: all of these run while memory is out.

local cases = require "spec.support.resp_cases"
local core = require "redio.core"

local scenarios = {}

local function add(name, prepare, run, after)
  scenarios[#scenarios + 1] = { name = name, prepare = prepare, run = run, after = after }
end

local function show(value)
  if type(value) ~= "table" then
    return type(value) .. " " .. tostring(value)
  end
  local out = {}
  for k, v in pairs(value) do
    out[#out + 1] = show(k) .. "=" .. show(v)
  end
  table.sort(out)
  return "{" .. table.concat(out, ",") .. "}"
end

-- The decoder: what it has given before memory was out, and what it gives afterwards, if it is not dead, are
-- together what it gives anyway.

local function feed(state, bytes)
  if not state.decoder:feed(bytes) then
    state.refused = true
  end
end

local function take(state)
  while true do
    local more, value = state.decoder:next()
    if not more then
      state.why = value
      return
    end
    state.count = state.count + 1
    state.values[state.count] = value
  end
end

local function decode(state)
  while state.fed < 2 and not state.refused do
    local half = math.floor(#state.bytes / 2)
    feed(state, state.fed == 0 and state.first or state.second)
    state.fed = state.fed + 1
    state.half = half
    take(state)
  end
end

local function decoding(case)
  local half = math.floor(#case.bytes / 2)
  return {
    decoder = core.decoder(case.limits), bytes = case.bytes, first = case.bytes:sub(1, half),
    second = case.bytes:sub(half + 1), fed = 0, count = 0, values = { 0, 0, 0, 0 },
  }
end

local function check_decoding(case, state)
  local whole = decoding(case)
  decode(whole)
  if not state.refused then
    take(state)
    decode(state)
  end
  for i = 1, state.count do
    assert(show(state.values[i]) == show(whole.values[i]), "another value")
  end
  if state.refused or state.why == "out of memory" then
    assert(select(2, state.decoder:next()) == "out of memory", "not dead")
    assert(state.decoder:feed("+OK\r\n") and not state.decoder:next(), "not dead for ever")
  else
    assert(state.count == whole.count and state.why == whole.why, "another end: " .. tostring(state.why))
  end
end

for _, case in ipairs(cases) do
  if #case.bytes < 2000 then
    add("decoder " .. case.name, function()
      return decoding(case)
    end, decode, function(state)
      check_decoding(case, state)
    end)
  end
end

-- The connection: of the chains that were taken, each ends once, with its own replies or as lost; those that were
-- not taken leave nothing in the output.

local ECHO = core.command { name = "ECHO" }
local MULTI, EXEC = core.command { name = "MULTI", reply = "nothing", multi = true }, core.command {
  name = "EXEC", reply = "exec", exec = true,
}
local CHAINS = 12

local LONG = ("x"):rep(200):rep(100)

local function large(i)
  return tostring(i) .. LONG
end

local function bulk(text)
  return "$" .. #text .. "\r\n" .. text .. "\r\n"
end

local function echo(text)
  return "*2\r\n$4\r\nECHO\r\n" .. bulk(text)
end

-- Of chain i: what it queues, what is to go out, what comes back.
local kinds = {
  function(pipeline, i)
    core.encode(pipeline, ECHO, "mark " .. i)
  end,
  function(pipeline, i)
    core.encode(pipeline, ECHO, "mark " .. i)
    core.encode(pipeline, ECHO, large(i))
    core.encode(pipeline, ECHO, large(i))
  end,
  function(pipeline, i)
    core.encode(pipeline, MULTI)
    core.encode(pipeline, ECHO, "mark " .. i)
    core.encode(pipeline, EXEC)
  end,
}
local requests = {
  function(i)
    return echo("mark " .. i)
  end,
  function(i)
    return echo("mark " .. i) .. echo(large(i)) .. echo(large(i))
  end,
  function(i)
    return "*1\r\n$5\r\nMULTI\r\n" .. echo("mark " .. i) .. "*1\r\n$4\r\nEXEC\r\n"
  end,
}
local answers = {
  function(i)
    return bulk("mark " .. i)
  end,
  function(i)
    return bulk("mark " .. i) .. "-ERR no\r\n" .. bulk(large(i))
  end,
  function(i)
    return "+OK\r\n+QUEUED\r\n*1\r\n" .. bulk("mark " .. i)
  end,
}

local function kind(i)
  return i % 3 + 1
end

local function connection()
  local c = core.connection()
  c:event "connect"
  c:event "connected"
  c:event "established"
  return c
end

-- Whole commands only: what could not be encoded is noticed by the count.
local function queue(pipeline, i)
  kinds[kind(i)](pipeline, i)
  local want = kind(i) == 1 and 1 or 3
  if pipeline:count() ~= want then
    error("not enough memory", 0)
  end
end

local function start_chain(state, i)
  state.threads[i] = coroutine.create(function()
    local pipeline = core.pipeline()
    queue(pipeline, i)
    local slot = state.connection:submit(pipeline, state.waiters, 16)
    if not slot then
      pipeline:clear()
      return
    end
    state.taken[i] = true
    local token, first, second = coroutine.yield()
    state.ends[i] = state.ends[i] + 1
    state.tokens[i], state.first[i], state.second[i] = token, first, second
    coroutine.yield()
    state.ends[i] = state.ends[i] + 1
  end)
end

local function prepare()
  local state = {
    connection = connection(), waiters = {}, threads = {}, taken = {}, ends = {}, tokens = {}, first = {},
    second = {}, written = {}, writes = 0, wire = "", sent = 0, popped = false, forgotten = false,
  }
  for i = 1, CHAINS do
    state.taken[i], state.ends[i], state.tokens[i], state.first[i], state.second[i] = false, 0, false, false, false
    state.written[i] = false
    start_chain(state, i)
  end
  return state
end

local function resume(co, ...)
  local ok, err = coroutine.resume(co, ...)
  if not ok and not tostring(err):find "memory" then
    error(err, 0)
  end
end

local function submit_all(state)
  for i = 1, CHAINS do
    resume(state.threads[i])
  end
end

local function write(state)
  local output = state.connection:output()
  if output then
    state.writes = state.writes + 1
    state.written[state.writes] = output
  end
end

-- The replies to all that was sent, in pieces of 7,000 bytes.
local function replies(state)
  local out = {}
  for i = 1, CHAINS do
    out[i] = state.taken[i] and answers[kind(i)](i) or ""
  end
  return table.concat(out)
end

-- (Lua itself may run out of memory between `next` and the resume. The chain is then no longer the connection's, and
-- its coroutine not resumed.)
local function pump(state)
  while true do
    local waiter, token, first, second, third = state.connection:next(state.waiters)
    if not waiter then return end
    state.popped = waiter
    resume(waiter, token, first, second, third)
    state.popped = false
  end
end

local function wake(state)
  state.connection:wake(state.waiters)
end

local function read_all(state, how)
  local bytes = replies(state)
  for at = 1, #bytes, 7000 do
    if not state.connection:feed(bytes:sub(at, at + 6999)) then
      return
    end
    how(state)
  end
end

local function check_output(state)
  write(state)
  local out, want = {}, {}
  for k = 1, state.writes do
    local piece = state.written[k]
    out[k] = type(piece) == "table" and table.concat(piece) or piece
  end
  for i = 1, CHAINS do
    want[i] = state.taken[i] and requests[kind(i)](i) or ""
  end
  assert(table.concat(out) == table.concat(want), "another output")
end

local function check_end(state, i)
  -- (A coroutine is dead, and has not seen its end, if the resume itself ran out of memory.)
  local is_gone = coroutine.status(state.threads[i]) == "dead" or state.threads[i] == state.forgotten
  local is_due = state.taken[i] and (state.ends[i] == 1 or not is_gone)
  assert(state.ends[i] == (is_due and 1 or 0), ("chain %d ended %d times"):format(i, state.ends[i]))
  local token, first, second = state.tokens[i], state.first[i], state.second[i]
  if token == core.DONE then
    assert(kind(i) ~= 2)
    assert((kind(i) == 1 and first or first[1]) == "mark " .. i, "another's reply")
  elseif token == core.FAILED then
    assert(kind(i) == 2 and first[1].code == "ERR", "another's error")
    assert(first.count == 3 and first.values == #second and table.concat(second, "|", 1, 1) == "mark " .. i,
      "another's reply")
  else
    assert(token == false or token == core.LOST, "a foreign token")
  end
end

local function check_chains(state)
  state.forgotten = state.popped
  check_output(state)
  state.connection:event "lose"
  pump(state)
  for i = 1, CHAINS do
    check_end(state, i)
  end
  assert(state.connection:waiting() == 0)
end

add("connection submit", prepare, submit_all, check_chains)

add("connection output", function()
  local state = prepare()
  submit_all(state)
  return state
end, write, check_chains)

for name, how in pairs { next = pump, wake = wake } do
  add("connection " .. name, function()
    local state = prepare()
    submit_all(state)
    write(state)
    return state
  end, function(state)
    read_all(state, how)
  end, check_chains)
end

add("connection all", prepare, function(state)
  submit_all(state)
  write(state)
  read_all(state, wake)
end, check_chains)

-- The usual await: queue(r) and send.

local function start_usual(state, i)
  state.threads[i] = coroutine.create(function()
    local handle = { state.client, false, false }
    core.encode(core.lend(), ECHO, "")
    local pipeline = core.lend()
    handle[2] = pipeline
    queue(pipeline, i)
    if core.send(handle) == nil then
      pipeline:clear()
      return
    end
    state.taken[i] = true
    local token, first, second = coroutine.yield()
    state.ends[i] = state.ends[i] + 1
    state.tokens[i], state.first[i], state.second[i] = token, first, second
    coroutine.yield()
    state.ends[i] = state.ends[i] + 1
  end)
end

add("send", function()
  local state = prepare()
  state.client = { state.connection, state.waiters }
  for i = 1, CHAINS do
    start_usual(state, i)
  end
  return state
end, function(state)
  submit_all(state)
  write(state)
  read_all(state, wake)
end, check_chains)

-- Pipelines: what could not be queued is not there, and the rest is as it was.

add("pipeline", function()
  return { pipeline = core.pipeline(), done = { 0, 0, 0, 0, 0, 0, 0, 0 }, count = 0 }
end, function(state)
  for i = 1, 8 do
    if core.encode(state.pipeline, ECHO, i % 2 == 0 and large(i) or "mark " .. i) then
      state.count = state.count + 1
      state.done[state.count] = i
    end
  end
  state.wrapped = state.pipeline:wrap(MULTI)
end, function(state)
  local c, waiters, want = connection(), {}, {}
  for k = 1, state.count do
    local i = state.done[k]
    want[k] = echo(i % 2 == 0 and large(i) or "mark " .. i)
  end
  assert(core.encode(state.pipeline, ECHO, "last"))
  local co = coroutine.wrap(function()
    assert(c:submit(state.pipeline, waiters, 16))
    coroutine.yield()
  end)
  co()
  local output = c:output()
  output = type(output) == "table" and table.concat(output) or output
  local front = state.wrapped and "*1\r\n$5\r\nMULTI\r\n" or ""
  assert(output == front .. table.concat(want) .. echo "last", "another output")
end)

-- Commands, text, numbers: nothing to be seen but that nothing is lost.

add("command and text", function()
  return {}
end, function(state)
  state.command = core.command {
    name = "CONFIG GET", reply = "map",
    variants = { from = 2, shaped = 1, { token = "WITHSCORES", reply = "scored" }, { token = "MATCH", takes = 1 } },
  }
  state.text = core.strdecode("\255\254" .. "abc")
  state.bytes = core.strencode(state.text)
  state.number = core.number(1.5)
end, function(state)
  assert(core.strencode(core.strdecode "\255abc") == "\255abc")
  assert(core.number(0.1) == "0.1")
  assert(not state.number or state.number == "1.5")
end)

return scenarios
