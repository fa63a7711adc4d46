/* SPDX-License-Identifier: MIT */
/* The module redio.tls: the userdata context and engine over tls.c. */
#include <string.h>

#include "compat.h"
#include "tls.h"

/* Of plaintext and of ciphertext, what is handed over at once: two records and their headers. */
enum { PIECE = 33 * 1024 };

/* Each userdata starts with the address of its tag. */
static const char context_tag, engine_tag;

typedef struct ltls_context {
  const void *tag;
  redio_tls_context context;
} ltls_context;

typedef struct ltls_engine {
  const void *tag;
  redio_tls engine;
} ltls_engine;

static void *check(lua_State *L, int i, const void *tag, size_t size, const char *what) {
  void *p = lua_touserdata(L, i);
  if (p && lua_rawlen(L, i) >= size && *(const void *const *)p == tag)
    return p;
  luaL_error(L, "bad argument #%d (%s expected, got %s)", i, what, luaL_typename(L, i));
  return NULL;
}

static redio_tls_context *check_context(lua_State *L, int i) {
  ltls_context *c = check(L, i, &context_tag, sizeof *c, "redio.tls.context");
  return &c->context;
}

static redio_tls *check_engine(lua_State *L, int i) {
  ltls_engine *e = check(L, i, &engine_tag, sizeof *e, "redio.tls.engine");
  return &e->engine;
}

/* A C string, NULL for nil. */
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

/* The field, which stays on the stack for as long as its text is used. */
static const char *text_field(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  return check_text(L, lua_gettop(L), name);
}

static int refuse(lua_State *L, const char *why) {
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* ---- context ---- */

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

/* ---- engine ---- */

/* engine(context, name?) -> an engine | nil, why
 * For a connection to the server of that name, or IP address; without one only when the context
 * does not verify. */
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

/* true, false for "more bytes are needed", nil for the end, nil and why for death. */
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

/* A string of bytes that were taken out of the engine. Without memory for it they are lost, and
 * what comes behind them may not be taken for them: then the engine is dead. */
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

/* engine:write(plaintext, first?, last?) -> true | false: not before the handshake is done | nil,
 * why. The bytes from `first` to `last`, as string.sub would give them for positive numbers. */
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

/* engine:output() -> bytes for the peer, a piece; nil when there are none (any more) */
static int lengine_output(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  char piece[PIECE];
  size_t n = redio_tls_output(t, piece, sizeof piece);
  if (!n)
    return 0;
  push_taken(L, t, piece, n);
  return 1;
}

/* engine:finish(): the peer's bytes have ended. nil when it had said so | nil, why. To be called
 * when read has answered false. */
static int lengine_finish(lua_State *L) {
  redio_tls *t = check_engine(L, 1);
  return push_status(L, t, redio_tls_end(t));
}

/* engine:shutdown(): a last message for the peer; nothing is written afterwards */
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

/* ---- module ---- */

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

static void set_functions(lua_State *L, const luaL_Reg *list) {
  for (; list->name; list++) {
    lua_pushcfunction(L, list->func);
    lua_setfield(L, -2, list->name);
  }
}

static void new_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  set_functions(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
}

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
int luaopen_redio_tls(lua_State *L);

int luaopen_redio_tls(lua_State *L) {
  new_class(L, "redio.tls.context", context_methods);
  new_class(L, "redio.tls.engine", engine_methods);
  lua_newtable(L);
  set_functions(L, functions);
  return 1;
}
