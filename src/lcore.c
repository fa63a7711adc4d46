/* SPDX-License-Identifier: MIT */
/* The module redio.core: the userdata pipeline, decoder and connection over the pure C of the same
 * names. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "connection.h"
#include "lvalue.h"
#include "number.h"
#include "utf8.h"

/* What a waiter is resumed with before anything else, so that it can tell us from a stranger. */
static const char done_token, failed_token, lost_token;

/* Each userdata starts with the address of its tag. */
static const char command_tag, pipeline_tag, decoder_tag, connection_tag;

typedef struct ldecoder {
  const void *tag;
  redio_decoder decoder;
} ldecoder;

static void *check(lua_State *L, int i, const void *tag, size_t size, const char *what) {
  void *p = lua_touserdata(L, i);
  if (p && lua_rawlen(L, i) >= size && *(const void *const *)p == tag)
    return p;
  luaL_error(L, "bad argument #%d (%s expected, got %s)", i, what, luaL_typename(L, i));
  return NULL;
}

#define check_command(L, i)                                                                        \
  ((redio_command *)check(L, i, &command_tag, sizeof(redio_command), "redio.command"))
#define check_pipeline(L, i)                                                                       \
  ((redio_pipeline *)check(L, i, &pipeline_tag, sizeof(redio_pipeline), "redio.pipeline"))
#define check_decoder(L, i)                                                                        \
  (&((ldecoder *)check(L, i, &decoder_tag, sizeof(ldecoder), "redio.decoder"))->decoder)
#define check_connection(L, i)                                                                     \
  ((redio_connection *)check(L, i, &connection_tag, sizeof(redio_connection), "redio.connection"))

/* ---- command ---- */

static const struct {
  const char *name;
  uint32_t flag;
} flag_names[] = {
    {"readonly", REDIO_READONLY}, {"blocking", REDIO_BLOCKING}, {"state", REDIO_STATE},
    {"watch", REDIO_WATCH},       {"unwatch", REDIO_UNWATCH},   {"multi", REDIO_MULTI},
    {"exec", REDIO_EXEC},         {"discard", REDIO_DISCARD},   {"nomulti", REDIO_NOMULTI},
    {"mute", REDIO_MUTE},         {"private", REDIO_PRIVATE},   {"silent", REDIO_SILENT}};

static unsigned char shape_field(lua_State *L, int table) {
  const char *name;
  int shape;
  lua_getfield(L, table, "reply");
  name = lua_tostring(L, -1);
  shape = name ? redio_shape_find(name) : REDIO_SHAPE_INDEX_VALUE;
  if (shape < 0)
    luaL_error(L, "unknown reply shape '%s'", name);
  lua_pop(L, 1);
  return (unsigned char)shape;
}

static unsigned char small_field(lua_State *L, int table, const char *name) {
  lua_Integer n;
  lua_getfield(L, table, name);
  n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return (unsigned char)(n > 0 && n < 255 ? n : 0);
}

static void read_variant(lua_State *L, redio_variant *v) {
  int table = lua_gettop(L);
  size_t len = 0;
  const char *token;
  luaL_checktype(L, table, LUA_TTABLE);
  v->shape = shape_field(L, table);
  v->argc = small_field(L, table, "argc");
  v->from = small_field(L, table, "from");
  if (!v->from)
    v->from = 1;
  lua_getfield(L, table, "token");
  token = lua_tolstring(L, -1, &len);
  if (len >= REDIO_TOKEN_MAX)
    luaL_error(L, "variant '%s' is too long", token);
  if (token)
    memcpy(v->token, token, len);
  v->token_len = (unsigned char)len;
  lua_pop(L, 2);
}

static void read_variants(lua_State *L, redio_command *c) {
  size_t i, n;
  lua_getfield(L, 1, "variants");
  if (lua_istable(L, -1)) {
    n = lua_rawlen(L, -1);
    if (n > REDIO_VARIANTS_MAX)
      luaL_error(L, "more than %d variants", REDIO_VARIANTS_MAX);
    for (i = 0; i < n; i++) {
      lua_rawgeti(L, -1, (int)i + 1);
      read_variant(L, c->variants + i);
    }
    c->variants_count = (unsigned char)n;
  }
  lua_pop(L, 1);
}

static void read_flags(lua_State *L, redio_command *c) {
  size_t i;
  for (i = 0; i < sizeof flag_names / sizeof *flag_names; i++) {
    lua_getfield(L, 1, flag_names[i].name);
    if (lua_toboolean(L, -1))
      c->flags |= flag_names[i].flag;
    lua_pop(L, 1);
  }
}

/* The name's words as bulk strings. */
static void write_words(redio_command *c, const char *name, size_t len) {
  const char *end = name + len;
  char *to = c->words;
  while (name < end) {
    const char *space = memchr(name, ' ', (size_t)(end - name));
    size_t word = (size_t)((space ? space : end) - name);
    *to++ = '$';
    to += redio_write_unsigned(to, word);
    memcpy(to, "\r\n", 2);
    memcpy(to + 2, name, word);
    memcpy(to + 2 + word, "\r\n", 2);
    to += word + 4;
    name += word + 1;
    c->words_count++;
  }
  c->words_len = (size_t)(to - c->words);
}

static uint16_t next_id(lua_State *L, int name) {
  lua_Integer id;
  name = lua_absindex(L, name);
  lua_getfield(L, LUA_REGISTRYINDEX, REDIO_NAMES);
  id = (lua_Integer)lua_rawlen(L, -1) + 1;
  if (id > 0xFFFF)
    luaL_error(L, "too many different commands");
  lua_pushvalue(L, name);
  lua_rawseti(L, -2, (int)id);
  lua_pop(L, 1);
  return (uint16_t)id;
}

/* command({name=, reply=, variants=, readonly=true, ...}, like?) -> descriptor
 * What the encoder needs of one entry of commands.lua. It has an id of its own, or that of `like`.
 */
static int lcommand(lua_State *L) {
  size_t len;
  const char *name;
  redio_command *c;
  const redio_command *like = lua_isnoneornil(L, 2) ? NULL : check_command(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "name");
  name = luaL_checklstring(L, -1, &len);
  c = lua_newuserdatauv(L, sizeof *c + len * (REDIO_NUMBER_MAX + 8), 0);
  memset(c, 0, sizeof *c);
  c->shape = shape_field(L, 1);
  read_variants(L, c);
  read_flags(L, c);
  write_words(c, name, len);
  c->id = like ? like->id : next_id(L, -2);
  c->tag = &command_tag;
  return 1;
}

/* ---- pipeline ---- */

/* pipeline() -> an empty pipeline */
static int lpipeline(lua_State *L) {
  redio_pipeline *p = lua_newuserdatauv(L, sizeof *p, 0);
  redio_pipeline_init(p, &pipeline_tag);
  luaL_getmetatable(L, "redio.pipeline");
  lua_setmetatable(L, -2);
  return 1;
}

/* encode(pipeline, command, ...) -> true | false, why?
 * See redio_encode. */
static int lencode(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  const redio_command *c = check_command(L, 2);
  if (p->submitted)
    redio_pipeline_reset(p);
  return redio_encode(L, p, c, 3);
}

static int lpipeline_clear(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_clear(p);
  return 0;
}

static int lpipeline_settle(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_settle(p);
  return 0;
}

static int lpipeline_reset(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_reset(p);
  return 0;
}

/* pipeline:count() -> commands queued, bytes they take */
static int lpipeline_count(lua_State *L) {
  const redio_pipeline *p = check_pipeline(L, 1);
  lua_pushinteger(L, p->submitted ? 0 : (lua_Integer)p->commands);
  lua_pushinteger(L, (lua_Integer)(p->closed_out + p->piece_bytes));
  return 2;
}

/* pipeline:sent() -> how many commands the chain had that was submitted last */
static int lpipeline_sent(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_pipeline(L, 1)->commands);
  return 1;
}

/* pipeline:flags() -> private, readonly, blocking: whether it needs a connection of its own, may be
 * sent twice, may wait */
static int lpipeline_flags(lua_State *L) {
  const redio_pipeline *p = check_pipeline(L, 1);
  lua_pushboolean(L, redio_pipeline_is_private(p));
  lua_pushboolean(L, (p->all_flags & REDIO_READONLY) != 0);
  lua_pushboolean(L, (p->flags & REDIO_BLOCKING) != 0);
  return 3;
}

/* pipeline:session() -> in_multi, watching, dirty: as the queued commands will leave the connection
 */
static int lpipeline_session(lua_State *L) {
  const redio_pipeline *p = check_pipeline(L, 1);
  lua_pushboolean(L, p->now.in_multi);
  lua_pushboolean(L, p->now.watching);
  lua_pushboolean(L, p->now.dirty || p->now.muted || p->now.skip);
  return 3;
}

/* pipeline:wrap(multi) -> true, or false and why: MULTI in front of what is queued */
static int lpipeline_wrap(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  const redio_command *multi = check_command(L, 2);
  const uint32_t own = REDIO_MULTI | REDIO_EXEC | REDIO_DISCARD | REDIO_WATCH | REDIO_NOMULTI |
                       REDIO_MUTE | REDIO_SILENT;
  const char *why = NULL;
  if (p->now.in_multi || p->flags & own)
    why = "these commands cannot stand inside one MULTI";
  else if (redio_pipeline_wrap(p, multi))
    why = "out of memory";
  lua_pushboolean(L, !why);
  lua_pushstring(L, why);
  return 2;
}

static int lpipeline_gc(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  if (p->commands && !p->submitted) {
    const char *name;
    lua_getfield(L, LUA_REGISTRYINDEX, REDIO_NAMES);
    lua_rawgeti(L, -1, p->first_id);
    name = lua_tostring(L, -1);
    fprintf(stderr,
            "redio: warning: a handle was collected with %lu command%s never awaited (%s%s)\n",
            (unsigned long)p->commands, p->commands == 1 ? "" : "s", name ? name : "?",
            p->commands == 1 ? "" : ", ...");
  }
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_free(p);
  return 0;
}

/* ---- connection ---- */

static void limit_field(lua_State *L, int table, const char *name, unsigned long long *out) {
  lua_getfield(L, table, name);
  if (!lua_isnil(L, -1)) {
    lua_Number n = luaL_checknumber(L, -1);
    if (!(n >= 0 && n < 9e18))
      luaL_error(L, "bad limit '%s'", name);
    *out = (unsigned long long)n;
  }
  lua_pop(L, 1);
}

static redio_limits read_limits(lua_State *L, int table) {
  redio_limits limits = redio_default_limits;
  unsigned long long line = limits.max_line, depth = limits.max_depth;
  if (lua_isnoneornil(L, table))
    return limits;
  luaL_checktype(L, table, LUA_TTABLE);
  limit_field(L, table, "max_bulk", &limits.max_bulk);
  limit_field(L, table, "max_elements", &limits.max_elements);
  limit_field(L, table, "max_line", &line);
  limit_field(L, table, "max_depth", &depth);
  limits.max_line = (size_t)line;
  limits.max_depth = (unsigned)depth;
  return limits;
}

/* connection(receiver?, limits?) -> a connection without socket; a receiver takes arrays that
 * nobody asked for as messages; limits as for decoder */
static int lconnection(lua_State *L) {
  int receiver = lua_toboolean(L, 1);
  redio_limits limits = read_limits(L, 2);
  redio_connection *c = lua_newuserdatauv(L, sizeof *c, 0);
  redio_connection_init(c, &connection_tag, &limits);
  c->receiver = (unsigned char)receiver;
  luaL_getmetatable(L, "redio.connection");
  lua_setmetatable(L, -2);
  return 1;
}

/* Refs of their own for the pieces that submit has just copied. */
static void renew_refs(lua_State *L, redio_pieces *pieces, size_t from) {
  size_t i;
  for (i = from; i < pieces->count; i++) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, pieces->list[i].ref);
    pieces->list[i].ref = luaL_ref(L, LUA_REGISTRYINDEX);
  }
}

static const char *refuses_chain(lua_State *L, const redio_connection *c, const redio_pipeline *p,
                                 int mode) {
  redio_state state = mode & REDIO_MODE_HANDSHAKE ? REDIO_HANDSHAKE : REDIO_READY;
  if (c->state != state)
    return "state";
  if (!(mode & REDIO_MODE_OWN) && redio_pipeline_is_private(p))
    return "private";
  if (p->replies && !lua_isyieldable(L))
    return "yield";
  if (!(mode & REDIO_MODE_COLLECT) && p->values > REDIO_MAX_RESULTS)
    return "results";
  return NULL;
}

/* connection:submit(pipeline, waiters, mode) -> slot, coroutine | nil, why
 * The running coroutine becomes the chain's waiter: waiters[2 * slot + 1]; the next index holds
 * what the chain collects. Without a single reply to come the slot is false. why: "state" (not
 * ready), "private" (needs a connection of its own), "yield" (the caller cannot wait here),
 * "results" (more than a call may return), "memory". */
static int lconnection_submit(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  redio_pipeline *p = check_pipeline(L, 2);
  int mode = (int)lua_tointeger(L, 4);
  size_t pieces = c->pieces.count;
  uint32_t slot;
  const char *refusal = refuses_chain(L, c, p, mode);
  if (!refusal && redio_connection_reserve(c, p))
    refusal = "memory";
  if (refusal) {
    lua_pushnil(L);
    lua_pushstring(L, refusal);
    return 2;
  }
  slot = redio_connection_submit(c, p, (unsigned char)mode);
  if (c->pieces.count > pieces)
    renew_refs(L, &c->pieces, pieces);
  if (slot == REDIO_NO_CHAIN) {
    lua_pushboolean(L, 0);
    return 1;
  }
  lua_pushinteger(L, slot);
  lua_pushthread(L);
  lua_pushvalue(L, -1);
  lua_rawseti(L, 3, (int)slot * 2 + 1);
  lua_pushboolean(L, 0);
  lua_rawseti(L, 3, (int)slot * 2 + 2);
  return 2;
}

/* connection:drop(waiters, slot): nobody waits for that chain any more */
static int lconnection_drop(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  lua_Integer slot = luaL_checkinteger(L, 3);
  redio_connection_drop(c, (uint32_t)slot);
  lua_pushboolean(L, 0);
  lua_rawseti(L, 2, (int)slot * 2 + 1);
  return 0;
}

static void push_output_pieces(lua_State *L, redio_connection *c) {
  const char *from = redio_buf_head(&c->out);
  size_t i, at = 0;
  int n = 0;
  lua_createtable(L, (int)c->pieces.count * 2 + 1, 0);
  for (i = 0; i < c->pieces.count; i++) {
    const redio_piece *piece = c->pieces.list + i;
    lua_pushlstring(L, from + at, piece->at - at);
    lua_rawseti(L, -2, ++n);
    lua_rawgeti(L, LUA_REGISTRYINDEX, piece->ref);
    lua_rawseti(L, -2, ++n);
    at = piece->at;
  }
  lua_pushlstring(L, from + at, redio_buf_len(&c->out) - at);
  lua_rawseti(L, -2, ++n);
}

/* connection:output() -> what is to be written: a string, a list of strings, or nil; and its size
 * in bytes */
static int lconnection_output(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  size_t size = redio_buf_len(&c->out);
  if (!size)
    return 0;
  if (c->pieces.count)
    push_output_pieces(L, c);
  else
    lua_pushlstring(L, redio_buf_head(&c->out), size);
  lua_pushinteger(L, (lua_Integer)(size + c->piece_bytes));
  redio_unref_pieces(L, &c->pieces, 0);
  redio_connection_sent(c);
  return 2;
}

/* connection:feed(bytes) -> true, or false when memory is out */
static int lconnection_feed(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_pushboolean(L, !redio_decoder_feed(&c->decoder, s, len));
  c->bytes_in += len;
  return 1;
}

/* The stack of `next` while it builds. */
enum { AT_CONNECTION = 1, AT_WAITERS, AT_ERRORS, AT_WAITER, AT_TOKEN, AT_RESULTS };

static int slot_index(const redio_connection *c) { return (int)c->first * 2 + 1; }

static void start_builder(redio_builder *b, lua_State *L, const redio_connection *c) {
  memset(b, 0, sizeof *b);
  b->L = L;
  b->errors = AT_ERRORS;
  b->p = redio_buf_head(&c->decoder.in);
  if (c->has_null)
    b->null_holder = AT_WAITERS;
}

/* Takes the values above `base` from the stack into the chain's own list. */
static void spill(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  int i, n = lua_gettop(L) - base;
  if (n <= 0)
    return;
  lua_rawgeti(L, AT_WAITERS, slot_index(c) + 1);
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, AT_WAITERS, slot_index(c) + 1);
  }
  for (i = 0; i < n; i++) {
    lua_pushvalue(L, base + 1 + i);
    lua_rawseti(L, base + n + 1, (int)++chain->values);
  }
  lua_settop(L, base);
}

/* Everything spilled, back onto the stack. */
static void unspill(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  uint32_t i;
  if (!chain->values)
    return;
  spill(L, c, chain, base);
  lua_rawgeti(L, AT_WAITERS, slot_index(c) + 1);
  luaL_checkstack(L, (int)chain->values + 8, "too many results: use replies()");
  for (i = 1; i <= chain->values; i++)
    lua_rawgeti(L, base + 1, (int)i);
  lua_remove(L, base + 1);
}

/* Errors of a chain that came in more than one read are kept with its waiters too. */
static void keep_errors(lua_State *L) {
  if (lua_isnil(L, AT_ERRORS))
    return;
  lua_pushvalue(L, AT_ERRORS);
  lua_setfield(L, AT_WAITERS, "errors");
}

static void take_kept_errors(lua_State *L) {
  lua_getfield(L, AT_WAITERS, "errors");
  lua_replace(L, AT_ERRORS);
  if (lua_isnil(L, AT_ERRORS))
    return;
  lua_pushnil(L);
  lua_setfield(L, AT_WAITERS, "errors");
}

static int finish_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  int failed;
  if (chain->mode & REDIO_MODE_COLLECT) {
    lua_rawgeti(L, AT_WAITERS, slot_index(c) + 1);
    lua_pushinteger(L, chain->values);
    lua_pushinteger(L, chain->places);
  } else {
    unspill(L, c, chain, AT_TOKEN);
  }
  failed = !lua_isnil(L, AT_ERRORS);
  if (failed) {
    lua_pushlightuserdata(L, (void *)&failed_token);
    lua_replace(L, AT_TOKEN);
    lua_pushvalue(L, AT_ERRORS);
    lua_insert(L, AT_RESULTS);
  }
  lua_pushboolean(L, 0);
  lua_rawseti(L, AT_WAITERS, slot_index(c));
  if (chain->values || chain->mode & REDIO_MODE_COLLECT) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, AT_WAITERS, slot_index(c) + 1);
  }
  redio_connection_pop(c);
  return lua_gettop(L) - AT_WAITER + 1;
}

static void take_reply(lua_State *L, redio_connection *c, redio_chain *chain) {
  redio_builder b;
  const redio_expect *e;
  start_builder(&b, L, c);
  e = redio_connection_expected(c, &b.inner_count);
  b.inner = e + 2;
  b.id = e->reply.id;
  b.index = chain->done + 1;
  b.mode = chain->mode;
  if (chain->mode & REDIO_MODE_COLLECT) {
    int base = lua_gettop(L);
    lua_rawgeti(L, AT_WAITERS, slot_index(c) + 1);
    lua_rawgeti(L, base + 1, 1);
    lua_rawgeti(L, base + 1, 2);
    b.places = base + 3;
    b.places_count = chain->places;
    if (redio_build(&b, redio_shapes[e->reply.shape], chain->mode & REDIO_MODE_LIST)) {
      if (b.is_value && chain->mode & REDIO_MODE_PLACES) {
        lua_pushvalue(L, base + 2);
        lua_rawseti(L, b.places, (int)++b.places_count);
        lua_pushinteger(L, (lua_Integer)chain->values + 1);
        lua_rawseti(L, b.places, (int)++b.places_count);
      }
      lua_rawseti(L, base + 2, (int)++chain->values);
    }
    chain->places = b.places_count;
    lua_settop(L, base);
  } else {
    luaL_checkstack(L, 16, "too many results: use replies()");
    redio_build(&b, redio_shapes[e->reply.shape], 0);
  }
}

/* false, true and the elements of a message; false, false and any other reply that nobody asked for
 */
static int take_push(lua_State *L, redio_connection *c) {
  redio_builder b;
  redio_token t;
  unsigned long long left;
  static const redio_shape name = {"", REDIO_SHAPE_NAME, 0, NULL, NULL};
  lua_settop(L, AT_WAITERS);
  lua_pushnil(L);
  lua_pushboolean(L, 0);
  start_builder(&b, L, c);
  b.errors = 0;
  redio_token_next(b.p, &t);
  lua_pushboolean(L, t.type == '>' || (c->receiver && t.type == '*' && !t.streamed));
  if (lua_toboolean(L, -1)) {
    b.p = redio_token_next(b.p, &t);
    luaL_checkstack(L, t.count < 200 ? (int)t.count + 8 : 208, "push");
    for (left = t.count < 200 ? t.count : 200; left; left--)
      redio_build(&b, &name, 1);
  } else {
    redio_build(&b, &name, 1);
  }
  redio_decoder_consume(&c->decoder);
  return lua_gettop(L) - AT_WAITER + 1;
}

static int is_message(const redio_connection *c) {
  unsigned char type = c->decoder.first;
  return type == '>' || c->first == REDIO_NO_CHAIN || (c->receiver && type == '*');
}

/* A chain whose connection is lost: waiter, token, whether it may have been sent. Nobody's chains
 * are passed over. */
static int next_lost(lua_State *L, redio_connection *c) {
  while (c->first != REDIO_NO_CHAIN) {
    int slot = slot_index(c), dropped = c->chains[c->first].dropped;
    int sent = redio_connection_was_sent(c, c->first);
    redio_connection_pop(c);
    lua_rawgeti(L, AT_WAITERS, slot);
    lua_pushboolean(L, 0);
    lua_rawseti(L, AT_WAITERS, slot);
    lua_pushboolean(L, 0);
    lua_rawseti(L, AT_WAITERS, slot + 1);
    if (!dropped) {
      lua_pushlightuserdata(L, (void *)&lost_token);
      lua_pushboolean(L, sent);
      return 3;
    }
    lua_pop(L, 1);
  }
  return 0;
}

static void start_chain(lua_State *L, const redio_connection *c, const redio_chain *chain) {
  lua_settop(L, AT_WAITERS);
  lua_pushnil(L);
  lua_rawgeti(L, AT_WAITERS, slot_index(c));
  lua_pushlightuserdata(L, (void *)&done_token);
  if (chain->done)
    take_kept_errors(L);
}

static void pause_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  if (!(chain->mode & REDIO_MODE_COLLECT))
    spill(L, c, chain, AT_TOKEN);
  keep_errors(L);
}

/* Takes replies for the first chain until it is finished (1), bytes run out (0), or something comes
 * between (-1). */
static int feed_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  start_chain(L, c, chain);
  while (redio_decoder_next(&c->decoder) == REDIO_VALUE) {
    if (c->decoder.first == '>') {
      pause_chain(L, c, chain);
      return -1;
    }
    if (!chain->dropped)
      take_reply(L, c, chain);
    redio_connection_took(c);
    redio_decoder_consume(&c->decoder);
    if (chain->done == chain->replies)
      return 1;
  }
  if (chain->done)
    pause_chain(L, c, chain);
  return 0;
}

/* connection:next(waiters) -> what the bytes so far have decided:
 *   waiter, token, results...   a chain is finished: see the tokens
 *   false, true, kind, ...      a push; for a receiver also an array that nobody asked for
 *   false, false, value         a reply that nobody asked for
 *   nothing                     more bytes are needed
 *   nil, text                   the stream is dead */
static int lconnection_next(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  lua_settop(L, AT_WAITERS);
  if (c->state == REDIO_LOST)
    return next_lost(L, c);
  while (redio_decoder_next(&c->decoder) == REDIO_VALUE) {
    redio_chain *chain = redio_connection_first(c);
    int finished;
    if (is_message(c))
      return take_push(L, c);
    finished = feed_chain(L, c, chain);
    if (finished == 0)
      break;
    if (finished < 0)
      continue;
    if (!chain->dropped)
      return finish_chain(L, c, chain);
    redio_connection_pop(c);
  }
  if (!redio_decoder_error(&c->decoder))
    return 0;
  lua_pushnil(L);
  lua_pushstring(L, redio_decoder_error(&c->decoder));
  return 2;
}

/* connection:event(name) -> true, or false when its state has no such step */
static int lconnection_event(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  int event = luaL_checkoption(L, 2, NULL, redio_event_names);
  lua_pushboolean(L, !redio_connection_event(c, (redio_event)event));
  return 1;
}

/* connection:state() -> "closed", "connecting", "handshake", "ready", "draining" or "lost" */
static int lconnection_state(lua_State *L) {
  lua_pushstring(L, redio_state_names[check_connection(L, 1)->state]);
  return 1;
}

/* connection:waiting() -> chains in flight, bytes not yet taken by output() */
static int lconnection_waiting(lua_State *L) {
  const redio_connection *c = check_connection(L, 1);
  lua_pushinteger(L, c->waiting);
  lua_pushinteger(L, (lua_Integer)(redio_buf_len(&c->out) + c->piece_bytes));
  return 2;
}

/* connection:null(): waiters.null stands for null from now on */
static int lconnection_null(lua_State *L) {
  check_connection(L, 1)->has_null = 1;
  return 0;
}

static int lconnection_gc(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  redio_unref_pieces(L, &c->pieces, 0);
  redio_connection_free(c);
  return 0;
}

/* ---- decoder ---- */

/* decoder{max_bulk=, max_elements=, max_line=, max_depth=} -> a decoder of its own */
static int ldecoder_new(lua_State *L) {
  redio_limits limits = read_limits(L, 1);
  ldecoder *d = lua_newuserdatauv(L, sizeof *d, 0);
  d->tag = &decoder_tag;
  redio_decoder_init(&d->decoder, &limits);
  luaL_getmetatable(L, "redio.decoder");
  lua_setmetatable(L, -2);
  return 1;
}

/* decoder:feed(bytes) */
static int ldecoder_feed(lua_State *L) {
  redio_decoder *d = check_decoder(L, 1);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_pushboolean(L, !redio_decoder_feed(d, s, len));
  return 1;
}

/* decoder:next() -> true, value, is_push | false | nil, why it is dead */
static int ldecoder_next(lua_State *L) {
  redio_decoder *d = check_decoder(L, 1);
  redio_status status = redio_decoder_next(d);
  redio_builder b;
  if (status == REDIO_NEED_MORE) {
    lua_pushboolean(L, 0);
    return 1;
  }
  if (status == REDIO_DEAD) {
    lua_pushnil(L);
    lua_pushstring(L, redio_decoder_error(d));
    return 2;
  }
  memset(&b, 0, sizeof b);
  b.L = L;
  b.p = redio_buf_head(&d->in);
  lua_pushboolean(L, 1);
  redio_build(&b, redio_shapes[REDIO_SHAPE_INDEX_VALUE], 0);
  lua_pushboolean(L, d->first == '>');
  redio_decoder_consume(d);
  return 3;
}

static int ldecoder_gc(lua_State *L) {
  redio_decoder_free(check_decoder(L, 1));
  return 0;
}

/* ---- module ---- */

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

/* ignore_sigpipe(): a write to a peer that is gone becomes an error code instead of the end of the
 * process. Leaves any handling that somebody has chosen alone. */
static int lignore_sigpipe(lua_State *L) {
  (void)L;
#ifdef SIGPIPE
  void (*before)(int) = signal(SIGPIPE, SIG_IGN);
  if (before != SIG_DFL && before != SIG_ERR)
    signal(SIGPIPE, before);
#endif
  return 0;
}

static const luaL_Reg pipeline_methods[] = {
    {"clear", lpipeline_clear}, {"settle", lpipeline_settle},
    {"reset", lpipeline_reset}, {"count", lpipeline_count},
    {"flags", lpipeline_flags}, {"session", lpipeline_session},
    {"sent", lpipeline_sent},   {"wrap", lpipeline_wrap},
    {"__gc", lpipeline_gc},     {NULL, NULL}};

static const luaL_Reg connection_methods[] = {{"submit", lconnection_submit},
                                              {"drop", lconnection_drop},
                                              {"output", lconnection_output},
                                              {"feed", lconnection_feed},
                                              {"next", lconnection_next},
                                              {"event", lconnection_event},
                                              {"state", lconnection_state},
                                              {"null", lconnection_null},
                                              {"waiting", lconnection_waiting},
                                              {"__gc", lconnection_gc},
                                              {NULL, NULL}};

static const luaL_Reg decoder_methods[] = {
    {"feed", ldecoder_feed}, {"next", ldecoder_next}, {"__gc", ldecoder_gc}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"command", lcommand},
                                     {"pipeline", lpipeline},
                                     {"encode", lencode},
                                     {"connection", lconnection},
                                     {"decoder", ldecoder_new},
                                     {"strdecode", lstrdecode},
                                     {"strencode", lstrencode},
                                     {"number", lnumber},
                                     {"ignore_sigpipe", lignore_sigpipe},
                                     {NULL, NULL}};

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

static void set_token(lua_State *L, const char *name, const void *token) {
  lua_pushlightuserdata(L, (void *)(size_t)token);
  lua_setfield(L, -2, name);
}

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
int luaopen_redio_core(lua_State *L);

int luaopen_redio_core(lua_State *L) {
  new_class(L, "redio.pipeline", pipeline_methods);
  new_class(L, "redio.connection", connection_methods);
  new_class(L, "redio.decoder", decoder_methods);
  lua_newtable(L);
  set_functions(L, functions);
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, REDIO_NAMES);
  luaL_newmetatable(L, REDIO_ERROR);
  lua_setfield(L, -2, "error_metatable");
  set_token(L, "DONE", &done_token);
  set_token(L, "FAILED", &failed_token);
  set_token(L, "LOST", &lost_token);
  set_token(L, "null", NULL);
  return 1;
}
