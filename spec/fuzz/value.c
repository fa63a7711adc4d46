/* SPDX-License-Identifier: MIT */
/* Any reply by any shape, in any mode, to a Lua value. The reply is read to its end, at most one
 * value is left on the stack, and building it a second time gives as much.
 *
 * Input: shape, mode, the server's bytes. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "decoder.h"
#include "fuzz.h"
#include "lvalue.h"
#include "steps.h"

int luaopen_redio_core(lua_State *L);

/* For a byte of the reply, built once, usually 45 at most: short doubles, errors and empty
 * aggregates take some calls of Lua each. A double of 800 digits takes up to 80, and twice that
 * when a look ahead has read it, too. */
enum { STEPS = 200 };

enum { ERRORS = 1, PLACES, BASE = PLACES };

static int build(lua_State *L) {
  redio_builder *b = lua_touserdata(L, 1);
  const redio_shape *shape = lua_touserdata(L, 2);
  int inside = lua_toboolean(L, 3), count, n;
  lua_settop(L, 0);
  lua_pushnil(L);
  lua_newtable(L);
  n = redio_build(b, shape, inside);
  count = (int)b->places_count;
  REQUIRE(n == 0 || n == 1);
  REQUIRE(lua_gettop(L) == BASE + n);
  REQUIRE(count % 2 == 0 && (int)lua_rawlen(L, PLACES) == count);
  lua_pushinteger(L, count);
  return 1;
}

static int build_reply(lua_State *L, const redio_decoder *d, unsigned shape, unsigned mode) {
  static const redio_expect inner[2] = {{{7, 0, 1}}, {{12, 0, 2}}};
  redio_builder b;
  int status, count = -1;
  memset(&b, 0, sizeof b);
  b.L = L;
  b.p = redio_buf_head(&d->in);
  b.inner = inner;
  b.inner_count = mode >> 3 & 3 ? 2 : 0;
  b.index = 3;
  b.mode = mode & (REDIO_MODE_TEXT | REDIO_MODE_PLACES);
  b.errors = ERRORS;
  b.places = PLACES;
  lua_pushcfunction(L, build);
  lua_pushlightuserdata(L, &b);
  lua_pushlightuserdata(L, (void *)redio_shapes[shape]);
  lua_pushboolean(L, mode & 4);
  steps_begin(STEPS);
  steps_allow(steps_bytes(b.p, d->pos));
  status = lua_pcall(L, 3, 1, 0);
  steps_end();
  if (status == 0) {
    REQUIRE(b.p == redio_buf_head(&d->in) + d->pos);
    count = (int)lua_tointeger(L, -1);
  } else { /* a reply that is too deep for Lua's stack */
    REQUIRE(d->limits.max_depth > 128);
  }
  lua_settop(L, 0);
  return count;
}

static unsigned count_shapes(void) {
  unsigned n = 0;
  while (redio_shapes[n])
    n++;
  return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  redio_limits limits = redio_default_limits;
  redio_decoder d;
  unsigned shape, mode;
  if (size < 2)
    return 0;
  if (!L) {
    L = luaL_newstate();
    lua_pushcfunction(L, luaopen_redio_core);
    lua_call(L, 0, 0);
  }
  shape = data[0] % count_shapes();
  mode = data[1];
  limits.max_elements = 4096; /* tables for so many are made in advance */
  limits.max_depth = mode & 0x80 ? 10000 : 128;
  redio_decoder_init(&d, &limits);
  redio_decoder_feed(&d, (const char *)data + 2, size - 2);
  while (redio_decoder_next(&d) == REDIO_VALUE) {
    int count = build_reply(L, &d, shape, mode);
    REQUIRE(build_reply(L, &d, shape, mode) == count);
    redio_decoder_consume(&d);
  }
  redio_decoder_free(&d);
  return 0;
}
