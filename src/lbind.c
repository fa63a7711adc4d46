/* SPDX-License-Identifier: MIT */
/* Specs: promises/24, hosts/embed */
#include "lbind.h"

void *redio_check(lua_State *L, int i, const void *tag, size_t size, const char *name) {
  void *p = lua_touserdata(L, i);
  if (p && lua_rawlen(L, i) >= size && *(const void *const *)p == tag)
    return p;
  luaL_error(L, "bad argument #%d (%s expected, got %s)", i, name, luaL_typename(L, i));
  return NULL;
}

void redio_set_functions(lua_State *L, const luaL_Reg *list) {
  for (; list->name; list++) {
    lua_pushcfunction(L, list->func);
    lua_setfield(L, -2, list->name);
  }
}

void redio_set_numbers(lua_State *L, const redio_number *list) {
  for (; list->name; list++) {
    lua_pushinteger(L, list->n);
    lua_setfield(L, -2, list->name);
  }
}

void redio_new_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  redio_set_functions(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
}
