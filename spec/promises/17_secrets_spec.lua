-- SPDX-License-Identifier: MIT
-- Promise 17, secrets: no password, key value or argument in any error, `tostring`, traceback or log. A canary goes
-- through every way to fail, and must come out of none.

local redio = require "redio"
local server = require "spec.support.server"
local check = require "spec.support.check"
local child = require "spec.support.child"
local fixtures = require "spec.support.fixtures"

local CANARY = "cAnArY-7f3b"

describe("Promise 17, secrets:", function()
  local it_needs = fixtures.new()
  local shared, guarded

  setup(function()
    shared = server.shared()
    guarded = server.start { password = CANARY }
    guarded:cli("acl", "setuser", "limited", "on", ">" .. CANARY, "~allowed:*", "+get", "+hello", "+auth", "+client")
  end)

  teardown(function()
    guarded:stop()
  end)

  after_each(function()
    it_needs:clear()
  end)

  -- Everything that an error says, in whatever field; but for `replies`, which are the caller's values.
  local function all_words(value, seen)
    if type(value) ~= "table" then return tostring(value) end
    seen = seen or {}
    if seen[value] then return "" end
    seen[value] = true
    local words = { tostring(value) }
    for name, field in pairs(value) do
      if name == "replies" then
        for _, reply in pairs(field) do
          if redio.errors.is(reply) then words[#words + 1] = all_words(reply, seen) end
        end
      else
        words[#words + 1] = tostring(name) .. "=" .. all_words(field, seen)
      end
    end
    return table.concat(words, "\n")
  end

  local function without_canary(text, where)
    if text:lower():find(CANARY:lower(), 1, true) then error(where .. ": " .. text, 2) end
    return text
  end

  -- `fn` has to fail, and what it says, with the traceback, has to be clean.
  local function fails(where, fn, ...)
    local ok, err, trace = xpcall(fn, function(err)
      return err, debug.traceback(type(err) == "string" and err or "", 1)
    end, ...)
    if ok then error(where .. ": nothing was raised", 2) end
    without_canary(all_words(err), where)
    without_canary(tostring(trace), where)
    return err
  end

  -- Each of these, awaited on a handle of `redis`, is refused by the server.
  local function refused_by(redis, chains)
    for where, chain in pairs(chains) do
      check.within(5, function()
        fails(where, function() chain(redis()):await() end)
        for _, reply in ipairs(chain(redis()):replies()) do
          if redio.errors.is(reply) then without_canary(all_words(reply), where) end
        end
      end)
    end
  end

  describe("passwords:", function()
    it("wrong, of a user, without permission; at servers new and old", function()
      local wrong = CANARY .. "-wrong"
      for _, protocol in ipairs { 2, 3 } do
        for name, options in pairs {
          password = { password = wrong }, user = { username = "no-" .. CANARY, password = wrong },
          limited = { username = "limited", password = wrong },
          ["no such database"] = { password = CANARY, database = 9999 },
          ["a client's name with a newline"] = { password = CANARY, client_name = CANARY .. "\n" },
        } do
          options.protocol, options.retry = protocol, false
          local redis = it_needs:client(guarded.url:gsub(":[^/]*@", ""), options)
          local err = check.within(5, fails, name, function() redis():get "k":await() end)
          assert.is_true(redio.errors.is(err, "ReplyError"), tostring(err))
        end
      end
    end)

    it("echoed by a server that knows no HELLO, no user, no AUTH, or does not know what it says", function()
      local echo = function(words)
        return ("with args beginning with: `%s`, "):format(table.concat(words, "`, `", 2))
      end
      local servers = {
        ["before 6"] = function(words)
          return ("-ERR unknown command `%s`, %s\r\n"):format(words[1], echo(words))
        end,
        ["with quotes"] = function(words)
          return ("-ERR unknown command '%s', with args beginning with: '%s' \r\n"):format(words[1],
            table.concat(words, "' '", 2))
        end,
        ["a proxy"] = function(words) return ("-ERR bad request: %s\r\n"):format(table.concat(words, " ")) end,
        ["its code"] = function(words) return ("-%s is not what I know\r\n"):format(words[#words]) end,
        ["its rules"] = function(words)
          return ("-NOPERM user %s with %s may not\r\n"):format(words[3] or "", words[4] or words[2] or "")
        end,
        ["a status"] = function(words) return ("+%s?\r\n"):format(table.concat(words, " ")) end,
        ["nonsense"] = function(words) return table.concat(words, " ") .. "\r\n" end,
        ["an endless line"] = function(words) return "+" .. table.concat(words, " "):rep(2000) end,
      }
      for name, answer in pairs(servers) do
        for _, username in ipairs { false, "user-" .. CANARY } do
          local peer = it_needs:fake(function(_, words) return answer(words) end, { protocol = false })
          local redis = it_needs:client(peer.url, {
            username = username or nil, password = CANARY, database = 2, retry = false, connect_timeout = 0.1,
            timeout = 0.1,
          })
          check.within(5, function()
            local ok, err = pcall(function() redis():get "k":get "k":await() end)
            if not ok then without_canary(all_words(err), name) end
            local receiver = redis:pubsub "c"
            ok, err = pcall(receiver.connect, receiver)
            if not ok then without_canary(all_words(err), name) end
          end)
        end
      end
    end)

    it("in URLs and options that are wrong: the error names the part, never the value", function()
      local P = CANARY
      for _, url in ipairs {
        "redis://:" .. P .. "@host:port/", "redis://:" .. P .. "@[::1/", "redis://user:" .. P .. "@host/x",
        "redis://:" .. P .. "#@host/", "redis://:" .. P .. "/x@host/", "redis://:" .. P .. "?x@host/",
        "redis://:" .. P .. "@host:99999/", "redis://:" .. P .. "%zz@host/", "rediss+x://:" .. P .. "@host/",
        "redis://:" .. P .. "\1@host/", "redis://:" .. P .. "@host/?timeout=x",
        "redis://:" .. P .. "@host/?pasword=" .. P,
        "redis://host/?password=" .. P .. "&nonsense=1", "redis://host/?timeout=" .. P, "redis://host/" .. P,
        "redis://" .. P .. ":x@host:" .. P .. "/", "redis:/:" .. P .. "@host",
      } do
        fails(url:gsub(P, "..."), redio.Redis, url)
        fails(url:gsub(P, "..."), redio.parse_url, url)
      end
      for name, options in pairs {
        type = { password = { P } }, database = { database = P }, timeout = { timeout = P }, unknown = { pasword = P },
        tls = { tls = P }, retry = { retry = P }, port = { port = P }, connect = { on_connect = P },
        protocol = { protocol = P },
        both = { password = P, pass = P }, host = { host = "h", path = P },
      } do
        fails(name, redio.Redis, nil, options)
      end
      fails("the options instead of the URL", redio.Redis, { password = P })
    end)

    it("in what the server says of AUTH, ACL, CONFIG SET and MIGRATE, and of all other arguments", function()
      local redis = it_needs:client(guarded.url, { retry = false })
      refused_by(redis, {
        auth = function(db) return db:auth(CANARY .. "x") end,
        auth_user = function(db) return db:auth(CANARY, CANARY .. "x") end,
        auth_long = function(db) return db:call("AUTH", "a", "b", CANARY) end,
        acl_rule = function(db) return db:acl_setuser("someone", CANARY) end,
        acl_category = function(db) return db:acl_setuser("someone", "+@" .. CANARY) end,
        acl_hash = function(db) return db:acl_setuser("someone", "#" .. CANARY) end,
        acl_subcommand = function(db) return db:call("ACL", CANARY, CANARY) end,
        acl_dryrun = function(db) return db:call("ACL DRYRUN", CANARY, "GET", CANARY) end,
        config_unknown = function(db) return db:config_set(CANARY, CANARY) end,
        config_value = function(db) return db:config_set("maxmemory", CANARY) end,
        config_two = function(db) return db:config_set("maxmemory", 0, "appendonly", CANARY) end,
        migrate = function(db)
          return db:set("k", CANARY):call("MIGRATE", "127.0.0.1", 1, "k", 0, 100, "AUTH", CANARY)
        end,
        unknown = function(db) return db:call("NOSUCH", CANARY, CANARY) end,
        subcommand = function(db) return db:call("CLIENT", "KILL", CANARY) end,
        xgroup = function(db) return db:xreadgroup("GROUP", CANARY, CANARY, "STREAMS", CANARY, ">") end,
        xack = function(db) return db:call("XGROUP", "CREATECONSUMER", CANARY, CANARY, CANARY) end,
        geo = function(db) return db:call("GEOADD", "k", 999, 999, CANARY) end,
        wrong_type = function(db) return db:set(CANARY, CANARY):lpush(CANARY, CANARY) end,
        not_a_number = function(db) return db:set("k", CANARY):incr "k" end,
        syntax = function(db) return db:set("k", CANARY, CANARY) end,
        arity = function(db) return db:call("GET", CANARY, CANARY) end,
        exec = function(db) return db:multi():set(CANARY, CANARY):lpush(CANARY, CANARY):exec() end,
        script = function(db)
          return db:set("k", CANARY):eval("return redis.call('LPUSH', KEYS[1], ARGV[1])", 1, "k", CANARY)
        end,
        noscript = function(db) return db:evalsha(CANARY, 1, CANARY, CANARY) end,
      })
      redis():flushall():await()
    end)

    it("of a user without permission: the name, the key and the command's arguments", function()
      local redis = it_needs:client(guarded.url:gsub("//.*@", "//"), {
        username = "limited", password = CANARY, retry = false,
      })
      check.within(5, function()
        fails("key", function() redis():get("forbidden:" .. CANARY):await() end)
        fails("command", function() redis():set(CANARY, CANARY):await() end)
        fails("channel", function()
          local receiver = redis:pubsub(CANARY)
          receiver:connect()
        end)
      end)
    end)
  end)

  it("lost, reset, refused, black holes, deadlines, cancels, nonsense, full pools, closed clients", function()
    local line = it_needs:proxy(guarded)
    local function client(options)
      options.password, options.username, options.retry = CANARY, nil, false
      return it_needs:client(line.url, options)
    end
    check.within(20, function()
      local function call(redis) return function() redis():set(CANARY, CANARY):get(CANARY):await() end end
      local redis = client { timeout = 0.1, connect_timeout = 0.1 }
      redis():ping():await()
      line:inject("down", "-" .. "ERR unasked\r\n")
      redio.sleep(0.02)
      redis():ping():await()
      line.up.drop = true
      fails("no reply", call(redis))
      fails("no handshake", call(redis))
      line.up.drop = nil
      fails("deadline", function() redis():blpop(CANARY, 0):timeout(0.05):await() end)
      fails("with_timeout", redio.with_timeout, 0.05, function() redis():blpop(CANARY, 0):await() end)
      redis():ping():await()
      local waiting = redio.spawn(function() redis():blpop(CANARY, 0):await() end)
      redio.sleep(0.02)
      waiting:cancel()
      fails("cancelled", waiting.await, waiting)
      local other = redio.spawn(call(redis))
      redio.sleep(0)
      line:cut "rst"
      fails("reset", other.await, other)
      line.refuse = true
      fails("hung up on", call(redis))
      line.refuse = nil
      line:deafen()
      fails("refused", call(redis))
      line:listen()
      for _, nonsense in ipairs { "?%s\r\n", "$5\r\n%s", ":%s\r\n", "#%s\r\n", "%s" } do
        local peer = it_needs:fake(function() return nonsense:format(CANARY) end)
        fails("nonsense", call(it_needs:client(peer.url, { retry = false })))
      end
      local small = client { max_connections = 1, pool_timeout = 0.02 }
      small:with_connection(function(db)
        db:ping():await()
        fails("full", function() small():blpop(CANARY, 1):await() end)
      end)
      redis:close { drain = 0 }
      fails("closed", call(redis))
    end)
  end)

  it("misuse: arguments that cannot be sent, values that cannot be decoded, what is refused", function()
    local redis = it_needs:client(shared.url)
    check.within(10, function()
      for name, fn in pairs {
        ["nil"] = function() redis():set(CANARY, nil) end,
        ["function"] = function() redis():set(CANARY, print, CANARY) end,
        ["a table with a function"] = function() redis():set(CANARY, { [CANARY] = print, x = CANARY }) end,
        ["NaN"] = function() redis():set(CANARY, 0 / 0) end,
        subscribe = function() redis():subscribe(CANARY) end,
        multi = function() redis():multi():set(CANARY, CANARY):watch(CANARY) end,
        method = function() redis()["no_such_" .. "method"](redis(), CANARY) end,
        ["JSON that is none"] = function()
          redis():set("spec:p17", "{" .. CANARY):await()
          local receiver = redis:pubsub "spec:p17":connect()
          redis():publish("spec:p17", "{" .. CANARY):await()
          receiver:channel "spec:p17":get_json { timeout = 1 }
        end,
        transaction = function() redis:transaction(CANARY, CANARY) end,
        timeout = function() redis():timeout(CANARY) end,
        decoder = function() redis():decoder(CANARY) end,
        script = function() redis:script(CANARY)({ CANARY }, { CANARY }) end,
        lock = function() redis:lock("spec:p17:lock", { [CANARY .. "x"] = nil, timeout = CANARY }) end,
      } do
        fails(name, fn)
      end
      redis():del "spec:p17":await()
    end)
  end)

  it("tostring of everything that there is", function()
    local redis = it_needs:client(guarded.url)
    check.within(5, function()
      local db = redis():set(CANARY, CANARY)
      local receiver = redis:pubsub(CANARY)
      local lock = redis:lock(CANARY)
      local script = redis:script("return '" .. CANARY .. "'")
      for _, object in ipairs { redis, db, receiver, lock, script, receiver:channel(CANARY), redis:monitor(),
        redis:connection(), redis:scan { match = CANARY }, redis:stats(), db._pipeline or db } do
        without_canary(tostring(object), "tostring")
      end
      without_canary(all_words(redis:stats()), "stats")
      db:clear()
      receiver:close()
    end)
  end)

  it("the log: what a process writes of handles never awaited, tasks that failed, uncaught errors", function()
    local head = [[
      local redio = require "redio"
      local redis = redio.Redis(os.getenv "REDIS_URL", { retry = false })
      local CANARY = "]] .. CANARY .. [["
      local function failing() redis():set(CANARY, CANARY):lpush(CANARY, CANARY):await() end
      local function refused() redis():call("AUTH", CANARY .. "x"):await() end
    ]]
    local endings = {
      ["raised by run"] = "redio.run(failing)",
      ["raised by the main chunk"] = "refused()",
      ["a task that is not joined"] = [[redio.run(function() redio.spawn(failing) redio.sleep(0.05) end)]],
      ["a plain coroutine"] = [[redio.run(function() coroutine.wrap(failing)() redio.sleep(0.05) end)]],
      ["a handle never awaited"] = [[
        redis():set(CANARY, CANARY):auth(CANARY):get(CANARY) collectgarbage() collectgarbage()]],
      ["gather"] = [[redio.run(redio.gather, failing, refused)]],
      ["an on_connect that failed"] = [[
        redio.Redis(os.getenv "REDIS_URL", { on_connect = refused }):pubsub(CANARY):connect()]],
    }
    for name, ending in pairs(endings) do
      local output, status = child.run_text(head .. ending, guarded.url, 10)
      without_canary(output, name)
      assert.are_not.equal(124, status, name .. " hung: " .. output)
      if name ~= "a handle never awaited" then assert.are_not.equal(0, status, name) end
      assert.are_not.equal("", output, name)
    end
  end)
end)
