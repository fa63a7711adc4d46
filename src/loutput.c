/* SPDX-License-Identifier: MIT */
/* Specs: promises/13, regress/output_after_loss */
#include "loutput.h"

#include "lencode.h"

static void drop_spare_refs(lua_State *L, redio_pieces *pieces) {
  while (pieces->spare)
    luaL_unref(L, LUA_REGISTRYINDEX, pieces->list[pieces->count + --pieces->spare].ref);
}

void redio_copy_refs(lua_State *L, redio_connection *c, const redio_pipeline *p) {
  redio_pieces *to = &c->pieces;
  size_t i;
  drop_spare_refs(L, to); /* of a chain that was not submitted after all */
  for (i = 0; i < p->closed_pieces; i++) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->pieces.list[i].ref);
    to->list[to->count + i].ref = luaL_ref(L, LUA_REGISTRYINDEX);
    to->spare++;
  }
}

static void push_pieces(lua_State *L, const redio_connection *c) {
  const char *from = redio_connection_output(c);
  size_t i, at = 0;
  int n = 0;
  lua_createtable(L, (int)c->pieces.count * 2 + 1, 0);
  for (i = 0; i < c->pieces.count; i++) {
    const redio_piece *piece = c->pieces.list + i;
    lua_pushlstring(L, from + at, piece->at - at);
    lua_rawseti(L, -2, ++n);
    lua_rawgeti(L, LUA_REGISTRYINDEX, piece->ref);
    lua_rawseti(L, -2, ++n);
    at = piece->at;
  }
  lua_pushlstring(L, from + at, redio_connection_unsent(c) - at);
  lua_rawseti(L, -2, ++n);
}

int redio_push_output(lua_State *L, redio_connection *c) {
  size_t size;
  if (c->cuts) {
    drop_spare_refs(L, &c->pieces);
    redio_connection_tidy(c);
    drop_spare_refs(L, &c->pieces);
  }
  size = redio_connection_unsent(c);
  if (!size)
    return 0;
  if (c->pieces.count)
    push_pieces(L, c);
  else
    lua_pushlstring(L, redio_connection_output(c), size);
  lua_pushinteger(L, (lua_Integer)redio_connection_queued(c));
  redio_drop_output(L, c);
  redio_connection_sent(c);
  lua_pushinteger(L, c->waiting);
  return 3;
}

void redio_drop_output(lua_State *L, redio_connection *c) {
  drop_spare_refs(L, &c->pieces);
  redio_unref_pieces(L, &c->pieces, 0);
}
