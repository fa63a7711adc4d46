-- SPDX-License-Identifier: MIT
-- Aborts in nginx: a request ends when its client hangs up, wherever it waits, and leaves nothing to the next one. It
-- also ends while a light thread writes a chain longer than one write, beside the thread that reads. Most clients here
-- wait until their request has begun: nginx does not notice one that hangs up before its request was read
-- (docs/nginx.md).

local redio = require "redio"
local check = require "spec.support.check"
local nginx = require "spec.support.nginx"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"

-- It never ends by itself.
local PROGRAM = [[
  ngx.log(ngx.NOTICE, "begun ", ngx.var.arg_id, ".")
  local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
  while true do
    local db = redis()
    for i = 1, %d do db:echo(("x"):rep(%d) .. i) end
    db:replies()
  end]]

local OVER = [[ngx.log(ngx.NOTICE, "over ", ngx.var.arg_id, ".")]]

local function has_logged(web, word, id)
  return web:log():find(("%s %d."):format(word, id), 1, true) ~= nil
end

-- Waits until the log has it, for long: a worker may be busy with other requests.
local function await(web, word, id)
  local over = os.time() + 30
  while not has_logged(web, word, id) and os.time() < over do
    redio.sleep(0.005)
  end
  assert(has_logged(web, word, id), ("request %d is not %s"):format(id, word))
end

local function with_program(count, size, url, fn)
  nginx.with({ url = url, http = nginx.ABORTS,
    locations = { ["/"] = { content = PROGRAM:format(count, size), log = OVER } } }, fn)
end

-- Requests first to last, begun.
local function begin(web, first, last)
  local pipes = {}
  for id = first, last do
    pipes[id] = web:ask("/?id=" .. id)
    await(web, "begun", id)
  end
  return pipes
end

-- True once more bytes have come than those of a login.
local function is_under_way(between)
  for _, connection in ipairs(between.connections) do
    if not connection.closed and connection.up.passed > 64 * 1024 then return true end
  end
  return false
end

describe("In nginx a request ends when its client hangs up", function()
  if nginx.missing() then return pending(nginx.missing()) end

  for what, length in pairs { ["in a short chain"] = 300, ["in a long one"] = 10000 } do
    it(what, function()
      with_program(length, 100, nil, function(web)
        for id = 1, 20 do
          local pipe = begin(web, id, id)[id]
          redio.sleep(0.002 * (id % 10))
          assert.is_false(has_logged(web, "over", id))
          pipe:close()
          await(web, "over", id)
        end
      end)
    end)

    it(what .. ", and others with it", function()
      with_program(length, 100, nil, function(web)
        local pipes = begin(web, 1, 8)
        for id = 1, 8 do
          pipes[id]:close()
        end
        for id = 1, 8 do
          await(web, "over", id)
        end
      end)
    end)
  end

  it("in one that the server does not read", function()
    local between = proxy.start(server.shared())
    finally(function()
      between:stop()
    end)
    with_program(20000, 1000, between.url, function(web)
      for id = 1, 3 do
        local pipe = begin(web, id, id)[id]
        assert.is_true(check.eventually(function()
          return is_under_way(between)
        end))
        between.up.window, between.up.hold = 1, true
        redio.sleep(0.2) -- the network holds less than the chain
        assert.is_false(has_logged(web, "over", id))
        pipe:close()
        await(web, "over", id)
        between.up.window, between.up.hold = nil, nil
        between:cut()
        between:release()
      end
    end)
  end)
end)

describe("In nginx", function()
  if nginx.missing() then return end

  describe("a request that ends in the midst of a wait leaves nothing behind:", function()
    local function check_abort(program, times)
      local own = server.start()
      nginx.with({ url = own.url, http = nginx.ABORTS, locations = {
        ["/"] = 'local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 }) ' .. program,
        ["/after"] = nginx.AFTER,
      } }, function(web)
        for i = 1, times do
          web:abort("/", 0.002 * (i % 10) + 0.01)
        end
        redio.sleep(0.1)
        assert.same(nginx.CLEAN, select(2, web:get "/after"))
        local function waiting()
          return select(2, own:cli("client", "list"):gsub("cmd=blpop", ""))
        end
        -- (Requests that hang up before they are read, as on a busy machine, go unnoticed and end by themselves.)
        assert.is_true(check.eventually(function() return waiting() < times end))
        for _ = 1, 10 do
          if check.eventually(function() return waiting() == 0 end) then break end
        end
        assert.are.equal(0, waiting())
      end)
      own:stop()
    end

    it("a blocking command", function()
      check_abort('redis():blpop("nothing", 5):await()', 10)
    end)

    it("a chain", function()
      check_abort([[
        local over = ngx.now() + 2 -- (one that hangs up before its request is read goes unnoticed)
        while ngx.now() < over do
          local db = redis()
          for i = 1, 2000 do db:echo("mine " .. i) end
          db:replies()
        end]], 40)
    end)

    it("a transaction", function()
      check_abort([[
        redis:transaction("k", function(db)
          db:select(3):get("k"):await()
          ngx.sleep(1)
        end)]], 10)
    end)

    it("a receiver", function()
      check_abort('for message in redis:pubsub("news") do ngx.say(message) end', 10)
    end)

    it("a chain that is longer than what is written at once", function()
      check_abort([[
        local over = ngx.now() + 2 -- (one that hangs up before its request is read goes unnoticed)
        while ngx.now() < over do
          local db = redis()
          for i = 1, 10000 do db:echo(("x"):rep(100) .. i) end
          db:replies()
        end]], 40)
    end)
  end)

  it("a request that is aborted leaves no deadline to the next one", function()
    nginx.with({ http = nginx.ABORTS, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 50 })
      redio.with_timeout(0.5, function()
        redio.gather(function() redis():blpop("nothing", 100):await() end, function() redio.sleep(100) end)
      end)]], ["/after"] = nginx.AFTER } }, function(web)
      local aborts = {}
      for i = 1, 30 do
        aborts[i] = redio.spawn(web.abort, web, "/", 0.2)
      end
      for i = 1, 30 do
        aborts[i]:await()
      end
      redio.sleep(0.5)
      local afters = {}
      for i = 1, 60 do
        afters[i] = redio.spawn(web.get, web, "/after")
      end
      for i = 1, 60 do
        assert.same(nginx.CLEAN, select(2, afters[i]:await()))
      end
    end)
  end)

  it("ngx.on_abort may end a request in the midst of a wait", function()
    nginx.with({ http = nginx.ABORTS, locations = { ["/"] = [[
      local redis = shared("here", os.getenv "REDIS_URL", { max_connections = 4 })
      ngx.on_abort(function() ngx.exit(499) end)
      redis():blpop("nothing", 10):await()]], ["/after"] = nginx.AFTER } }, function(web)
      for _ = 1, 10 do
        web:abort("/", 0.01)
      end
      assert.same(nginx.CLEAN, select(2, web:get "/after"))
    end)
  end)
end)
