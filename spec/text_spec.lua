-- SPDX-License-Identifier: MIT

local text = require "redio.text"

describe("text", function()
  it("puts everything on one line", function()
    assert.equal("a\\nb\\r\\t\\x00\\x1B[31m\\x7F", text.printable("a\nb\r\t\0\27[31m\127"))
    assert.equal("gr\195\188n", text.printable("gr\195\188n"))
  end)

  it("quotes a name, of bounded length", function()
    assert.equal("'ti\\nme'", text.quote("ti\nme"))
    assert.equal("'" .. ("x"):rep(48) .. "...'", text.quote(("x"):rep(1000)))
    assert.equal("'12'", text.quote(12))
  end)

  describe("near", function()
    local names = { "get", "getset", "hgetall", "timeout", "connect_timeout", "set", "incr" }

    it("finds what a slip of the finger makes", function()
      assert.same({ "timeout" }, text.near("timeotu", { "timeout", "path" }))
      assert.same({ "timeout" }, text.near("Timeuot", { "timeout", "path" }))
      assert.same({ "hgetall" }, text.near("hgetal", names))
    end)

    it("finds what a part stands for, the most alike first, three at most", function()
      assert.same({ "timeout" }, text.near("timeouts", names))
      assert.same({ "timeout", "connect_timeout" }, text.near("timeout", names))
      assert.same({ "ca" }, text.near("cafile", { "ca", "cert" }))
      assert.equal(3, #text.near("get", { "geta", "getb", "getc", "getd" }))
    end)

    it("finds nothing where nothing is alike", function()
      assert.same({}, text.near("quux", names))
      assert.same({}, text.near("x", { "y" }))
      assert.same({}, text.near(("get"):rep(1000), names))
    end)

    it("ends a message", function()
      assert.equal("; did you mean 'incr'?", text.did_you_mean("icnr", names))
      assert.equal("", text.did_you_mean("quux", names))
    end)
  end)
end)
