-- SPDX-License-Identifier: MIT
-- The fuzz targets bound the time that a byte of their input takes (spec/fuzz/steps.h). This spec tries the counter on
-- functions of known cost, and on the decoder. The targets themselves run by `make fuzz`.

-- Sources that are not counted, sources that are, the program.
local BUILD = [[dir=$(mktemp -d) && here=$PWD && trap 'rm -r "$dir"' EXIT && (cd "$dir" &&
  ${CC:-cc} -std=c99 -O1 -I"$here/src" -I"$here/spec/fuzz" -c "$here/spec/fuzz/steps.c" %s &&
  ${CC:-cc} -std=c99 -O1 -I"$here/src" -I"$here/spec/fuzz" -fsanitize-coverage=trace-pc -Dmemmove=steps_memmove \
    -Dmemcpy=steps_memcpy -Dmemchr=steps_memchr -Drealloc=steps_realloc -c %s &&
  ${CC:-cc} -Wl,--wrap=__sanitizer_cov_trace_pc *.o -lm -o '%s')]]

local PROGRAM = [[
#include "steps.h"
#include <stdlib.h>
#include <string.h>

static char bytes[1 << 16];
static volatile unsigned sink;

static void linear(size_t n) {
  for (size_t i = 0; i < n; i++)
    sink += (unsigned)bytes[i];
}

static void quadratic(size_t n) {
  for (size_t i = 0; i < n; i++)
    linear(i);
}

static void doubling(size_t depth) {
  if (depth > 0) {
    doubling(depth - 1);
    doubling(depth - 1);
  }
  sink++;
}

static void moving(size_t n) {
  for (size_t i = 1; i < n; i++)
    memmove(bytes, bytes + 1, n - i);
}

int main(int argc, char **argv) {
  size_t n = (size_t)atoi(argv[2]);
  steps_begin(20);
  steps_allow(n);
  if (argc > 3)
    steps_pause();
  switch (*argv[1]) {
  case 'l': linear(n); break;
  case 'q': quadratic(n); break;
  case 'd': doubling(n); break;
  case 'm': moving(n); break;
  }
  steps_end();
  return 0;
}
]]

local function run(command, ...)
  local pipe = io.popen(("{ %s\n} </dev/null 2>&1; echo $?"):format(command:format(...)))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  return tonumber(status) == 0, text
end

describe("the steps of the fuzz targets", function()
  local program

  setup(function()
    program = os.tmpname()
    local source = program .. ".c"
    local file = assert(io.open(source, "w"))
    file:write(PROGRAM)
    file:close()
    local ok, text = run(BUILD, "", source, program)
    os.remove(source)
    assert(ok, text)
  end)

  teardown(function()
    os.remove(program)
  end)

  local function try(what, n, rest)
    return run("'%s' %s %d %s", program, what, n, rest or "")
  end

  it("allow what is linear, however much it is", function()
    for _, n in ipairs { 0, 100, 10000, 60000 } do
      local ok, text = try("linear", n)
      assert(ok, text)
      assert.matches("steps: at most %d+ for a byte, of 20", text)
    end
  end)

  it("end what is quadratic, before it is through", function()
    assert.is_true((try("quadratic", 10)))
    local ok, text = try("quadratic", 60000)
    assert.is_false(ok)
    assert.matches("steps for 60064 bytes, of which each may take 20", text)
  end)

  it("end what doubles with each level, after a few", function()
    assert.is_true((try("doubling", 5)))
    for _, depth in ipairs { 12, 60 } do
      local ok, text = try("doubling", depth)
      assert.is_false(ok)
      assert.matches("steps for " .. depth + 64 .. " bytes", text)
    end
  end)

  it("count what the C library moves", function()
    assert.is_true((try("moving", 100)))
    assert.is_false((try("moving", 60000)))
  end)

  it("leave out what a target does for itself", function()
    assert.is_true((try("quadratic", 3000, "paused")))
  end)
end)

describe("the decoder", function()
  local program

  setup(function()
    program = os.tmpname()
    local ok, text = run(BUILD, '"$here/spec/support/decoder_steps.c"',
      '"$here"/src/decoder.c "$here"/src/token.c "$here"/src/buf.c "$here"/src/number.c', program)
    assert(ok, text)
  end)

  teardown(function()
    os.remove(program)
  end)

  for _, kind in ipairs { "line", "string", "chunks", "map", "attributes", "deep" } do
    it("takes the same steps for a byte, however many there are: " .. kind, function()
      for _, length in ipairs { 100, 10000, 1000000 } do
        for _, piece in ipairs { 16, 1460, 65536 } do
          local ok, text = run("'%s' %s %d %d", program, kind, length, piece)
          assert(ok, ("%d bytes in pieces of %d: %s"):format(length, piece, text))
        end
      end
    end)
  end
end)
