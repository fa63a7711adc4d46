-- SPDX-License-Identifier: MIT
-- Each example runs as its head says. Its output is compared byte by byte, and it leaves nothing behind.

local server = require "spec.support.server"
local child = require "spec.support.child"

-- Columns are apart by tabs, here written as " | ".
local EXPECTED = {
  quickstart = [[
Got values: | Hello | 42
Hash: | 2 | Ada | 1815
Transaction: | 43 | 44
]],
  hashes = [[
new fields: | 2 | 2
bytes: | Ada | 1815 | ["en","fr"] | false
decoded: | Ada | 1815 | fr | false
hget: | Ada | false
exists: | true | false
next year: | 1816
fields: | alive born languages name
]],
  watch_loop = [[
letters: | abcdefghij
]],
  receiver = [[
example:news | first
example:news | second | a,b
example:weather | 21.5
example:news | bye
receivers of each: | 1 | 1 | 1 | 1
]],
  pipeline = [[
queued: | 10001
replies: | 10000
first and last: | 1 | 9999
error: | 5000 | INCR | value is not an integer or out of range
list: | 9999 | 1 2 3
]],
  thousand_coroutines = [[
right answers: | 1000
connections: | 1
]],
  decoding = [[
none: | 3 | 10 | {"foo":"bar"}
strdecode: | 7 | 10 | {"foo":"bar"}
strencode: | true
autodecode: | 3 | 11 | bar
decoder: | 3 | 10 | {"FOO":"BAR"}
none again: | string
]],
  errors = [[
ReplyError | ERR | value is not an integer or out of range
 | INCR | number 2 | sent: yes | abc
WrongTypeError | true | false
ConnectionError: cannot connect: connection refused (ECONNREFUSED) (127.0.0.1:1)
 | true | sent: no
TimeoutError | no reply within 0.05 s (timeout) | sent: maybe
false | unknown option 'timeuot'; did you mean 'timeout'?
false | bad argument #2 to 'SET' (it is nil, which cannot be sent; send "" or leave the command out)
]],
}

local function names()
  local list = {}
  for path in io.popen("ls examples/*.lua"):lines() do
    list[#list + 1] = path:match("([^/]+)%.lua$")
  end
  return list
end

describe("The example", function()
  local private

  setup(function()
    private = server.start()
  end)

  teardown(function()
    private:stop()
  end)

  for _, name in ipairs(names()) do
    it(name .. " prints what it should, twice, and leaves no key behind", function()
      local expected = assert(EXPECTED[name], "this spec has not its output"):gsub(" | ", "\t")
      for _ = 1, 2 do
        local output, status = child.run("examples/" .. name .. ".lua", private.url)
        assert.equal(expected, output)
        assert.equal(0, status)
      end
      assert.equal("0", private:cli("dbsize"))
    end)
  end

  it("of every name above is there", function()
    local there = {}
    for _, name in ipairs(names()) do
      there[name] = true
    end
    for name in pairs(EXPECTED) do
      assert(there[name], name)
    end
  end)
end)
