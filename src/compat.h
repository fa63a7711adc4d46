/* SPDX-License-Identifier: MIT */
/* The one place that knows which Lua this is: the 5.4 API on 5.3 and LuaJIT. */
#ifndef REDIO_COMPAT_H
#define REDIO_COMPAT_H

#include <lauxlib.h>
#include <lua.h>

#if LUA_VERSION_NUM == 502 || (LUA_VERSION_NUM < 502 && !defined(LUA_OK))
#error                                                                                             \
    "PUC Lua 5.1 and 5.2 are not enough; LuaJIT 2.1 is, by its headers: LUA_INCDIR= names their directory"
#endif

/* Most values that one await may return: what a Lua stack can hold beside its other frames. */
#if LUA_VERSION_NUM >= 502
#define REDIO_MAX_RESULTS 200000
#else
#define REDIO_MAX_RESULTS 7000
#endif

/* What may be moved onto the stack of a coroutine in coroutine.yield without a look for room: of
 * the LUA_MINSTACK that every C function has. LuaJIT's is none. */
#if LUA_VERSION_NUM >= 502
#define REDIO_ROOM_IN_YIELD (LUA_MINSTACK - 4)
#else
#define REDIO_ROOM_IN_YIELD 0
#endif

#if LUA_VERSION_NUM < 504
#define lua_newuserdatauv(L, size, nuvalue) lua_newuserdata(L, size)
#endif

/* Whether a Lua number holds the integer n exactly. */
#if LUA_VERSION_NUM >= 503
#define REDIO_IS_EXACT(n) 1
#else
#define REDIO_IS_EXACT(n) ((n) <= 9007199254740992LL && (n) >= -9007199254740992LL)
#define lua_isinteger(L, i) ((void)(L), (void)(i), 0)
#endif

/* Resumes co with n arguments on its stack; what it yields or returns is left there, counted. */
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
