-- SPDX-License-Identifier: MIT
-- command/table.lua is whole, and contains nothing that the rest of the library does not understand. Needs no server.

local commands = require "redio.command.table"
local trailing = require "redio.command.trailing"
local walk = require "spec.support.every_command"

local function shape_names()
  local file = assert(io.open("src/shape.c"))
  local source = file:read("*a")
  file:close()
  local names = {}
  for name in source:gmatch('=%s*{%s*"([%w_]+)",%s*REDIO_SHAPE_') do
    names[name] = true
  end
  return names
end

local FLAGS = {
  readonly = true, write = true, blocking = true, state = true, private = true, nomulti = true, mute = true,
  watch = true, unwatch = true, multi = true, exec = true, discard = true, secret = true, container = true,
  quit = true, sets_database = true, sets_name = true, auth = true, auth_option = true,
}
local FIELDS = {
  reply = "string", refused = "string", variants = "table", timeout = "table", keys = "table", args = "table",
  options = "table", rewrite = "table", method = "table",
}
local ARGS = {
  names = "number", values = "number", pairs = "number", numkeys = "number", rows = "number", tail = "number",
  width = "number", value = "number", many = "string", empty = "boolean", swap = "boolean",
}

local function each(check)
  for name, entry in pairs(commands) do
    check(name, entry)
  end
end

describe("every command", function()
  it("has a reply shape that exists, and so have its variants", function()
    local known = shape_names()
    assert.is_true(known.value and known.nothing and known.exec and known.scored)
    each(function(name, entry)
      assert.is_true(known[entry.reply], name)
      local variants = entry.variants or {}
      for _, variant in ipairs(variants) do
        assert.is_true(known[variant.reply], name)
        if variant.token then
          assert.equal(variant.token:upper(), variant.token)
          assert.is_true(#variant.token < 16 and (variant.takes or "all") == "all", name)
        else
          assert.is_true(variant.argc >= 0 and #variants == 1, name)
        end
      end
      assert.is_true(#(trailing.variants(entry) or {}) <= 12, name)
      if entry.method then
        assert.is_true(known[entry.method.reply], name)
        assert.is_table(commands[entry.method.command], name)
      end
    end)
  end)

  it("has known fields only", function()
    each(function(name, entry)
      for field, value in pairs(entry) do
        if FLAGS[field] then
          assert.is_true(value, name .. "." .. field)
        else
          assert.equal(FIELDS[field], type(value), name .. "." .. field)
        end
      end
      for field, value in pairs(entry.args or {}) do
        assert.equal(ARGS[field], type(value), name .. ".args." .. field)
      end
    end)
  end)

  it("has a name of one or two words and a method of its own", function()
    local methods = {}
    each(function(name, entry)
      assert.truthy(name:find("^[A-Z][A-Z_-]*$") or name:find("^[A-Z]+ [A-Z][A-Z-]*$"), name)
      local method = name:lower():gsub("[ -]", "_")
      assert.is_nil(methods[method], name)
      methods[method] = entry
      local container = name:match("^(%S+) ")
      if container then
        assert.is_true(commands[container].container, name)
      end
    end)
    assert.truthy(methods.config_get and methods.client_no_evict and methods.xgroup_create and methods.eval_ro)
  end)

  it("either reads or writes", function()
    each(function(name, entry)
      assert.falsy(entry.readonly and entry.write, name)
      assert.falsy(entry.readonly and entry.state, name)
      if entry.blocking then
        local timeout = entry.timeout
        assert.is_true(timeout.unit == 1 or timeout.unit == 0.001, name)
        assert.is_true(timeout.at ~= nil or timeout.token ~= nil, name)
      end
    end)
  end)

  it("has options that can be read", function()
    each(function(name, entry)
      local options = entry.options
      if options then
        assert.is_true(#options > 0 and options.after >= 0, name)
        for _, option in ipairs(options) do
          local token, rest = option:match("^([A-Z0-9]+)[~+]?(.*)$")
          assert.is_string(token, name .. ": " .. option)
          assert.truthy(rest == "" or rest:find("^=[a-z_0-9,/]+%.?%.?%.?$"), name .. ": " .. option)
        end
        for coarse, fine in pairs(options.fractions or {}) do
          local all = " " .. table.concat(options, " ")
          assert.truthy(all:find(" " .. coarse .. "=", 1, true) and all:find(" " .. fine .. "=", 1, true), name)
        end
      end
      local rewrite = entry.rewrite
      if rewrite and rewrite.to then
        assert.is_table(commands[rewrite.to], name)
      end
      if entry.args and entry.args.many then
        assert.is_table(commands[entry.args.many], name)
      end
    end)
  end)
end)

describe("the flags that others rely on", function()
  local function with(flag)
    local names = {}
    each(function(name, entry)
      if entry[flag] then
        names[#names + 1] = name
      end
    end)
    table.sort(names)
    return table.concat(names, " ")
  end

  it("name one command each", function()
    assert.equal("WATCH", with("watch"))
    assert.equal("UNWATCH", with("unwatch"))
    assert.equal("MULTI", with("multi"))
    assert.equal("EXEC", with("exec"))
    assert.equal("DISCARD", with("discard"))
    assert.equal("CLIENT REPLY", with("mute"))
  end)

  it("mark what cannot stand in a transaction", function()
    for name in ("MULTI WATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE MONITOR RESET HELLO QUIT SAVE SHUTDOWN"):gmatch("%S+") do
      assert.is_true(commands[name].nomulti, name)
    end
    assert.is_true(commands["CLIENT REPLY"].nomulti)
  end)

  it("mark what waits on the server", function()
    assert.equal(
      "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF XREAD XREADGROUP",
      with("blocking")
    )
  end)

  it("mark what holds secrets", function()
    for _, name in ipairs { "AUTH", "HELLO", "ACL SETUSER", "CONFIG SET", "MIGRATE" } do
      assert.is_true(commands[name].secret, name)
    end
  end)
end)

describe("the walk", function()
  local left_out = {
    "FAILOVER", "HELLO", "MONITOR", "PSUBSCRIBE", "PSYNC", "PUNSUBSCRIBE", "QUIT", "REPLCONF", "RESET", "SHUTDOWN",
    "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE",
  }

  it("visits every other command, and no other", function()
    local seen = {}
    for _, calls in pairs(walk) do
      for _, call in ipairs(calls) do
        local two = call[2] and call[1] .. " " .. call[2]
        local name = commands[two or ""] and two or call[1]
        assert.is_table(commands[name], name)
        seen[name] = true
      end
    end
    for _, name in ipairs(left_out) do
      assert.is_nil(seen[name], name)
      seen[name] = true
    end
    each(function(name, entry)
      assert.is_true(seen[name] or entry.container or false, name)
    end)
  end)
end)
