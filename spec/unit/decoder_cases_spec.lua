-- SPDX-License-Identifier: MIT
-- The values that a caller gets for a server's bytes, in whatever pieces these arrive. Each case of
-- spec/support/resp_cases.lua goes through the real client whole, byte by byte, and split in two at every place.

local redio = require "redio"
local fake = require "spec.support.fake"
local loop_turns = require "spec.support.loop_turns"
local check = require "spec.support.check"
local cases = require "spec.support.resp_cases"

local SHORT = 48 -- bytes up to which every split is tried
local BYTEWISE = 1024 -- and up to which the bytes are sent one by one

-- Comparing -----------------------------------------------------------------------------------------

local function same_number(expected, got)
  if expected ~= expected then
    return got ~= got
  end
  if math.type and math.type(expected) ~= math.type(got) then
    return false
  end
  return expected == got and (expected ~= 0 or 1 / expected == 1 / got)
end

local same

local function same_table(expected, got)
  if expected.failure then
    return redio.errors.is(got, "ReplyError") and (got.code or "") == (expected.failure:match "^%u+" or got.code or "")
  end
  if type(got) ~= "table" or #got ~= #expected then
    return false
  end
  for k, v in pairs(expected) do
    if not same(v, got[k]) then
      return false
    end
  end
  for k in pairs(got) do
    if expected[k] == nil then
      return false
    end
  end
  return true
end

function same(expected, got)
  if type(expected) == "table" then
    return same_table(expected, got)
  elseif type(expected) == "number" then
    return type(got) == "number" and same_number(expected, got)
  end
  return expected == got
end

-- Sending -------------------------------------------------------------------------------------------

-- The ways in which the bytes of a case arrive: functions that write them to a connection.
local function ways(bytes)
  local list = {
    whole = function(connection)
      connection:write(bytes)
    end,
  }
  if #bytes <= BYTEWISE then
    list["byte by byte"] = function(connection)
      connection:write(bytes, 1)
    end
  end
  for at = 1, #bytes <= SHORT and #bytes - 1 or 0 do
    list["split after " .. at] = function(connection)
      connection:write(bytes:sub(1, at))
      loop_turns.next(function()
        connection:write(bytes:sub(at + 1))
      end)
    end
  end
  return list
end

-- A server that sends the bytes of the moment when `due` commands have come.
local function scripted(protocol)
  local script = { due = 1 }
  script.peer = fake.start(function(connection)
    script.due = script.due - 1
    if script.due == 0 then
      script.write(connection)
    end
  end, { protocol = protocol })
  return script
end

-- Awaits `count` commands of unknown reply, so that no shape of a known command interferes.
local function ask(client, script, count, write)
  script.due, script.write = count, write
  local db = client()
  for _ = 1, count do
    db:call "CASE"
  end
  return db:replies()
end

-- The outcomes --------------------------------------------------------------------------------------

local outcomes = {}

function outcomes.gives(case, client, script, way, write)
  local replies = ask(client, script, case.count, write)
  assert(#replies == case.count, way .. ": " .. #replies .. " replies")
  for i = 1, case.count do
    assert(same(case.values[i], replies[i]), ("%s: reply %d is %s"):format(way, i, tostring(replies[i])))
  end
end

-- A push is no reply: the command's own comes after it.
function outcomes.push(_, client, script, way, write)
  local replies = ask(client, script, 1, write)
  assert(#replies == 1 and replies[1] == "after", way .. ": " .. tostring(replies[1]))
end

local function raised(kind, client, script, way, write)
  local ok, err = pcall(ask, client, script, 1, write)
  assert(not ok, way .. ": nothing was raised")
  assert(redio.errors.is(err, kind), way .. ": " .. tostring(err))
end

-- The connection is dead: the next command goes over another one.
function outcomes.refused(_, client, script, way, write)
  raised("ProtocolError", client, script, way, write)
  local accepted = script.peer.accepted
  local replies = ask(client, script, 1, function(connection)
    connection:write "+alive\r\n"
  end)
  assert(replies[1] == "alive", way .. ": " .. tostring(replies[1]))
  assert(script.peer.accepted == accepted + 1, way .. ": the connection was kept")
end

function outcomes.unfinished(case, client, script, way, write)
  raised("ConnectionClosedError", client, script, way, function(connection)
    write(connection)
    local left = way == "byte by byte" and #case.bytes or 2
    local function close()
      left = left - 1
      if left <= 0 then
        connection:close()
      else
        loop_turns.next(close)
      end
    end
    loop_turns.next(close)
  end)
end

local VERBS = {
  gives = "gives the values of",
  refused = "refuses",
  unfinished = "waits for the rest of",
  push = "takes for no reply",
}

for _, protocol in ipairs { 2, 3 } do
  describe("The decoder under RESP" .. protocol, function()
    local script

    setup(function()
      script = scripted(protocol)
    end)

    teardown(function()
      script.peer:stop()
    end)

    for _, case in ipairs(cases) do
      it(VERBS[case.kind] .. " " .. case.name, function()
        -- No retries: pauses between connections would add up.
        local options = { protocol = protocol, limits = case.limits, retry = false }
        check.within(20, function()
          local client = redio.Redis(script.peer.url, options)
          local bytes = case.kind == "push" and case.bytes .. "+after\r\n" or case.bytes
          for way, write in pairs(ways(bytes)) do
            outcomes[case.kind](case, client, script, way, write)
          end
          client:close { drain = 0 }
        end)
      end)
    end
  end)
end
