/* SPDX-License-Identifier: MIT */
/* luvit INIT.lua SCRIPT: LuaJIT with luv in it, as Luvit has it: under the name "uv", and where it
 * is linked in statically, with a libuv that no other library sees. */
#include <stdio.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

int luaopen_luv(lua_State *L);

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  int status;
  if (!L || argc != 3)
    return 2;
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_luv);
  lua_setfield(L, -2, "uv");
  lua_settop(L, 0);
  if (luaL_dofile(L, argv[1])) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    return 2;
  }
  lua_pushstring(L, argv[2]);
  if (lua_pcall(L, 1, 1, 0)) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    return 2;
  }
  status = (int)lua_tointeger(L, -1);
  lua_close(L);
  return status;
}
