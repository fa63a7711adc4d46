-- SPDX-License-Identifier: MIT
-- Every command that the server has gives the same Lua values under RESP2 and RESP3, by its method and by call(). The
-- server is asked for its commands. Contract: docs, "Values".

local redio = require "redio"
local commands = require "redio.command.table"
local server = require "spec.support.server"
local check = require "spec.support.check"
local calls = require "spec.support.every_command"

local unpack = table.unpack or unpack -- luacheck: ignore
local math_type = math.type or type
local MAJOR = server.version()

-- Not walked: what a handle refuses, as it would mix something into the replies, ...
local REFUSED = {
  MONITOR = "its lines come between the replies", PSUBSCRIBE = "its messages do", PUNSUBSCRIBE = "its messages do",
  SSUBSCRIBE = "its messages do", SUBSCRIBE = "its messages do", SUNSUBSCRIBE = "its messages do",
  UNSUBSCRIBE = "its messages do", PSYNC = "makes a replica of the connection",
  REPLCONF = "makes a replica of the connection", SYNC = "makes a replica of the connection",
}

-- ... and what is called by itself, below.
local BY_ITSELF = {
  HELLO = "says which protocol it is", RESET = "ends the session", QUIT = "ends the session",
  FAILOVER = "a replica is needed, so that only its refusal can be had", SHUTDOWN = "likewise, but for ABORT",
}

-- Texts of values ----------------------------------------------------------------------------------------

local text_of

local function text_of_table(value, mark)
  local items, fields, length = {}, {}, #value
  for i = 1, length do
    items[i] = text_of(value[i], mark)
  end
  if mark.unordered then
    table.sort(items)
  end
  for key, field in pairs(value) do
    if math_type(key) == "float" or type(key) ~= "number" or key < 1 or key > length then
      fields[#fields + 1] = ("[%q] = %s"):format(tostring(key), text_of(field, mark))
    end
  end
  table.sort(fields)
  return "{" .. table.concat(items, ", ") .. "; " .. table.concat(fields, ", ") .. "}"
end

-- The part of a value that must be the same under both protocols, as a text. `mark` is the entry of the walk.
function text_of(value, mark)
  if redio.errors.is(value) then
    return "error " .. tostring(value.code)
  elseif type(value) == "table" and not mark.size then
    return text_of_table(value, mark)
  elseif mark.volatile then
    return type(value) == "number" and math_type(value) or type(value)
  elseif type(value) == "string" then
    return ("%q"):format(value)
  elseif type(value) == "number" then
    return ("%.17g %s"):format(value, math_type(value))
  end
  return tostring(value)
end

local function outcome(mark, ok, ...)
  if not ok then
    local err = ...
    return redio.errors.is(err, "ReplyError") and text_of(err, mark) or "raised " .. tostring(err)
  end
  local results = {}
  for i = 1, select("#", ...) do
    results[i] = text_of((select(i, ...)), mark)
  end
  return table.concat(results, ", ")
end

-- Where two texts part, with what stands around it.
local function difference(one, other)
  if one == other then
    return nil
  end
  local at = 1
  while one:byte(at) == other:byte(at) do
    at = at + 1
  end
  local from = math.max(1, at - 60)
  return ("<%s> and <%s>"):format(one:sub(from, at + 60), other:sub(from, at + 60))
end

-- Walking -------------------------------------------------------------------------------------------------

-- Name of a call's command and how many of its words that takes.
local function name_of(call)
  local two = call[2] and call[1] .. " " .. call[2]
  if commands[two] then
    return two, 2
  end
  return call[1], 1
end

local function by_method(handle, call)
  local name, words = name_of(call)
  local method = name:lower():gsub("[ -]", "_")
  return handle[method](handle, unpack(call, words + 1))
end

local function by_call(handle, call)
  return handle:call(unpack(call))
end

-- Shows which strings are values, which a decoding mode touches, and which are names.
local function by_decoder(handle, call)
  return by_method(handle, call):decoder(function(bytes)
    return { value = bytes }
  end)
end

-- Names of what was walked, and of what the servers have.
local walked, installed = {}, {}

-- The commands of a server, by name, and the Redis version that it says its commands are of (a Valkey has a version of
-- its own besides).
local function has_of(handle)
  local has = {}
  local version = handle:info("server"):await():match "redis_version:([%d.]+)"
  if handle:command_info("COMMAND|LIST"):await()[1] then
    for _, listed in ipairs(handle:command_list():await()) do
      has[listed:upper():gsub("|", " ")] = true
    end
    return has, version
  end
  for _, info in ipairs(handle:command():await()) do -- before 7: without subcommands
    has[info[1]:upper()] = true
  end
  return has, version
end

local function number_of(version)
  local major, minor = version:match "^(%d+)%.(%d+)"
  return major * 100 + minor
end

-- True if a call can be made. One without `since` and `form` has to be there.
local function is_known_here(call, has, version)
  if call.form and number_of(call.form) > number_of(version) then return false end
  if not call.since then return true end
  if has["COMMAND LIST"] then return has[name_of(call)] or false end
  return call.since ~= "Valkey" and has[call[1]] and number_of(call.since) <= number_of(version)
end

-- Texts of the outcomes of all calls, in one session.
local function walk(url, protocol, list, queue, prepare)
  local redis = redio.Redis(url, { protocol = protocol })
  prepare(redis)
  local handle = redis:connection()
  local texts = {}
  local has, version = has_of(handle)
  for name in pairs(has) do
    installed[name] = true
  end
  for i, call in ipairs(list) do
    if is_known_here(call, has, version) then
      walked[name_of(call)] = true
      texts[i] = outcome(call, pcall(function()
        return queue(handle, call):await()
      end))
    end
  end
  handle:close()
  redis:close()
  return texts
end

-- The differences between two walks, a line for each call, of the calls for which `among` is true.
local function differences(list, one, other, among)
  local lines = {}
  for i, call in ipairs(list) do
    local text = one[i] and (not among or among(call)) and difference(one[i], other[i])
    if text then
      lines[#lines + 1] = table.concat(call, " ") .. ": " .. text
    end
  end
  return lines
end

-- The code of the error that a call is to get; nil when it goes well. Some go well on some servers only: those are
-- asked, not by redio.
local function expected_failure(call, instance)
  if call.fails ~= "asked" then return call.fails end
  return instance:cli(unpack(call)):match "^(%u+) "
end

-- Calls that failed and should not have, or the other way round.
local function surprises(list, texts, instance)
  local lines = {}
  for i, call in ipairs(list) do
    local text = texts[i]
    local failed = text and (text:match("^error (%S+)$") or text:match("^raised .*"))
    if text and failed ~= expected_failure(call, instance) then
      lines[#lines + 1] = table.concat(call, " ") .. ": " .. text:sub(1, 200)
    end
  end
  return lines
end

-- Servers -------------------------------------------------------------------------------------------------

local function wait_for(what, seconds)
  assert(server.wait_until(what, seconds or 10), "the servers did not find each other")
end

-- A sentinel that watches `mymaster`, which has one replica; and all that has to be stopped.
local function start_sentinel()
  local master = server.start { "repl-diskless-sync-delay 0" }
  local replica = server.start { ("replicaof %s %d"):format(master.host, master.port) }
  wait_for(function()
    return replica:cli("info", "replication"):find("master_link_status:up", 1, true)
  end)
  local sentinel = server.start {
    ("sentinel monitor mymaster %s %d 1"):format(master.host, master.port),
    args = { "--sentinel" },
  }
  wait_for(function()
    return sentinel:cli("sentinel", "replicas", "mymaster"):find(tostring(replica.port), 1, true)
  end)
  return sentinel, { sentinel, replica, master }
end

local function empty(redis)
  check.eventually(function() -- wait for the saves of the walk before this one
    local info = check.info(redis, "persistence")
    return info.rdb_bgsave_in_progress == "0" and info.aof_rewrite_in_progress == "0"
  end)
  redis():flushall():script_flush():config_resetstat():slowlog_reset():await()
  if MAJOR >= 7 then redis():function_flush():await() end
end

-- The insides of replies that the walk compares by their type only (`size`).
local function look_at_histogram(histogram)
  assert.equal(1, histogram.incr.calls)
  local bucket, count = next(histogram.incr.histogram_usec)
  assert.same({ "number", 1 }, { type(bucket), count })
end

local function look_plain(redis)
  local db = redis()
  db:config_set("slowlog-log-slower-than", 0):config_set("latency-monitor-threshold", 1):slowlog_reset():await()
  db:config_resetstat():incr("n"):await()
  local slow = db:slowlog_get(5):await()
  assert.same({ "incr", "n" }, { slow[1][4][1]:lower(), slow[1][4][2] })
  assert.same({ "CONFIG", "RESETSTAT" }, { slow[2][4][1]:upper(), slow[2][4][2]:upper() })
  if MAJOR >= 7 then look_at_histogram(db:latency_histogram("incr"):await()) end
  local _, latest, history = db:debug("SLEEP", 0.005):latency_latest():latency_history("command"):await()
  local events = {}
  for _, event in ipairs(latest) do -- a slow machine may add a fork
    events[event[1]] = true
  end
  assert.is_true(events.command)
  assert.equal("number", type(history[1][2]))
end

local function look_sentinel(redis)
  local db = redis()
  local replica = db:sentinel_replicas("mymaster"):await()[1]
  assert.equal(replica.ip .. ":" .. replica.port, replica.name)
  assert.same(replica.name, db:sentinel_slaves("mymaster"):await()[1].name)
  local cache = db:sentinel_info_cache({ "mymaster" }):await()
  assert.equal("mymaster", cache[1])
  assert.equal("number", type(cache[2][1][1]))
  assert.matches("role:master", cache[2][1][2])
end

local KINDS = {
  {
    name = "plain",
    look = look_plain,
    prepare = empty,
    start = function()
      return server.start(MAJOR >= 7 and { "enable-module-command yes" } or {})
    end,
  },
  {
    name = "cluster",
    look = function() end,
    prepare = function(redis)
      empty(redis)
      redis():cluster_reset("HARD"):await()
    end,
    start = function()
      return server.start { "cluster-enabled yes" }
    end,
  },
  {
    name = "sentinel",
    look = look_sentinel,
    prepare = function() end,
    start = start_sentinel,
  },
}

for _, kind in ipairs(KINDS) do
  describe("a walk over all commands of a " .. kind.name .. " server", function()
    local list = calls[kind.name]
    local resp2, resp3, called2, called3, decoded2, decoded3
    local instance, to_stop

    -- One process for all walks: the order within sets depends on the process.
    setup(function()
      instance, to_stop = kind.start()
      check.within(30, function()
        resp2 = walk(instance.url, 2, list, by_method, kind.prepare)
        resp3 = walk(instance.url, 3, list, by_method, kind.prepare)
        called2 = walk(instance.url, 2, list, by_call, kind.prepare)
        called3 = walk(instance.url, 3, list, by_call, kind.prepare)
        decoded2 = walk(instance.url, 2, list, by_decoder, kind.prepare)
        decoded3 = walk(instance.url, 3, list, by_decoder, kind.prepare)
      end)
    end)

    teardown(function()
      for _, each in ipairs(to_stop or { instance }) do
        each:stop()
      end
    end)

    it("goes well, but for what has to fail", function()
      assert.same({}, surprises(list, resp2, instance))
    end)

    it("gives the same values under both protocols, by methods", function()
      assert.same({}, differences(list, resp2, resp3))
    end)

    it("gives the same values under both protocols, by call()", function()
      assert.same({}, differences(list, called2, called3))
    end)

    it("gives the same strings to a decoder under both protocols", function()
      assert.same({}, differences(list, decoded2, decoded3))
    end)

    it("gives the same insides of what differs in size", function()
      check.within(10, function()
        check.protocols(function(protocol)
          local redis = redio.Redis(instance.url, { protocol = protocol })
          kind.look(redis)
          redis:close()
        end)
      end)
    end)

    it("gives by call() what it gives by methods, but for those with a reply of their own", function()
      assert.same({}, differences(list, resp3, called3, function(call)
        return not commands[name_of(call)].method
      end))
    end)
  end)
end

describe("the walks", function()
  it("leave no command of these servers out that is not on a list", function()
    local missing = {}
    for name in pairs(installed) do
      local entry = commands[name]
      if entry and not (walked[name] or entry.container or REFUSED[name] or BY_ITSELF[name]) then
        missing[#missing + 1] = name
      end
    end
    assert.truthy(installed.GET and installed.CLUSTER and installed.SENTINEL)
    assert.truthy(MAJOR < 7 or installed["CLUSTER SLOTS"] and installed["SENTINEL MASTERS"])
    assert.same({}, missing)
  end)
end)

describe("commands that are not walked", function()
  local function both(fn)
    local results = {}
    check.within(10, function()
      check.protocols(function(protocol)
        local redis = redio.Redis(server.shared().url, { protocol = protocol })
        results[protocol] = fn(redis:connection(), protocol)
        redis:close()
      end)
    end)
    return results[2], results[3]
  end

  it("are refused, where their replies would be mixed up", function()
    local redis = redio.Redis(server.shared().url)
    for name in pairs(REFUSED) do
      local text = check.misuse(function()
        redis()[name:lower()](redis())
      end)
      assert.matches(name .. " cannot be queued", text)
    end
    redis:close()
  end)

  it("HELLO is the same but for the protocol", function()
    local resp2, resp3 = both(function(handle, protocol)
      local hello, again = handle:hello():hello(tostring(protocol), { setname = "walker" }):await()
      assert.equal(protocol, hello.proto)
      assert.equal(protocol, again.proto)
      assert.equal("walker", (handle:client_getname():await()))
      hello.proto, hello.id = nil, nil
      return hello
    end)
    assert.same(resp2, resp3)
    local name, version = server.shared():cli("hello"):match "^server\n(.-)\nversion\n(.-)\n"
    assert.same({ name, version }, { resp3.server, resp3.version })
    assert.equal("table", type(resp3.modules))
  end)

  it("HELLO and RESET change the protocol, and not the values", function()
    local resp2, resp3 = both(function(handle, protocol)
      handle:del("walk:h"):hset("walk:h", "f", "v"):hello(tostring(5 - protocol)):await()
      local before = handle:hgetall("walk:h"):await()
      local reset = handle:reset():await()
      return { before, reset, (handle:hgetall("walk:h"):await()) }
    end)
    assert.same({ { f = "v" }, "RESET", { f = "v" } }, resp2)
    assert.same(resp2, resp3)
  end)

  it("QUIT says nothing", function()
    local resp2, resp3 = both(function(handle)
      return select("#", handle:quit():await())
    end)
    assert.equal(0, resp2)
    assert.equal(0, resp3)
  end)

  it("FAILOVER and SHUTDOWN ABORT are refused by a server that has nothing to do with them", function()
    local resp2, resp3 = both(function(handle)
      local replies = handle:failover():shutdown({ abort = true }):replies()
      return { replies[1].code, replies[2].code }
    end)
    assert.same({ "ERR", "ERR" }, resp2)
    assert.same(resp2, resp3)
  end)
end)
