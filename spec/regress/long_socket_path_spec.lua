-- SPDX-License-Identifier: MIT
-- A unix socket's path has a longest length, which the kernel sets. libuv cut a longer path without a word, and the
-- client talked to whatever had the shorter name.

local uv = require "luv"

local check = require "spec.support.check"
local core = require "redio.core"
local redio = require "redio"
local server = require "spec.support.server"

describe("the path of a unix socket", function()
  local directory, longest

  setup(function()
    directory = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
    longest = directory .. "/" .. ("x"):rep(core.socket_path_max - #directory - 1)
    assert(uv.fs_symlink(server.shared().path, longest))
  end)

  teardown(function()
    uv.fs_unlink(longest)
    uv.fs_rmdir(directory)
  end)

  it("may be as long as the system takes", function()
    assert.is_true(core.socket_path_max == 107 or core.socket_path_max == 103)
    for _, redis in ipairs { redio.Redis("redis+unix://" .. longest), redio.Redis(nil, { path = longest }) } do
      assert.equal("hello", (redis():echo("hello"):await()))
      redis:close()
    end
  end)

  it("is refused beyond that, at the caller's line, with the limit", function()
    local longer = longest .. "y"
    local limit = tostring(core.socket_path_max)
    local said = check.misuse(function()
      redio.Redis("redis+unix://" .. longer)
    end)
    assert.truthy(said:find(("has %d bytes, and a socket's can have %s at most"):format(#longer, limit), 1, true), said)
    for _, url in ipairs { longer, "unix://" .. longer:gsub("x", "%%78"), "redis://localhost?path=" .. longer } do
      assert.is_false(pcall(redio.Redis, url), url)
      assert.is_false(pcall(redio.parse_url, url), url)
    end
    said = check.misuse(function()
      redio.Redis(nil, { path = longer })
    end)
    local expected = "option 'path' must be a string, not empty, without NUL, of at most " .. limit
    assert.truthy(said:find(expected, 1, true), said)
    assert.is_nil(said:find(longer, 1, true))
    -- percent-encoded it may be longer than it is
    assert.equal(longest, redio.parse_url("unix://" .. longest:gsub("x", "%%78")).path)
  end)
end)
