/* SPDX-License-Identifier: MIT */
/* The module redio.core. */
#include "lbind.h"
#include "lvalue.h"
#include "number.h"
#include "sha1.h"
#include "utf8.h"

const char redio_command_tag, redio_pipeline_tag, redio_connection_tag, redio_decoder_tag;

void *redio_check(lua_State *L, int i, const void *tag, size_t size, const char *what) {
  void *p = lua_touserdata(L, i);
  if (p && lua_rawlen(L, i) >= size && *(const void *const *)p == tag)
    return p;
  luaL_error(L, "bad argument #%d (%s expected, got %s)", i, what, luaL_typename(L, i));
  return NULL;
}

void redio_set_functions(lua_State *L, const luaL_Reg *list) {
  for (; list->name; list++) {
    lua_pushcfunction(L, list->func);
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

/* strdecode(s): its bytes as text; what is no UTF-8 becomes U+DC80..U+DCFF, byte by byte */
static int lstrdecode(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  redio_push_text(L, s, len);
  return 1;
}

/* strencode(s): the bytes of which strdecode made s */
static int lstrencode(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  char *out = lua_newuserdatauv(L, len ? len : 1, 0);
  lua_pushlstring(L, out, redio_utf8_unescape(out, s, len));
  return 1;
}

/* number(n): the text that Redis gets for it */
static int lnumber(lua_State *L) {
  char text[REDIO_NUMBER_MAX];
  luaL_checktype(L, 1, LUA_TNUMBER);
  if (lua_isinteger(L, 1))
    lua_pushlstring(L, text, redio_write_integer(text, lua_tointeger(L, 1)));
  else
    lua_pushlstring(L, text, redio_write_double(text, lua_tonumber(L, 1)));
  return 1;
}

/* sha1(s) -> its SHA-1 in hexadecimal digits */
static int lsha1(lua_State *L) {
  char digits[REDIO_SHA1_DIGITS];
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  redio_sha1(digits, s, len);
  lua_pushlstring(L, digits, sizeof digits);
  return 1;
}

/* isyieldable() -> whether the running coroutine may yield: some hosts put a table of their own in
 * the place of Lua's coroutine functions, without this one */
static int lisyieldable(lua_State *L) {
  lua_pushboolean(L, lua_isyieldable(L));
  return 1;
}

static const luaL_Reg functions[] = {{"strdecode", lstrdecode},     {"strencode", lstrencode},
                                     {"number", lnumber},           {"sha1", lsha1},
                                     {"isyieldable", lisyieldable}, {NULL, NULL}};

/* Before Lua 5.4 the list of free references, registry[0], ends with nil. While it is empty it is
 * then no field, and luaL_unref may raise for want of memory, in the midst of an output. With a 0
 * for its end it always is one. */
static void prepare_references(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, 0);
  if (lua_isnil(L, -1)) {
    lua_pushinteger(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, 0);
  }
  lua_pop(L, 1);
}

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
int luaopen_redio_core(lua_State *L);

int luaopen_redio_core(lua_State *L) {
  prepare_references(L);
  lua_newtable(L);
  redio_set_functions(L, functions);
  redio_open_pipeline(L);
  redio_open_handle(L); /* before those that recycle */
  redio_open_connection(L);
  redio_open_decoder(L);
  redio_open_process(L);
  luaL_newmetatable(L, REDIO_ERROR);
  lua_setfield(L, -2, "error_metatable");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
