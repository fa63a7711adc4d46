-- SPDX-License-Identifier: MIT
-- base/messages.lua: the texts of messages, and the names that they suggest.

local messages = require "redio.base.messages"

describe("text", function()
  it("puts everything on one line", function()
    assert.equal("a\\nb\\r\\t\\x00\\x1B[31m\\x7F", messages.printable("a\nb\r\t\0\27[31m\127"))
    assert.equal("gr\195\188n", messages.printable("gr\195\188n"))
  end)

  it("quotes a name, of bounded length", function()
    assert.equal("'ti\\nme'", messages.quote("ti\nme"))
    assert.equal("'" .. ("x"):rep(48) .. "...'", messages.quote(("x"):rep(1000)))
    assert.equal("'12'", messages.quote(12))
  end)

  describe("near", function()
    local names = { "get", "getset", "hgetall", "timeout", "connect_timeout", "set", "incr" }

    it("finds what a slip of the finger makes", function()
      assert.same({ "timeout" }, messages.near("timeotu", { "timeout", "path" }))
      assert.same({ "timeout" }, messages.near("Timeuot", { "timeout", "path" }))
      assert.same({ "hgetall" }, messages.near("hgetal", names))
    end)

    it("finds what a part stands for, the most alike first, three at most", function()
      assert.same({ "timeout" }, messages.near("timeouts", names))
      assert.same({ "timeout", "connect_timeout" }, messages.near("timeout", names))
      assert.same({ "ca" }, messages.near("cafile", { "ca", "cert" }))
      assert.equal(3, #messages.near("get", { "geta", "getb", "getc", "getd" }))
    end)

    it("finds nothing where nothing is alike", function()
      assert.same({}, messages.near("quux", names))
      assert.same({}, messages.near("x", { "y" }))
      assert.same({}, messages.near(("get"):rep(1000), names))
    end)

    it("ends a message", function()
      assert.equal("; did you mean 'incr'?", messages.did_you_mean("icnr", names))
      assert.equal("", messages.did_you_mean("quux", names))
    end)
  end)
end)
