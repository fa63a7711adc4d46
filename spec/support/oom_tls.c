/* SPDX-License-Identifier: MIT */
/* oom.c with the module redio.tls and a server to speak with. OpenSSL allocates from oom.c, and the
 * server always has memory. Blocks that OpenSSL keeps for its process stay: see oom_kept. */
#include "oom.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROOM = 256 * 1024 };

int luaopen_redio_tls(lua_State *L);

/* ---- OpenSSL's allocator ---- */

static long kept;

static void *crypto_malloc(size_t n, const char *file, int line) {
  void *p = n ? oom_malloc(n) : NULL;
  (void)file;
  (void)line;
  kept += p != NULL;
  return p;
}

static void crypto_free(void *p, const char *file, int line) {
  (void)file;
  (void)line;
  kept -= p != NULL;
  oom_free(p);
}

static void *crypto_realloc(void *old, size_t n, const char *file, int line) {
  void *p;
  if (!n) {
    crypto_free(old, file, line);
    return NULL;
  }
  p = oom_realloc(old, n);
  kept += p && !old;
  return p;
}

void oom_begin(void) {
  if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
    abort();
}

long oom_kept(void) { return kept; }

/* ---- the server ---- */

typedef struct peer {
  SSL *ssl;
  BIO *in, *out;
  size_t size;
  char heard[ROOM]; /* plaintext */
} peer;

static void must(int ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "the server: %s\n", what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

/* Made once, and never let go. */
static SSL_CTX *server(const char *cert, const char *key, const char *ca) {
  static SSL_CTX *made;
  if (made)
    return made;
  made = SSL_CTX_new(TLS_server_method());
  must(made != NULL, "a context");
  must(SSL_CTX_use_certificate_chain_file(made, cert) == 1, cert);
  must(SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) == 1, key);
  must(SSL_CTX_load_verify_locations(made, ca, NULL), ca);
  SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
  return made;
}

static peer *check_peer(lua_State *L) { return luaL_checkudata(L, 1, "oom.peer"); }

static void start_peer(peer *p, SSL_CTX *ctx, int only_tls12, int asks_clients) {
  p->size = 0;
  p->ssl = SSL_new(ctx);
  p->in = BIO_new(BIO_s_mem());
  p->out = BIO_new(BIO_s_mem());
  must(p->ssl && p->in && p->out, "memory");
  BIO_set_mem_eof_return(p->in, -1);
  SSL_set_bio(p->ssl, p->in, p->out);
  SSL_set_accept_state(p->ssl);
  if (only_tls12)
    must(SSL_set_max_proto_version(p->ssl, TLS1_2_VERSION), "TLS 1.2");
  if (asks_clients)
    SSL_set_verify(p->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

/* peer(cert, key, ca, only TLS 1.2, asks for clients' certificates) -> a server */
static int peer_new(lua_State *L) {
  long until = oom_pause();
  SSL_CTX *ctx = server(luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3));
  peer *p = lua_newuserdata(L, sizeof *p);
  start_peer(p, ctx, lua_toboolean(L, 4), lua_toboolean(L, 5));
  luaL_getmetatable(L, "oom.peer");
  lua_setmetatable(L, -2);
  oom_resume(until);
  return 1;
}

/* peer:feed(bytes) */
static int peer_feed(lua_State *L) {
  long until = oom_pause();
  peer *p = check_peer(L);
  size_t n, got = 0;
  const char *bytes = luaL_checklstring(L, 2, &n);
  must(BIO_write(p->in, bytes, (int)n) == (int)n, "memory");
  while (p->size < ROOM && SSL_read_ex(p->ssl, p->heard + p->size, ROOM - p->size, &got))
    p->size += got;
  ERR_clear_error();
  oom_resume(until);
  return 0;
}

/* peer:count() -> bytes of plaintext */
static int peer_count(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_peer(L)->size);
  return 1;
}

static int peer_heard(lua_State *L) {
  const peer *p = check_peer(L);
  lua_pushlstring(L, p->heard, p->size);
  return 1;
}

/* peer:output() -> bytes for the client, if any */
static int peer_output(lua_State *L) {
  static char bytes[ROOM];
  long until = oom_pause();
  int n = BIO_read(check_peer(L)->out, bytes, ROOM);
  if (n > 0)
    lua_pushlstring(L, bytes, (size_t)n);
  oom_resume(until);
  return n > 0;
}

/* peer:write(plaintext) */
static int peer_write(lua_State *L) {
  long until = oom_pause();
  size_t n;
  const char *bytes = luaL_checklstring(L, 2, &n);
  must(SSL_write(check_peer(L)->ssl, bytes, (int)n) == (int)n, "write");
  oom_resume(until);
  return 0;
}

/* peer:update_keys(): and the client is to do so, too */
static int peer_update_keys(lua_State *L) {
  long until = oom_pause();
  SSL *ssl = check_peer(L)->ssl;
  must(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) && SSL_do_handshake(ssl) == 1, "keys");
  oom_resume(until);
  return 0;
}

static int peer_gc(lua_State *L) {
  long until = oom_pause();
  SSL_free(check_peer(L)->ssl);
  oom_resume(until);
  return 0;
}

static int open_peer(lua_State *L) {
  static const luaL_Reg methods[] = {{"feed", peer_feed},   {"output", peer_output},
                                     {"write", peer_write}, {"update_keys", peer_update_keys},
                                     {"count", peer_count}, {"heard", peer_heard},
                                     {"__gc", peer_gc},     {NULL, NULL}};
  const luaL_Reg *method;
  luaL_newmetatable(L, "oom.peer");
  for (method = methods; method->name; method++) {
    lua_pushcfunction(L, method->func);
    lua_setfield(L, -2, method->name);
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, peer_new);
  return 1;
}

const luaL_Reg oom_modules[] = {
    {"redio.tls", luaopen_redio_tls}, {"oom.peer", open_peer}, {NULL, NULL}};
