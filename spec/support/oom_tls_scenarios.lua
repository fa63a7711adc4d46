-- SPDX-License-Identifier: MIT
-- The scenarios of spec/support/oom.c with redio.tls, which run while memory is out. The word is a directory with
-- certificates of spec.support.certificates. An engine dies, or the failure has no effect: no byte is lost or changed,
-- and a server without an accepted certificate is never trusted.

local new_peer = require "oom.peer"
local tls = require "redio.tls"

local DIR = ...

local QUESTION, ANSWER = ("question "):rep(4500), ("answer "):rep(6000) -- some records each

local scenarios = {}

local function file(name)
  return DIR .. "/" .. name
end

-- An engine and its server. Whatever is on its way is in a field, and every step needs no memory of Lua's once it is
-- taken: so `pump` may be called again when it was interrupted.
local function new_link(options)
  local settings = { ca = file(options.ca or "ca.crt") }
  if options.client then
    settings.cert, settings.key = file(options.client .. ".crt"), file(options.client .. ".key")
  end
  return {
    options = options, settings = settings, name = options.name or "localhost", context = false, engine = false,
    why = false, -- it is dead
    done = false, -- its handshake is
    up = false, down = false, -- bytes on their way
    asks = false, asked = false, -- the question may be, or is, in the engine
    answered = false, -- the answer is in the server
    got = { false, false, false, false, false, false, false, false }, count = 0,
    peer = new_peer(file "server.crt", file "server.key", file "ca.crt", options.tls12, options.client),
  }
end

local function open(link)
  local thing, why
  if not link.context then
    thing, why = tls.context(link.settings)
    if not thing then
      link.why = why
      return false
    end
    link.context = thing
  end
  if not link.engine then
    thing, why = tls.engine(link.context, link.name)
    if not thing then
      link.why = why
      return false
    end
    link.engine = thing
  end
  return true
end

-- Each answers whether there was anything to do.

local function carry(link)
  if link.up then
    link.peer:feed(link.up)
    link.up = false
    return true
  elseif link.down then
    local ok, why = link.engine:feed(link.down)
    link.down = false
    if not ok then link.why = why end
    return true
  end
end

local function fetch(link)
  link.up = link.engine:output() or false
  link.down = not link.up and link.peer:output() or false
  return link.up or link.down
end

local function work(link)
  local engine = link.engine
  local ok, why = engine:handshake()
  if ok == nil then link.why = why end
  if not ok then return end
  link.done = true
  if link.asks and not link.asked then
    link.asked = true -- whatever becomes of it: not twice
    ok, why = engine:write(QUESTION)
    if not ok then link.why = why end
    return true
  end
  if link.asked and not link.answered and link.peer:count() == #QUESTION then
    if not link.options.tls12 then link.peer:update_keys() end
    link.peer:write(ANSWER)
    link.answered = true
  end
  link.got[link.count + 1], why = engine:read()
  if link.got[link.count + 1] then
    link.count = link.count + 1
    return true
  elseif link.got[link.count + 1] == nil then
    link.why = why
  end
end

-- Until nothing is left to do, or the engine is dead and has said its last.
local function pump(link)
  if not open(link) then return end
  repeat
    local more = carry(link) or (not link.why and work(link))
    more = more or fetch(link)
  until not more
end

local function check_dead(link)
  local engine, why = link.engine, link.why
  assert(type(why) == "string" and #why > 5, "dead without a reason")
  if not engine then return end
  for _, method in ipairs { "handshake", "read" } do
    local ok, said = engine[method](engine)
    assert(ok == nil and said == why, method .. " of a dead engine: " .. tostring(ok or said))
  end
  assert(engine:feed "x" == nil and engine:write "x" == nil, "a dead engine takes something")
end

local function check_link(link)
  if link.why then return check_dead(link) end
  link.asks = true
  pump(link)
  local heard, got = link.peer:heard(), table.concat(link.got, "", 1, link.count)
  if link.why then
    check_dead(link)
    assert(heard == QUESTION:sub(1, #heard), "other bytes went up")
    assert(got == ANSWER:sub(1, #got), "other bytes came down")
  else
    assert(heard == QUESTION, "the question got lost")
    assert(got == ANSWER, "the answer got lost")
    assert(link.engine:info() == (link.options.tls12 and "TLSv1.2" or "TLSv1.3"))
  end
end

local function check_refused(link)
  check_link(link)
  assert(link.why and not link.done and link.peer:heard() == "", "it was let in")
end

local function add(name, options, before, run, after)
  scenarios[#scenarios + 1] = {
    name = name,
    prepare = function()
      local link = new_link(options)
      before(link)
      return link
    end,
    run = run,
    after = after or check_link,
  }
end

local function nothing() end

local function ask(link)
  link.asks = true
  pump(link)
end

add("context", { client = "client" }, nothing, open)

add("engine", {}, function(link)
  link.context = assert(tls.context(link.settings))
end, open)

local handshakes = {
  { "TLS 1.3", {} }, { "TLS 1.2", { tls12 = true } }, { "client certificate", { client = "client" } },
  { "unknown CA", { ca = "other_ca.crt" }, check_refused },
  { "another host", { name = "elsewhere.test" }, check_refused },
  { "another address", { name = "127.0.0.1" }, check_refused },
}
for _, each in ipairs(handshakes) do
  add("handshake, " .. each[1], each[2], open, pump, each[3])
end

for _, options in ipairs { {}, { tls12 = true } } do
  local version = options.tls12 and "TLS 1.2" or "TLS 1.3"

  add("question and answer, " .. version, options, pump, ask)

  add("read, " .. version, options, function(link)
    pump(link)
    local fetched, carried = fetch, carry
    link.asks = true
    while not link.answered do -- all but the reading
      if not carried(link) and not fetched(link) then
        if not link.asked then
          assert(link.engine:write(QUESTION))
          link.asked = true
        elseif link.peer:count() == #QUESTION then
          link.peer:write(ANSWER)
          link.answered = true
        end
      end
    end
  end, pump)

  add("shutdown, " .. version, options, pump, function(link)
    link.engine:shutdown()
    link.up = link.engine:output() or false
    link.engine:close()
  end, function(link)
    link.engine:close()
    assert(link.engine:write "x" == nil)
  end)
end

return scenarios
