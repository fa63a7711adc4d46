-- SPDX-License-Identifier: MIT
-- Promise 26, process manners: no signal handler, no death by SIGPIPE, nothing that depends on the locale, no
-- descriptor that a child process inherits, no globals. Each test has a process of its own.

local uv = require "luv"
local server = require "spec.support.server"
local child = require "spec.support.child"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function shell(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

describe("Promise 26, process manners:", function()
  local shared, dir

  setup(function()
    shared = server.shared()
    dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
  end)

  teardown(function()
    shell("rm -rf " .. quote(dir))
  end)

  -- A program's output; it has to end well.
  local function run(text)
    local output, status = child.run_text(text, shared.url, 20)
    assert.are.equal(0, status, output)
    return output
  end

  -- Everything that a client does, once.
  local USE = [[
    local function use(url, options)
      local redis = redio.Redis(url or os.getenv "REDIS_URL", options)
      redio.run(function()
        redis():set("spec:p26", 1):incr("spec:p26"):await()
        redis:transaction("spec:p26", function(db) db:incr("spec:p26") end)
        local receiver = redis:pubsub("spec:p26"):connect()
        redis():publish("spec:p26", "m"):await()
        assert(receiver:await() == "m")
        receiver:close()
        pcall(function() redis():lpush("spec:p26", 1):await() end)
        redis():blpop("spec:p26:none", 0.01):del("spec:p26"):await()
        redio.spawn(redio.sleep, 0.001):await()
      end)
      return redis
    end
  ]]

  it("no signal gets a handler by loading or using it", function()
    run([[
      local process = require "spec.support.process"
      local uv = require "luv"
      local caught, blocked = process.status "SigCgt", process.status "SigBlk"
      local redio = require "redio"
    ]] .. USE .. [[
      local redis = use()
      assert(process.status "SigCgt" == caught, "SigCgt is " .. process.status "SigCgt")
      assert(process.status "SigBlk" == blocked, "SigBlk is " .. process.status "SigBlk")
      redis:close()
      assert(process.status "SigCgt" == caught)
      assert(uv)
    ]])
  end)

  it("a program's own handler of SIGPIPE stays", function()
    run [[
      local process = require "spec.support.process"
      local uv = require "luv"
      local signal = uv.new_signal()
      signal:start("sigpipe", function() end)
      signal:unref()
      local caught = process.status "SigCgt"
      require "redio"
      assert(process.status "SigCgt" == caught, process.status "SigCgt")
      assert(tonumber(process.status "SigIgn":sub(-4), 16) % 0x2000 < 0x1000, "SIGPIPE is ignored now")
      signal:close()
      uv.run()
    ]]
  end)

  it("writing to a peer that has reset does not end the process", function()
    -- (`env` and the shell leave SIGPIPE as it is by default, which would kill)
    local output = run [[
      local redio = require "redio"
      local fake = require "spec.support.fake"
      redio.run(function()
        local peer
        peer = fake.start(function(connection) connection:reset() end)
        for i = 1, 12 do
          local redis = redio.Redis(peer.url, { retry = false })
          local tasks = {}
          for j = 1, 5 do
            tasks[j] = redio.spawn(function()
              pcall(function() redis():set("k", ("x"):rep(i * 100000)):await() end)
              pcall(function() redis():set("k", ("x"):rep(i * 100000)):await() end)
            end)
          end
          for j = 1, 5 do tasks[j]:await() end
          redis:close { drain = 0 }
        end
        peer:stop()
      end)
      print "alive"
    ]]
    assert.are.equal("alive\n", output)
  end)

  it("no global is set or changed, and nothing of Lua's own is touched", function()
    run([[
      local function snapshot()
        local seen = {}
        for name, value in pairs(_G) do
          seen["_G." .. tostring(name)] = value
          if type(value) == "table" and value ~= _G and value ~= package.loaded then
            for field, inner in pairs(value) do seen[name .. "." .. tostring(field)] = inner end
          end
        end
        seen.strings = getmetatable ""
        for name, value in pairs(getmetatable "") do seen["string metatable " .. name] = value end
        for _, value in ipairs { 1, true, print, coroutine.create(print) } do
          seen["metatable of " .. type(value)] = getmetatable(value) or false
        end
        seen["metatable of nil"] = getmetatable(nil) or false
        seen["metatable of _G"] = getmetatable(_G) or false
        return seen
      end
      require "luv"
      require "cjson"
      local loaded = {}
      for name in pairs(package.loaded) do loaded[name] = true end
      local cjson = require "cjson"
      local before = snapshot()
      local redio = require "redio"
    ]] .. USE .. [[
      local redis = use()
      local all = snapshot()
      for name, value in pairs(all) do
        assert(rawequal(before[name], value), name .. " is new or changed")
      end
      for name in pairs(before) do assert(all[name] ~= nil, name .. " is gone") end
      for name in pairs(package.loaded) do
        assert(loaded[name] or name == "redio" or name:find "^redio%.", "loaded too: " .. name)
      end
      -- cjson's settings, which are the whole process's
      assert(not pcall(cjson.encode, { [1] = 1, [1000] = 2 }), "cjson's own settings were changed")
      redis:close()
    ]])
  end)

  it("its descriptors are closed on exec: a child process gets none of them", function()
    local output = run([[
      local process = require "spec.support.process"
      local redio = require "redio"
    ]] .. USE .. [[
      local redis = use()
      redio.run(function()
        redis():watch("spec:p26"):await() -- a private one, too
        local receiver = redis:pubsub("spec:p26"):connect()
        local sockets = {}
        for _, target in ipairs(process.descriptors()) do
          if target:find "^socket:" then sockets[target] = true end
        end
        assert(next(sockets), "no socket is open")
        local pipe = io.popen "ls -l /proc/self/fd"
        local seen = pipe:read "*a"
        pipe:close()
        assert(seen:find "self" or seen:find "pipe:", seen)
        for target in pairs(sockets) do
          assert(not seen:find(target, 1, true), target .. " went on to the child: " .. seen)
        end
        receiver:close()
      end)
      redis:close()
      print "none"
    ]])
    assert.are.equal("none\n", output)
  end)

  describe("under a locale with a decimal comma", function()
    local has_comma

    setup(function()
      shell(("localedef -i de_DE -f UTF-8 %s"):format(quote(dir .. "/de_DE.UTF-8")))
      local answer = shell(("LOCPATH=%s LC_ALL=de_DE.UTF-8 %s -e %s"):format(quote(dir), os.getenv "LUA" or "lua5.4",
        quote "print(os.setlocale 'de_DE.UTF-8', 1.5)"))
      has_comma = answer:find("1,5", 1, true) ~= nil
    end)

    it("numbers go and come as always: all vectors with doubles, floats, JSON, commands", function()
      if not has_comma then
        return pending "no such locale can be made here (localedef), or this Lua writes 1.5 in each"
      end
      local text = [[
        local redio = require "redio"
        local fake = require "spec.support.fake"
        assert(os.setlocale "de_DE.UTF-8")
        assert(("%g"):format(1.5) == "1,5")
      ]] .. USE .. [[
        use():close()
        local redis = redio.Redis(os.getenv "REDIS_URL")
        for _, case in ipairs { { 0.1, "0.1" }, { 1.5, "1.5" }, { -2.5e-9, "-2.5e-9", "-2.5e-09" } } do
          local text = redis():echo(case[1]):await()
          assert(text == case[2] or text == case[3], text)
        end
        assert(redis():echo { 1.5 }:await() == "[1.5]", (redis():echo { 1.5 }:await()))
        local score, rest = redis():zadd("spec:p26:z", 2.5, "m"):zscore("spec:p26:z", "m"):del("spec:p26:z"):await()
        assert(rest == 2.5 and score == 1)
        assert(redis():echo "1.5":autodecode():await() == 1.5)
        assert(redis():echo "[1.5]":autodecode():await()[1] == 1.5)
        assert(redis():set("spec:p26", 1):expire("spec:p26", 0.5):await() == true)
        assert(redis():blpop("spec:p26:none", 0.01):await() == nil)
        assert(redio.parse_url "redis://h/?timeout=1.5".options.timeout == 1.5)
        redis():del("spec:p26"):await()
        redis:close()

        local cases = require "spec.support.resp_cases"
        local function same(a, b)
          if type(a) ~= "table" or type(b) ~= "table" then return a == b or (a ~= a and b ~= b) end
          for k, v in pairs(a) do if not same(v, b[k]) then return false end end
          for k in pairs(b) do if a[k] == nil then return false end end
          return true
        end
        local count = 0
        redio.run(function()
          for _, case in ipairs(cases) do
            if case.name:find "^dbl" or case.name:find "^int" then
              count = count + 1
              local peer = fake.start(function() return case.bytes end)
              local client = redio.Redis(peer.url, { retry = false, limits = case.limits, timeout = 1 })
              local ok, value = pcall(function() return client():call("X"):await() end)
              if case.kind == "gives" then
                assert(ok, case.name .. ": " .. tostring(value))
                assert(same(case.values[1], value), case.name .. ": " .. tostring(value))
              else
                assert(not ok and redio.errors.is(value, "ProtocolError"), case.name .. ": " .. tostring(value))
              end
              client:close { drain = 0 }
              peer:stop()
            end
          end
        end)
        assert(count > 25, count)
        print "as always"
      ]]
      local path = dir .. "/program.lua"
      local file = assert(io.open(path, "w"))
      file:write(text)
      file:close()
      uv.os_setenv("LOCPATH", dir)
      local output, status = child.run(path, shared.url, 20)
      uv.os_unsetenv "LOCPATH"
      assert.are.equal("as always\n", output)
      assert.are.equal(0, status)
    end)
  end)
end)
