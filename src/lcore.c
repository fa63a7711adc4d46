/* SPDX-License-Identifier: MIT */
/* Specs: promises/26, hosts/embed */
/* The module redio.core. */
#include "lbind.h"
#include "lconnection.h"
#include "ldecoder.h"
#include "lhandle.h"
#include "lpipeline.h"
#include "lprocess.h"
#include "lscalar.h"
#include "lstock.h"
#include "number.h"
#include "sha1.h"
#include "utf8.h"

/* strdecode(s) -> the bytes as text: a byte that is not valid UTF-8 becomes one of
 * U+DC80..U+DCFF */
static int lstrdecode(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  redio_push_text(L, s, len);
  return 1;
}

/* strencode(s) -> the bytes for the text s, as strdecode makes it */
static int lstrencode(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  char *out = lua_newuserdatauv(L, len ? len : 1, 0);
  lua_pushlstring(L, out, redio_utf8_unescape(out, s, len));
  return 1;
}

/* number(n) -> the text that Redis gets for it */
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

/* isyieldable() -> true when the running coroutine may yield
 * Some hosts replace Lua's table of coroutine functions with one of their own, without this
 * function. */
static int lisyieldable(lua_State *L) {
  lua_pushboolean(L, lua_isyieldable(L));
  return 1;
}

static const luaL_Reg functions[] = {{"strdecode", lstrdecode},     {"strencode", lstrencode},
                                     {"number", lnumber},           {"sha1", lsha1},
                                     {"isyieldable", lisyieldable}, {NULL, NULL}};

/* Makes luaL_unref safe. Before Lua 5.4 the list of free references, registry[0], ends with nil. An
 * empty list is no field of the registry then, and luaL_unref may raise when memory is out, in the
 * middle of an output. With a 0 for its end the list always is a field. */
static void prepare_references(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, 0);
  if (lua_isnil(L, -1)) {
    lua_pushinteger(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, 0);
  }
  lua_pop(L, 1);
}

REDIO_MODULE int luaopen_redio_core(lua_State *L);

int luaopen_redio_core(lua_State *L) {
  prepare_references(L);
  lua_newtable(L);
  redio_set_functions(L, functions);
  redio_open_pipeline(L);
  redio_open_stock(L);
  redio_open_connection(L);
  redio_open_handle(L);
  redio_open_decoder(L);
  redio_open_process(L);
  luaL_newmetatable(L, REDIO_ERROR);
  lua_setfield(L, -2, "error_metatable");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
