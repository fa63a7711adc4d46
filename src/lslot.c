/* SPDX-License-Identifier: MIT */
/* Specs: unit/connection_core, promises/24 */
#include "lslot.h"

#define WEAK_KEYS "redio.weak" /* registry field: a metatable */

static void push_new_index(lua_State *L, redio_connection *c, int slots) {
  lua_newtable(L);
  luaL_getmetatable(L, WEAK_KEYS);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_setfield(L, slots, "index");
  c->last_indexed_number = 0;
}

/* Pushes the index of all chains submitted so far. The first search makes it. It keeps no coroutine
 * alive, and a slot in it may be out of date. */
static void push_index(lua_State *L, redio_connection *c, int slots) {
  uint32_t slot;
  lua_getfield(L, slots, "index");
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    push_new_index(L, c, slots);
  }
  if (c->chains[c->last].number <= c->last_indexed_number)
    return;
  slot = redio_connection_after(c, c->last_indexed, c->last_indexed_number);
  for (; slot != REDIO_NO_CHAIN; slot = c->chains[slot].next) {
    redio_get_cell(L, slots, slot, REDIO_CELL_WAITER);
    lua_pushinteger(L, slot);
    lua_rawset(L, -3);
  }
  c->last_indexed = c->last;
  c->last_indexed_number = c->chains[c->last].number;
}

uint32_t redio_find_slot(lua_State *L, redio_connection *c, int slots, int waiter) {
  uint32_t slot;
  if (c->first == REDIO_NO_CHAIN) { /* drops an index of ended coroutines */
    lua_pushnil(L);
    lua_setfield(L, slots, "index");
    return REDIO_NO_CHAIN;
  }
  push_index(L, c, slots);
  lua_pushvalue(L, waiter);
  lua_rawget(L, -2);
  if (!lua_isnumber(L, -1))
    return REDIO_NO_CHAIN;
  slot = (uint32_t)lua_tointeger(L, -1);
  redio_get_cell(L, slots, slot, REDIO_CELL_WAITER);
  return lua_rawequal(L, -1, waiter) ? slot : REDIO_NO_CHAIN;
}

void redio_open_slots(lua_State *L) {
  luaL_newmetatable(L, WEAK_KEYS);
  lua_pushstring(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_pop(L, 1);
}
