/* SPDX-License-Identifier: MIT */
/* Specs: client/fast_paths, promises/24 */
#include "lstock.h"

#include "lencode.h"

#define STOCK "redio.stock" /* registry field: the two upvalues by their index */

redio_pipeline *redio_lend(lua_State *L) {
  redio_stock *stock = redio_stock_of(L);
  if (!stock->count)
    return redio_new_pipeline(L);
  lua_rawgeti(L, lua_upvalueindex(REDIO_UPVALUE_LIST), stock->count);
  lua_pushnil(L);
  lua_rawseti(L, lua_upvalueindex(REDIO_UPVALUE_LIST), stock->count--);
  return stock->pipelines[stock->count];
}

void redio_restock(lua_State *L, redio_stock *stock, redio_pipeline *p) {
  if (stock->count < REDIO_MOST_IN_STOCK) {
    lua_rawseti(L, lua_upvalueindex(REDIO_UPVALUE_LIST), stock->count + 1);
    stock->pipelines[stock->count++] = p;
  } else {
    lua_pop(L, 1);
  }
}

void redio_blank(lua_State *L, redio_pipeline *p) {
  if (p->pieces.count)
    redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_reset(p);
}

/* lend() -> an empty pipeline */
static int llend(lua_State *L) {
  redio_lend(L);
  return 1;
}

/* recycle(pipeline): drops its commands and puts it into the stock */
static int lrecycle(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  lua_settop(L, 1);
  redio_restock(L, redio_stock_of(L), p);
  redio_blank(L, p);
  return 0;
}

void redio_set_recycling(lua_State *L, const luaL_Reg *list) {
  for (; list->name; list++) {
    lua_getfield(L, LUA_REGISTRYINDEX, STOCK);
    lua_rawgeti(L, -1, REDIO_UPVALUE_STOCK);
    lua_rawgeti(L, -2, REDIO_UPVALUE_LIST);
    lua_pushcclosure(L, list->func, REDIO_UPVALUE_LIST);
    lua_setfield(L, -3, list->name);
    lua_pop(L, 1);
  }
}

void redio_open_stock(lua_State *L) {
  static const luaL_Reg recycling[] = {{"lend", llend}, {"recycle", lrecycle}, {NULL, NULL}};
  redio_stock *stock;
  lua_newtable(L);
  stock = lua_newuserdatauv(L, sizeof *stock, 0);
  stock->count = stock->cancelling = 0;
  lua_rawseti(L, -2, REDIO_UPVALUE_STOCK);
  lua_newtable(L);
  lua_rawseti(L, -2, REDIO_UPVALUE_LIST);
  lua_setfield(L, LUA_REGISTRYINDEX, STOCK);
  redio_set_recycling(L, recycling);
}
