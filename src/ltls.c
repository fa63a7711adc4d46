/* SPDX-License-Identifier: MIT */
/* Specs: unit/tls, promises/24 */
/* The module redio.tls: the userdata context and engine over tls.c. */
#include <string.h>

#include "lbind.h"
#include "tls.h"

/* Bytes of plaintext or ciphertext in one string: two TLS records and their headers. */
enum { PIECE = 33 * 1024 };

static const char context_tag, engine_tag;

typedef struct ltls_context {
  const void *tag;
  redio_tls_context context;
} ltls_context;

typedef struct ltls_engine {
  const void *tag;
  redio_tls engine;
} ltls_engine;

static redio_tls_context *check_context(lua_State *L, int i) {
  ltls_context *c = redio_check(L, i, &context_tag, sizeof *c, "redio.tls.context");
  return &c->context;
}

static redio_tls *check_engine(lua_State *L, int i) {
  ltls_engine *e = redio_check(L, i, &engine_tag, sizeof *e, "redio.tls.engine");
  return &e->engine;
}

/* Returns the C string at index i, NULL for nil; raises for anything else. */
static const char *check_text(lua_State *L, int i, const char *what) {
  size_t length;
  const char *text;
  if (lua_isnoneornil(L, i))
    return NULL;
  text = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &length) : NULL;
  if (!text || !*text || strlen(text) != length)
    luaL_error(L, "%s must be a string, not empty, without NUL", what);
  return text;
}

/* Returns the text of a field, which stays on the stack for as long as the text is used. */
static const char *text_field(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  return check_text(L, lua_gettop(L), name);
}

static int refuse(lua_State *L, const char *why) {
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* Context -------------------------------------------------------------------------------------- */

static void read_settings(lua_State *L, redio_tls_settings *settings) {
  const char *version;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  settings->ca = text_field(L, 1, "ca");
  settings->cert = text_field(L, 1, "cert");
  settings->key = text_field(L, 1, "key");
  version = text_field(L, 1, "min_version");
  if (version && strcmp(version, "1.2") != 0 && strcmp(version, "1.3") != 0)
    luaL_error(L, "min_version must be '1.2' or '1.3'");
  settings->only_tls13 = version && !strcmp(version, "1.3");
  lua_getfield(L, 1, "verify");
  settings->verify = lua_isnil(L, -1) || lua_toboolean(L, -1);
}

/* context{ca=, cert=, key=, verify=true, min_version="1.2"} -> a context | nil, why
 * Reads the files. One context serves any number of engines. */
static int ltls_context_new(lua_State *L) {
  redio_tls_settings settings;
  char why[REDIO_TLS_WHY];
  ltls_context *c;
  read_settings(L, &settings);
  c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  c->tag = &context_tag;
  luaL_getmetatable(L, "redio.tls.context");
  lua_setmetatable(L, -2);
  return redio_tls_context_init(&c->context, &settings, why) ? refuse(L, why) : 1;
}

static int ltls_context_close(lua_State *L) {
  redio_tls_context_free(check_context(L, 1));
  return 0;
}

/* Engine --------------------------------------------------------------------------------------- */

/* engine(context, name?) -> an engine | nil, why
 * Makes an engine for a connection to the server of that name or IP address. Only a context that
 * does not verify needs no name. */
static int ltls_engine_new(lua_State *L) {
  const redio_tls_context *context = check_context(L, 1);
  const char *name = check_text(L, 2, "the server's name");
  ltls_engine *e = lua_newuserdatauv(L, sizeof *e, 0);
  memset(e, 0, sizeof *e);
  e->tag = &engine_tag;
  luaL_getmetatable(L, "redio.tls.engine");
  lua_setmetatable(L, -2);
  return redio_tls_init(&e->engine, context, name) ? refuse(L, e->engine.why) : 1;
}

/* Pushes true; false when more bytes are needed; nil at the end; or nil and the reason of a dead
 * engine. */
static int push_status(lua_State *L, const redio_tls *t, redio_tls_status status) {
  if (status == REDIO_TLS_DEAD)
    return refuse(L, t->why);
  if (status == REDIO_TLS_ENDED)
    lua_pushnil(L);
  else
    lua_pushboolean(L, status == REDIO_TLS_OK);
  return 1;
}

/* engine:feed(bytes of the peer) -> true | nil, why */
static int lengine_feed(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  size_t length;
  const char *bytes = luaL_checklstring(L, 2, &length);
  return push_status(L, t, redio_tls_feed(t, bytes, length));
}

/* engine:handshake() -> true when it is done, false when more bytes are needed | nil, why */
static int lengine_handshake(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  return push_status(L, t, redio_tls_handshake(t));
}

/* Pushes bytes that were taken out of the engine as a string. When memory is out they are lost, and
 * the bytes behind them must not take their place: the engine is dead then. */
static void push_taken(lua_State *L, redio_tls *t, const char *bytes, size_t n) {
  unsigned char dead = t->dead;
  t->dead = 1;
  lua_pushlstring(L, bytes, n);
  t->dead = dead;
}

/* engine:read() -> plaintext, a piece | false: more bytes are needed | nil: the end | nil, why */
static int lengine_read(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  char piece[PIECE];
  size_t got;
  redio_tls_status status = redio_tls_read(t, piece, sizeof piece, &got);
  if (status != REDIO_TLS_OK)
    return push_status(L, t, status);
  push_taken(L, t, piece, got);
  return 1;
}

/* engine:write(plaintext, first?, last?) -> true | false: the handshake is not done | nil, why
 * Encrypts the bytes from `first` to `last`, which count as in string.sub but must be positive. */
static int lengine_write(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  size_t length;
  const char *bytes = luaL_checklstring(L, 2, &length);
  lua_Integer first = luaL_optinteger(L, 3, 1);
  lua_Integer last = luaL_optinteger(L, 4, (lua_Integer)length);
  if (first < 1 || last < 0)
    return luaL_error(L, "the positions must be positive");
  if (last > (lua_Integer)length)
    last = (lua_Integer)length;
  if (first > last)
    return push_status(L, t, redio_tls_write(t, bytes, 0));
  return push_status(L, t, redio_tls_write(t, bytes + first - 1, (size_t)(last - first + 1)));
}

/* engine:output() -> bytes for the peer, a piece | nil: there are none */
static int lengine_output(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  char piece[PIECE];
  size_t n = redio_tls_output(t, piece, sizeof piece);
  if (!n)
    return 0;
  push_taken(L, t, piece, n);
  return 1;
}

/* engine:finish() -> nil: the peer had sent close_notify | nil, why
 * Ends the peer's bytes. To be called when read has returned false. */
static int lengine_finish(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  return push_status(L, t, redio_tls_end(t));
}

/* engine:shutdown(): sends close_notify; nothing may be written afterwards */
static int lengine_shutdown(lua_State *L) {
  redio_tls_shutdown(check_engine(L, 1));
  return 0;
}

/* engine:info() -> "TLSv1.3", the cipher's name; nothing before the handshake is done */
static int lengine_info(lua_State *L) {
  const redio_tls *t = check_engine(L, 1);
  if (!redio_tls_version(t))
    return 0;
  lua_pushstring(L, redio_tls_version(t));
  lua_pushstring(L, redio_tls_cipher(t));
  return 2;
}

static int lengine_close(lua_State *L) {
  redio_tls_free(check_engine(L, 1));
  return 0;
}

/* Module --------------------------------------------------------------------------------------- */

static const luaL_Reg context_methods[] = {
    {"close", ltls_context_close}, {"__gc", ltls_context_close}, {NULL, NULL}};

static const luaL_Reg engine_methods[] = {{"feed", lengine_feed},
                                          {"handshake", lengine_handshake},
                                          {"read", lengine_read},
                                          {"write", lengine_write},
                                          {"output", lengine_output},
                                          {"finish", lengine_finish},
                                          {"info", lengine_info},
                                          {"shutdown", lengine_shutdown},
                                          {"close", lengine_close},
                                          {"__gc", lengine_close},
                                          {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"context", ltls_context_new}, {"engine", ltls_engine_new}, {NULL, NULL}};

REDIO_MODULE int luaopen_redio_tls(lua_State *L);

int luaopen_redio_tls(lua_State *L) {
  redio_new_class(L, "redio.tls.context", context_methods);
  redio_new_class(L, "redio.tls.engine", engine_methods);
  lua_newtable(L);
  redio_set_functions(L, functions);
  return 1;
}
