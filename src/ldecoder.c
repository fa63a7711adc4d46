/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, promises/24 */
#include "ldecoder.h"

#include <string.h>

#include "lbind.h"
#include "lvalue.h"

static const char decoder_tag;

typedef struct ldecoder {
  const void *tag;
  redio_decoder decoder;
} ldecoder;

static redio_decoder *check_decoder(lua_State *L, int i) {
  ldecoder *d = redio_check(L, i, &decoder_tag, sizeof *d, "redio.decoder");
  return &d->decoder;
}

static void limit_field(lua_State *L, int table, const char *name, unsigned long long *out) {
  lua_getfield(L, table, name);
  if (!lua_isnil(L, -1)) {
    lua_Number n = luaL_checknumber(L, -1);
    if (!(n >= 0 && n < 9e18))
      luaL_error(L, "bad limit '%s'", name);
    *out = (unsigned long long)n;
  }
  lua_pop(L, 1);
}

redio_limits redio_read_limits(lua_State *L, int table) {
  redio_limits limits = redio_default_limits;
  unsigned long long depth = limits.max_depth;
  if (lua_isnoneornil(L, table))
    return limits;
  luaL_checktype(L, table, LUA_TTABLE);
  limit_field(L, table, "max_bulk", &limits.max_bulk);
  limits.max_line = limits.max_bulk;
  limit_field(L, table, "max_elements", &limits.max_elements);
  limit_field(L, table, "max_line", &limits.max_line);
  limit_field(L, table, "max_depth", &depth);
  limits.max_depth = (unsigned)depth;
  return limits;
}

/* decoder{max_bulk=, max_elements=, max_line=, max_depth=} -> a decoder
 * Limits that are not given have their defaults, max_line that of max_bulk. */
static int ldecoder_new(lua_State *L) {
  redio_limits limits = redio_read_limits(L, 1);
  ldecoder *d = lua_newuserdatauv(L, sizeof *d, 0);
  d->tag = &decoder_tag;
  redio_decoder_init(&d->decoder, &limits);
  luaL_getmetatable(L, "redio.decoder");
  lua_setmetatable(L, -2);
  return 1;
}

/* decoder:feed(bytes) -> true, or false when memory is out */
static int ldecoder_feed(lua_State *L) {
  redio_decoder *d = check_decoder(L, 1);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_pushboolean(L, !redio_decoder_feed(d, s, len));
  return 1;
}

/* decoder:next() -> true, value, is_push | false: bytes are missing | nil, why it is dead */
static int ldecoder_next(lua_State *L) {
  redio_decoder *d = check_decoder(L, 1);
  redio_status status = redio_decoder_next(d);
  redio_builder b;
  if (status == REDIO_NEED_MORE) {
    lua_pushboolean(L, 0);
    return 1;
  }
  if (status == REDIO_DEAD) {
    lua_pushnil(L);
    lua_pushstring(L, redio_decoder_error(d));
    return 2;
  }
  memset(&b, 0, sizeof b);
  b.L = L;
  b.p = redio_buf_head(&d->in);
  lua_pushboolean(L, 1);
  redio_build(&b, redio_shapes[REDIO_SHAPE_INDEX_VALUE], 0);
  lua_pushboolean(L, d->first == '>');
  redio_decoder_consume(d);
  return 3;
}

static int ldecoder_gc(lua_State *L) {
  redio_decoder_free(check_decoder(L, 1));
  return 0;
}

static const luaL_Reg methods[] = {
    {"feed", ldecoder_feed}, {"next", ldecoder_next}, {"__gc", ldecoder_gc}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"decoder", ldecoder_new}, {NULL, NULL}};

void redio_open_decoder(lua_State *L) {
  redio_new_class(L, "redio.decoder", methods);
  redio_set_functions(L, functions);
}
