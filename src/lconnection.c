/* SPDX-License-Identifier: MIT */
/* The userdata connection. */
#include "connection.h"

#include <string.h>

#include "lbind.h"
#include "lvalue.h"
#include "token.h"

/* What the owner's table `waiters` holds for the chain of a slot, two to a slot. */
enum {
  CELL_WAITER = 1, /* the coroutine; false when nobody waits */
  CELL_RESULTS = 2 /* what the chain collects, or has spilled */
};

static int cell(uint32_t slot, int which) { return (int)slot * 2 + which; }

#define WEAK "redio.weak"

/* What a waiter is resumed with before anything else, so that it can tell us from a stranger. */
static const char done_token, failed_token, lost_token;

/* connection(receiver?, limits?) -> a connection without socket; a receiver takes arrays that
 * nobody asked for as messages; limits as for decoder */
static int lconnection(lua_State *L) {
  int receiver = lua_toboolean(L, 1);
  redio_limits limits = redio_read_limits(L, 2);
  redio_connection *c = lua_newuserdatauv(L, sizeof *c, 0);
  redio_connection_init(c, &redio_connection_tag, &limits);
  c->receiver = (unsigned char)receiver;
  luaL_getmetatable(L, "redio.connection");
  lua_setmetatable(L, -2);
  return 1;
}

/* Gives back what was made for pieces of a chain that never came. */
static void drop_spare_refs(lua_State *L, redio_pieces *pieces) {
  while (pieces->spare)
    luaL_unref(L, LUA_REGISTRYINDEX, pieces->list[pieces->count + --pieces->spare].ref);
}

/* Refs of their own for the pieces that submit is about to copy. */
static void make_refs(lua_State *L, redio_pieces *to, const redio_pipeline *p) {
  size_t i;
  drop_spare_refs(L, to);
  for (i = 0; i < p->closed_pieces; i++) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->pieces.list[i].ref);
    to->list[to->count + i].ref = luaL_ref(L, LUA_REGISTRYINDEX);
    to->spare++;
  }
}

const char *redio_refuses_chain(lua_State *L, const redio_connection *c, const redio_pipeline *p,
                                int mode) {
  redio_state state = mode & REDIO_MODE_HANDSHAKE ? REDIO_HANDSHAKE : REDIO_READY;
  if (c->state != state)
    return "state";
  if (!(mode & REDIO_MODE_OWN) && redio_pipeline_is_private(p))
    return "private";
  if (p->replies && !lua_isyieldable(L))
    return "yield";
  if (!(mode & REDIO_MODE_LIST) && p->values > REDIO_MAX_RESULTS)
    return "results";
  if (c->choked || (c->max_out && redio_connection_queued(c) >= c->max_out))
    return "full";
  return NULL;
}

static void set_cell(lua_State *L, int waiters, uint32_t slot, int which) {
  lua_rawseti(L, waiters, cell(slot, which));
}

uint32_t redio_submit(lua_State *L, redio_stock *stock, redio_connection *c, redio_pipeline *p,
                      int mode, int waiters) {
  uint32_t slot = redio_connection_next_slot(c);
  int is_own = mode & REDIO_MODE_OWN;
  if (p->closed_pieces)
    make_refs(L, &c->pieces, p);
  if (p->replies) {
    lua_pushthread(L);
    set_cell(L, waiters, slot, CELL_WAITER);
    if (mode & REDIO_MODE_COLLECT)
      set_cell(L, waiters, slot, CELL_RESULTS);
  }
  if (!is_own)
    redio_restock(L, stock, p);
  slot = redio_connection_submit(c, p, (unsigned char)mode, !is_own);
  if (!is_own)
    redio_blank(L, p);
  return slot;
}

/* connection:submit(pipeline, waiters, mode, collected?, waiter?) -> slot, first | nil, why
 * The running coroutine becomes the chain's waiter, or what stands for it; `collected` takes its
 * results as the mode says: {results, places}. Without OWN in the mode the pipeline is given back:
 * the connection keeps what it said. `first`: nothing else was waiting for output(). Without a
 * single reply to come the slot is false. why: "state" (not ready), "private" (needs a connection
 * of its own), "yield" (the caller cannot wait here), "results" (more than a call may return),
 * "full" (too much is waiting to be written), "memory". */
static int lconnection_submit(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  redio_pipeline *p = check_pipeline(L, 2);
  int mode = (int)lua_tointeger(L, 4), first = !redio_connection_unsent(c);
  uint32_t slot;
  const char *refusal = redio_refuses_chain(L, c, p, mode);
  if (!refusal && redio_connection_reserve(c, p))
    refusal = "memory";
  if (refusal) {
    lua_pushnil(L);
    lua_pushstring(L, refusal);
    return 2;
  }
  lua_settop(L, 6);
  if (!(mode & REDIO_MODE_OWN))
    lua_pushvalue(L, 2);
  if (mode & REDIO_MODE_COLLECT && p->replies)
    lua_pushvalue(L, 5);
  slot = redio_submit(L, redio_stock_of(L), c, p, mode, 3);
  if (slot != REDIO_NO_CHAIN && !lua_isnil(L, 6)) {
    lua_pushvalue(L, 6);
    set_cell(L, 3, slot, CELL_WAITER); /* it is there already: this takes no memory */
  }
  if (slot == REDIO_NO_CHAIN)
    lua_pushboolean(L, 0);
  else
    lua_pushinteger(L, slot);
  lua_pushboolean(L, first);
  return 2;
}

static void clear_cell(lua_State *L, int waiters, uint32_t slot, int which) {
  lua_pushboolean(L, 0);
  set_cell(L, waiters, slot, which);
}

/* Pushes the index of the waiters, coroutine -> slot, up to the chain submitted last. It is made
 * when it is first asked for, and keeps nothing alive. A slot in it may be out of date. */
static void push_index(lua_State *L, redio_connection *c, int waiters) {
  uint32_t slot;
  lua_getfield(L, waiters, "index");
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_getmetatable(L, WEAK);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, waiters, "index");
    c->last_indexed_number = 0;
  }
  if (c->chains[c->last].number <= c->last_indexed_number)
    return;
  slot = redio_connection_after(c, c->last_indexed, c->last_indexed_number);
  for (; slot != REDIO_NO_CHAIN; slot = c->chains[slot].next) {
    lua_rawgeti(L, waiters, cell(slot, CELL_WAITER));
    lua_pushinteger(L, slot);
    lua_rawset(L, -3);
  }
  c->last_indexed = c->last;
  c->last_indexed_number = c->chains[c->last].number;
}

/* connection:find(waiters, coroutine) -> the slot of the chain that it waits for, or nil; whether
 * bytes of it may be on their way. As many as are submitted may be looked for one after the other:
 * none is looked at twice. */
static int lconnection_find(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  uint32_t slot;
  lua_settop(L, 3);
  if (c->first == REDIO_NO_CHAIN) { /* a time to forget those that are gone */
    lua_pushnil(L);
    lua_setfield(L, 2, "index");
    return 0;
  }
  push_index(L, c, 2);
  lua_pushvalue(L, 3);
  lua_rawget(L, -2);
  if (!lua_isnumber(L, -1))
    return 0;
  slot = (uint32_t)lua_tointeger(L, -1);
  lua_rawgeti(L, 2, cell(slot, CELL_WAITER));
  if (!lua_rawequal(L, -1, 3))
    return 0;
  lua_pushinteger(L, slot);
  lua_pushboolean(L, redio_connection_was_sent(c, slot));
  return 2;
}

/* connection:drop(waiters, slot): nobody waits for that chain any more; one that was not sent yet
 * never will be */
static int lconnection_drop(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  uint32_t slot = (uint32_t)luaL_checkinteger(L, 3);
  clear_cell(L, 2, slot, CELL_WAITER);
  clear_cell(L, 2, slot, CELL_RESULTS);
  redio_connection_drop(c, slot);
  return 0;
}

static void push_output_pieces(lua_State *L, redio_connection *c) {
  const char *from = redio_connection_output(c);
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
  lua_pushlstring(L, from + at, redio_connection_unsent(c) - at);
  lua_rawseti(L, -2, ++n);
}

/* connection:output() -> what is to be written: a string, a list of strings, or nil; its size in
 * bytes; how many chains wait for replies */
static int lconnection_output(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  size_t size;
  if (c->cuts) {
    drop_spare_refs(L, &c->pieces);
    redio_connection_tidy(c);
    drop_spare_refs(L, &c->pieces);
  }
  size = redio_connection_unsent(c);
  if (!size)
    return 0;
  if (c->pieces.count)
    push_output_pieces(L, c);
  else
    lua_pushlstring(L, redio_connection_output(c), size);
  lua_pushinteger(L, (lua_Integer)redio_connection_queued(c));
  drop_spare_refs(L, &c->pieces);
  redio_unref_pieces(L, &c->pieces, 0);
  redio_connection_sent(c);
  lua_pushinteger(L, c->waiting);
  return 3;
}

/* connection:feed(bytes) -> true, or false when memory is out */
static int lconnection_feed(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_pushboolean(L, !redio_decoder_feed(&c->decoder, s, len));
  return 1;
}

/* The stack of `next` while it builds. */
enum { AT_CONNECTION = 1, AT_WAITERS, AT_ERRORS, AT_WAITER, AT_TOKEN, AT_RESULTS };

static int first_cell(const redio_connection *c, int which) { return cell(c->first, which); }

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
  lua_rawgeti(L, AT_WAITERS, first_cell(c, CELL_RESULTS));
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, AT_WAITERS, first_cell(c, CELL_RESULTS));
  }
  for (i = 0; i < n; i++) {
    lua_pushvalue(L, base + 1 + i);
    lua_rawseti(L, base + n + 1, (int)++chain->values);
  }
  lua_settop(L, base);
}

/* All results in the chain's list, which goes onto the stack. */
static void push_list(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  spill(L, c, chain, base);
  lua_rawgeti(L, AT_WAITERS, first_cell(c, CELL_RESULTS));
  if (lua_istable(L, -1))
    return;
  lua_pop(L, 1);
  lua_newtable(L);
}

/* Everything spilled, back onto the stack. */
static void unspill(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  uint32_t i;
  if (!chain->values)
    return;
  push_list(L, c, chain, base);
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

static void set_count(lua_State *L, const char *name, uint32_t n) {
  lua_pushinteger(L, n);
  lua_setfield(L, -2, name);
}

/* FAILED and the list of error replies, which also says of the chain: `waiters`, the owner's table;
 * `count`, its commands; `values` and `places` of the results that follow. They are a list: errors
 * among them may make them more than was thought when the chain was submitted. */
static void push_failed(lua_State *L, const redio_chain *chain) {
  lua_pushlightuserdata(L, (void *)&failed_token);
  lua_replace(L, AT_TOKEN);
  if (lua_isnil(L, AT_ERRORS))
    lua_newtable(L);
  else
    lua_pushvalue(L, AT_ERRORS);
  lua_pushvalue(L, AT_WAITERS);
  lua_setfield(L, -2, "waiters");
  set_count(L, "count", chain->replies);
  set_count(L, "values", chain->values);
  set_count(L, "places", chain->places);
}

/* For what is on the stack, on the waiter's. */
static void make_room(lua_State *L) {
  int n = lua_gettop(L) - AT_WAITER;
  lua_State *co = n > REDIO_ROOM_IN_YIELD ? lua_tothread(L, AT_WAITER) : NULL;
  if (co && !lua_checkstack(co, n))
    luaL_error(L, "too many results: use replies()");
}

static int finish_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  uint32_t slot = c->first;
  int is_collected = chain->mode & REDIO_MODE_COLLECT;
  int has_failed = !lua_isnil(L, AT_ERRORS);
  if (!is_collected && chain->values + (unsigned)(lua_gettop(L) - AT_TOKEN) > REDIO_MAX_RESULTS)
    has_failed = 1;
  if (has_failed) {
    if (!is_collected)
      spill(L, c, chain, AT_TOKEN);
    push_failed(L, chain);
  }
  if (is_collected)
    lua_rawgeti(L, AT_WAITERS, cell(slot, CELL_RESULTS));
  else if (has_failed)
    push_list(L, c, chain, lua_gettop(L));
  else
    unspill(L, c, chain, AT_TOKEN);
  if (is_collected && !has_failed) {
    lua_pushinteger(L, chain->values);
    lua_pushinteger(L, chain->places);
  }
  make_room(L);
  /* nothing may raise from here on: what is popped is told */
  clear_cell(L, AT_WAITERS, slot, CELL_WAITER);
  if (chain->values || chain->mode & REDIO_MODE_COLLECT)
    clear_cell(L, AT_WAITERS, slot, CELL_RESULTS);
  redio_connection_pop(c);
  return lua_gettop(L) - AT_WAITER + 1;
}

/* One bulk string that goes onto the stack as it is: no builder is needed. */
static int take_bulk(lua_State *L, const redio_connection *c, const redio_chain *chain) {
  const redio_decoder *d = &c->decoder;
  const redio_expect *e = redio_connection_expected(c);
  if (chain->mode & (REDIO_MODE_TEXT | REDIO_MODE_COLLECT) ||
      redio_shapes[e->reply.shape]->kind > REDIO_SHAPE_NAME)
    return 0;
  lua_pushlstring(L, redio_buf_head(&d->in) + d->bulk, d->bulk_len);
  return 1;
}

static void take_reply(lua_State *L, redio_connection *c, redio_chain *chain) {
  redio_builder b;
  const redio_expect *e;
  if (c->decoder.is_bulk && take_bulk(L, c, chain))
    return;
  start_builder(&b, L, c);
  e = redio_connection_expected(c);
  b.inner = e + 2;
  b.inner_count = redio_expect_entries(e) > 1 ? e[1].count : 0;
  b.id = e->reply.id;
  b.index = chain->done + 1;
  b.mode = chain->mode;
  if (chain->mode & REDIO_MODE_COLLECT) {
    int base = lua_gettop(L);
    lua_rawgeti(L, AT_WAITERS, first_cell(c, CELL_RESULTS));
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
    redio_build(&b, redio_shapes[e->reply.shape], 0);
  }
}

/* nil and why: a message has more elements than a call may return. */
static int refuse_push(lua_State *L) {
  lua_settop(L, AT_WAITERS);
  lua_pushnil(L);
  lua_pushfstring(L, "protocol error: a push of more than %d elements", REDIO_MAX_RESULTS);
  return 2;
}

/* false, true and the elements of a message; false, false and any other reply that nobody asked for
 */
static int take_push(lua_State *L, redio_connection *c) {
  redio_builder b;
  redio_token t;
  unsigned long long left;
  size_t length;
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
    if (t.count > REDIO_MAX_RESULTS)
      return refuse_push(L);
    luaL_checkstack(L, (int)t.count + 8, "push");
    for (left = t.count; left; left--)
      redio_build(&b, &name, 1);
  } else {
    redio_build(&b, &name, 1);
  }
  length = redio_buf_len(&c->decoder.in);
  redio_decoder_consume(&c->decoder);
  length -= redio_buf_len(&c->decoder.in);
  c->unasked -= length < c->unasked ? length : c->unasked;
  return lua_gettop(L) - AT_WAITER + 1;
}

/* What began to come before a chain was written is not its reply, although it may be the next to
 * get one: `-ERR a\r\n+X\r\n` must not give the X to the chain that is sent upon the error, in
 * however many reads it comes. */
static int is_message(const redio_connection *c) {
  unsigned char type = c->decoder.first;
  return type == '>' || (c->receiver && type == '*') || c->first == REDIO_NO_CHAIN || c->unasked ||
         !redio_connection_was_sent(c, c->first);
}

/* The first chain's commands in a pipeline, for another try; false when they are not kept. */
static void push_recovered(lua_State *L, redio_connection *c) {
  redio_pipeline *p = redio_connection_keeps(c) ? redio_lend(L) : NULL;
  if (p && !redio_connection_recover(c, p))
    return;
  if (p)
    lua_pop(L, 1);
  lua_pushboolean(L, 0);
}

/* A chain whose connection is lost: waiter, token, whether it may have been sent, its commands.
 * Nobody's chains are passed over. */
static int next_lost(lua_State *L, redio_connection *c) {
  while (c->first != REDIO_NO_CHAIN && c->chains[c->first].dropped)
    redio_connection_pop(c);
  if (c->first == REDIO_NO_CHAIN)
    return 0;
  lua_settop(L, AT_WAITERS);
  lua_rawgeti(L, AT_WAITERS, cell(c->first, CELL_WAITER));
  lua_pushlightuserdata(L, (void *)&lost_token);
  lua_pushboolean(L, redio_connection_was_sent(c, c->first));
  push_recovered(L, c);
  clear_cell(L, AT_WAITERS, c->first, CELL_WAITER);
  clear_cell(L, AT_WAITERS, c->first, CELL_RESULTS);
  redio_connection_pop(c);
  return 4;
}

static void start_chain(lua_State *L, const redio_connection *c, const redio_chain *chain) {
  lua_settop(L, AT_WAITERS);
  lua_pushnil(L);
  lua_rawgeti(L, AT_WAITERS, first_cell(c, CELL_WAITER));
  lua_pushlightuserdata(L, (void *)&done_token);
  if (chain->done)
    take_kept_errors(L);
}

static void pause_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  if (!(chain->mode & REDIO_MODE_COLLECT))
    spill(L, c, chain, AT_TOKEN);
  keep_errors(L);
}

enum { AT_A_TIME = 16, FEW = 3, MOST_ON_STACK = 4096 };

/* Whether the server says QUEUED of a command that stands in no MULTI of ours: then a MULTI is open
 * that this end does not know of, and what follows is not what was asked for. */
static int is_stray_queued(const redio_connection *c) {
  const char *p = redio_buf_head(&c->decoder.in);
  redio_token t;
  if ((*p == '+' && p[1] != 'Q') ||
      redio_shapes[redio_connection_expected(c)->reply.shape]->kind == REDIO_SHAPE_QUEUED)
    return 0;
  redio_token_next(p, &t);
  return t.len == 6 && !memcmp(t.s, "QUEUED", 6);
}

/* Takes replies for the first chain until it is finished (1), bytes run out (0), or something comes
 * between (-1). */
static int feed_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  int since = 0;
  start_chain(L, c, chain);
  while (redio_decoder_next(&c->decoder) == REDIO_VALUE) {
    /* One is left of each, and to build it takes some more. The first few have room. */
    if (since++ % AT_A_TIME == FEW) {
      if (lua_gettop(L) > MOST_ON_STACK && !(chain->mode & REDIO_MODE_COLLECT))
        spill(L, c, chain, AT_TOKEN);
      luaL_checkstack(L, AT_A_TIME + 16, "too many results: use replies()");
    }
    if (c->decoder.first == '>') {
      pause_chain(L, c, chain);
      return -1;
    }
    if (c->decoder.first == '+' && is_stray_queued(c)) {
      c->broken = "protocol error: the server has queued a command, though no MULTI is open";
      return 0;
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

static int push_next(lua_State *L, redio_connection *c) {
  const char *why;
  if (c->state == REDIO_LOST)
    return next_lost(L, c);
  while (!c->broken && redio_decoder_next(&c->decoder) == REDIO_VALUE) {
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
  why = c->broken ? c->broken : redio_decoder_error(&c->decoder);
  if (!why)
    return 0;
  lua_settop(L, AT_ERRORS); /* a chain that is not finished has left its waiter there */
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* connection:next(waiters) -> what the bytes so far have decided:
 *   waiter, token, results...   a chain is finished: see the tokens
 *   false, true, kind, ...      a push; for a receiver also an array that nobody asked for
 *   false, false, value         a reply that nobody asked for
 *   nothing                     more bytes are needed
 *   nil, text                   the stream is dead */
static int lconnection_next(lua_State *L) { return push_next(L, check_connection(L, 1)); }

/* connection:wake(waiters) -> as next, but the waiters of finished chains are resumed here, until
 * there is something else to tell:
 *   waiter, error               this one has ended by an error
 *   true                        this one cannot be resumed: it was closed, or has ended; what
 *                               came for it is dropped
 * The one function of the binding that runs Lua. */
static int lconnection_wake(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  for (;;) {
    int n = push_next(L, c), results;
    lua_State *co = n ? lua_tothread(L, AT_WAITER) : NULL;
    if (!co)
      return n;
    if (lua_status(co) != LUA_YIELD) {
      lua_pushboolean(L, 1);
      return 1;
    }
    lua_xmove(L, co, n - 1);
    switch (redio_resume(co, L, n - 1, &results)) {
    case LUA_OK:
    case LUA_YIELD:
      if (results)
        lua_pop(co, results);
      break;
    default:
      lua_xmove(co, L, 1);
      return 2;
    }
  }
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
  lua_pushinteger(L, (lua_Integer)redio_connection_queued(c));
  return 2;
}

/* connection:rest() -> true when no chain is in flight; then memory that only much traffic needs is
 * given back */
static int lconnection_rest(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  if (!c->waiting)
    redio_connection_rest(c);
  lua_pushboolean(L, !c->waiting);
  return 1;
}

/* connection:is_clean() -> whether it has nothing in flight, nothing to write, and no byte that has
 * come and was not taken */
static int lconnection_is_clean(lua_State *L) {
  const redio_connection *c = check_connection(L, 1);
  lua_pushboolean(L, !c->waiting && !redio_connection_queued(c) && !redio_buf_len(&c->decoder.in));
  return 1;
}

/* connection:limit(bytes): how much may wait for output() before submit says "full" */
static int lconnection_limit(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  lua_Number n = luaL_checknumber(L, 2);
  c->max_out = n >= 1 && n < 1e18 ? (size_t)n : 0;
  return 0;
}

/* connection:choke(on): submit says "full", whatever waits */
static int lconnection_choke(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  c->choked = (unsigned char)lua_toboolean(L, 2);
  return 0;
}

/* connection:null(): waiters.null stands for null from now on */
static int lconnection_null(lua_State *L) {
  check_connection(L, 1)->has_null = 1;
  return 0;
}

static int lconnection_gc(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  drop_spare_refs(L, &c->pieces);
  redio_unref_pieces(L, &c->pieces, 0);
  redio_connection_free(c);
  return 0;
}

static const luaL_Reg methods[] = {
    {"output", lconnection_output}, {"feed", lconnection_feed},
    {"drop", lconnection_drop},     {"find", lconnection_find},
    {"event", lconnection_event},   {"state", lconnection_state},
    {"null", lconnection_null},     {"limit", lconnection_limit},
    {"choke", lconnection_choke},   {"waiting", lconnection_waiting},
    {"rest", lconnection_rest},     {"is_clean", lconnection_is_clean},
    {"__gc", lconnection_gc},       {NULL, NULL}};

static void set_token(lua_State *L, const char *name, const void *token) {
  lua_pushlightuserdata(L, (void *)(size_t)token);
  lua_setfield(L, -2, name);
}

/* These lend pipelines or give them back. */
static const luaL_Reg recycling[] = {{"submit", lconnection_submit},
                                     {"next", lconnection_next},
                                     {"wake", lconnection_wake},
                                     {NULL, NULL}};

static const luaL_Reg functions[] = {{"connection", lconnection}, {NULL, NULL}};

static void set_modes(lua_State *L) {
  static const struct {
    const char *name;
    int mode;
  } modes[] = {{"TEXT", REDIO_MODE_TEXT},       {"PLACES", REDIO_MODE_PLACES},
               {"COLLECT", REDIO_MODE_COLLECT}, {"LIST", REDIO_MODE_LIST},
               {"OWN", REDIO_MODE_OWN},         {"HANDSHAKE", REDIO_MODE_HANDSHAKE}};
  size_t i;
  for (i = 0; i < sizeof modes / sizeof *modes; i++) {
    lua_pushinteger(L, modes[i].mode);
    lua_setfield(L, -2, modes[i].name);
  }
}

void redio_open_connection(lua_State *L) {
  redio_new_class(L, "redio.connection", methods);
  luaL_getmetatable(L, "redio.connection");
  redio_set_recycling(L, recycling);
  lua_pop(L, 1);
  redio_set_functions(L, functions);
  set_modes(L);
  luaL_newmetatable(L, WEAK);
  lua_pushstring(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_pop(L, 1);
  set_token(L, "DONE", &done_token);
  set_token(L, "FAILED", &failed_token);
  set_token(L, "LOST", &lost_token);
}
