/* SPDX-License-Identifier: MIT */
/* The differences between Luas: the API of Lua 5.4 on Lua 5.3 and LuaJIT. No other file knows the
 * version. */
#ifndef REDIO_COMPAT_H
#define REDIO_COMPAT_H

#include <lauxlib.h>
#include <lua.h>

#if LUA_VERSION_NUM == 502 || (LUA_VERSION_NUM < 502 && !defined(LUA_OK))
#error                                                                                             \
    "PUC Lua 5.1 and 5.2 are not enough; LuaJIT 2.1 is, by its headers: LUA_INCDIR= names their directory"
#endif

/* Most values that one await may return: a Lua stack holds so many beside its other frames. */
#if LUA_VERSION_NUM >= 502
#define REDIO_MAX_RESULTS 200000
#else
#define REDIO_MAX_RESULTS 7000
#endif

/* Number of values that may be moved onto the stack of a coroutine in coroutine.yield without a
 * check for room. They are part of the LUA_MINSTACK that every C function has; in LuaJIT
 * coroutine.yield is no C function. */
#if LUA_VERSION_NUM >= 502
#define REDIO_ROOM_IN_YIELD (LUA_MINSTACK - 4)
#else
#define REDIO_ROOM_IN_YIELD 0
#endif

#if LUA_VERSION_NUM < 504
#define lua_newuserdatauv(L, size, nuvalue) lua_newuserdata(L, size)
#endif

/* True when a Lua number holds the integer n exactly. */
#if LUA_VERSION_NUM >= 503
#define REDIO_IS_EXACT(n) 1
#else
#define REDIO_IS_EXACT(n) ((n) <= 9007199254740992LL && (n) >= -9007199254740992LL)
#define lua_isinteger(L, i) ((void)(L), (void)(i), 0)
#endif

/* Resumes co with the n arguments on its stack. Its results, `*results` of them, are left there. */
static inline int redio_resume(lua_State *co, lua_State *from, int n, int *results) {
#if LUA_VERSION_NUM >= 504
  return lua_resume(co, from, n, results);
#else
  int status;
#if LUA_VERSION_NUM >= 502
  status = lua_resume(co, from, n);
#else
  (void)from;
  status = lua_resume(co, n);
#endif
  *results = lua_gettop(co);
  return status;
#endif
}

#if LUA_VERSION_NUM < 502
#define lua_rawlen(L, i) lua_objlen(L, i)
#define lua_absindex(L, i) ((i) > 0 || (i) <= LUA_REGISTRYINDEX ? (i) : lua_gettop(L) + (i) + 1)
#endif

#endif
