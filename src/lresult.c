/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, regress/maps_in_maps, regress/many_values */
#include "lresult.h"

#include <string.h>

#include "lstock.h"
#include "lvalue.h"
#include "token.h"

/* The first value with which a waiter is resumed. Any other one came from foreign code. */
static const char done_token, failed_token, lost_token;

/* The stack while results are pushed. */
enum { AT_SLOTS = REDIO_AT_SLOTS, AT_ERRORS, AT_WAITER = REDIO_AT_WAITER, AT_TOKEN };

/* Results on the stack ------------------------------------------------------------------------- */

/* Moves the values above `base` from the stack to the chain's list. */
static void spill(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  int i, n = lua_gettop(L) - base;
  if (n <= 0)
    return;
  redio_get_cell(L, AT_SLOTS, c->first, REDIO_CELL_RESULTS);
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    redio_set_cell(L, AT_SLOTS, c->first, REDIO_CELL_RESULTS);
  }
  for (i = 0; i < n; i++) {
    lua_pushvalue(L, base + 1 + i);
    lua_rawseti(L, base + n + 1, (int)++chain->values);
  }
  lua_settop(L, base);
}

/* Pushes the chain's list with all results, those above `base` included. */
static void push_list(lua_State *L, redio_connection *c, redio_chain *chain, int base) {
  spill(L, c, chain, base);
  redio_get_cell(L, AT_SLOTS, c->first, REDIO_CELL_RESULTS);
  if (lua_istable(L, -1))
    return;
  lua_pop(L, 1);
  lua_newtable(L);
}

/* Moves all results from the chain's list to the stack. */
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

/* Keeps the errors of an unfinished chain for its next replies. */
static void keep_errors(lua_State *L) {
  if (lua_isnil(L, AT_ERRORS))
    return;
  lua_pushvalue(L, AT_ERRORS);
  lua_setfield(L, AT_SLOTS, "errors");
}

static void take_kept_errors(lua_State *L) {
  lua_getfield(L, AT_SLOTS, "errors");
  lua_replace(L, AT_ERRORS);
  if (lua_isnil(L, AT_ERRORS))
    return;
  lua_pushnil(L);
  lua_setfield(L, AT_SLOTS, "errors");
}

/* The end of a chain --------------------------------------------------------------------------- */

static void set_count(lua_State *L, const char *name, uint32_t n) {
  lua_pushinteger(L, n);
  lua_setfield(L, -2, name);
}

/* Makes the token FAILED and pushes the list of errors. Its fields describe the chain: `waiters` is
 * the table of slots, `count` the number of commands, `values` and `places` those of the results
 * behind it. The results are a list: with errors among them they may be more than were expected. */
static void push_failed(lua_State *L, const redio_chain *chain) {
  lua_pushlightuserdata(L, (void *)&failed_token);
  lua_replace(L, AT_TOKEN);
  if (lua_isnil(L, AT_ERRORS))
    lua_newtable(L);
  else
    lua_pushvalue(L, AT_ERRORS);
  lua_pushvalue(L, AT_SLOTS);
  lua_setfield(L, -2, "waiters");
  set_count(L, "count", chain->replies);
  set_count(L, "values", chain->values);
  set_count(L, "places", chain->places);
}

/* Makes room on the waiter's stack for the values on this one. */
static void make_room(lua_State *L) {
  int n = lua_gettop(L) - AT_WAITER;
  lua_State *co = n > REDIO_ROOM_IN_YIELD ? lua_tothread(L, AT_WAITER) : NULL;
  if (co && !lua_checkstack(co, n))
    luaL_error(L, "too many results: use replies()");
}

/* Pushes the results of a finished chain and pops it. Returns the number of values. */
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
    redio_get_cell(L, AT_SLOTS, slot, REDIO_CELL_RESULTS);
  else if (has_failed)
    push_list(L, c, chain, lua_gettop(L));
  else
    unspill(L, c, chain, AT_TOKEN);
  if (is_collected && !has_failed) {
    lua_pushinteger(L, chain->values);
    lua_pushinteger(L, chain->places);
  }
  make_room(L);
  /* Nothing may raise from here on: a chain that was popped must be reported. */
  redio_clear_cell(L, AT_SLOTS, slot, REDIO_CELL_WAITER);
  if (chain->values || chain->mode & REDIO_MODE_COLLECT)
    redio_clear_cell(L, AT_SLOTS, slot, REDIO_CELL_RESULTS);
  redio_connection_pop(c);
  return lua_gettop(L) - AT_WAITER + 1;
}

/* Pushes the first chain's commands in a pipeline for another try, or false when they are not
 * kept. */
static void push_recovered(lua_State *L, redio_connection *c) {
  redio_pipeline *p = redio_connection_keeps(c) ? redio_lend(L) : NULL;
  if (p && !redio_connection_recover(c, p))
    return;
  if (p)
    lua_pop(L, 1);
  lua_pushboolean(L, 0);
}

/* Pushes the next chain of a lost connection and pops it: waiter, LOST, true when it may have
 * been sent, its commands. Dropped chains are skipped. Returns the number of values, 0 without a
 * chain. */
static int next_lost(lua_State *L, redio_connection *c) {
  while (c->first != REDIO_NO_CHAIN && c->chains[c->first].dropped)
    redio_connection_pop(c);
  if (c->first == REDIO_NO_CHAIN)
    return 0;
  lua_settop(L, AT_SLOTS);
  redio_get_cell(L, AT_SLOTS, c->first, REDIO_CELL_WAITER);
  lua_pushlightuserdata(L, (void *)&lost_token);
  lua_pushboolean(L, redio_connection_was_sent(c, c->first));
  push_recovered(L, c);
  redio_clear_cell(L, AT_SLOTS, c->first, REDIO_CELL_WAITER);
  redio_clear_cell(L, AT_SLOTS, c->first, REDIO_CELL_RESULTS);
  redio_connection_pop(c);
  return 4;
}

/* Replies -------------------------------------------------------------------------------------- */

static void start_builder(redio_builder *b, lua_State *L, const redio_connection *c) {
  memset(b, 0, sizeof *b);
  b->L = L;
  b->errors = AT_ERRORS;
  b->p = redio_buf_head(&c->decoder.in);
  if (c->has_null)
    b->null_holder = AT_SLOTS;
}

/* The fast path of take_reply: pushes a bulk string that needs no builder and returns 1, or returns
 * 0. */
static int take_bulk(lua_State *L, const redio_connection *c, const redio_chain *chain) {
  const redio_decoder *d = &c->decoder;
  const redio_expect *e = redio_connection_expected(c);
  if (chain->mode & (REDIO_MODE_TEXT | REDIO_MODE_COLLECT) ||
      redio_shapes[e->reply.shape]->kind > REDIO_SHAPE_NAME)
    return 0;
  lua_pushlstring(L, redio_buf_head(&d->in) + d->bulk, d->bulk_len);
  return 1;
}

/* Appends the result to the chain's own list, and its place to the list of places. */
static void collect_reply(redio_builder *b, const redio_connection *c, redio_chain *chain,
                          const redio_shape *shape) {
  lua_State *L = b->L;
  int base = lua_gettop(L), results = base + 2;
  redio_get_cell(L, AT_SLOTS, c->first, REDIO_CELL_RESULTS);
  lua_rawgeti(L, base + 1, 1);
  lua_rawgeti(L, base + 1, 2);
  b->places = base + 3;
  b->places_count = chain->places;
  if (redio_build(b, shape, chain->mode & REDIO_MODE_LIST)) {
    if (b->is_value && chain->mode & REDIO_MODE_PLACES) {
      lua_pushvalue(L, results);
      lua_rawseti(L, b->places, (int)++b->places_count);
      lua_pushinteger(L, (lua_Integer)chain->values + 1);
      lua_rawseti(L, b->places, (int)++b->places_count);
    }
    lua_rawseti(L, results, (int)++chain->values);
  }
  chain->places = b->places_count;
  lua_settop(L, base);
}

/* Builds the result of the reply at the decoder's head: on the stack, or in the chain's own
 * list. */
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
  if (chain->mode & REDIO_MODE_COLLECT)
    collect_reply(&b, c, chain, redio_shapes[e->reply.shape]);
  else
    redio_build(&b, redio_shapes[e->reply.shape], 0);
}

static void resume_chain(lua_State *L, const redio_connection *c, const redio_chain *chain) {
  lua_settop(L, AT_SLOTS);
  lua_pushnil(L);
  redio_get_cell(L, AT_SLOTS, c->first, REDIO_CELL_WAITER);
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

/* Returns 1 when +QUEUED answers a command outside of any MULTI of this end. A MULTI is open then
 * that this end does not know of, and the replies are not those of its commands. */
static int is_stray_queued(const redio_connection *c) {
  const char *p = redio_buf_head(&c->decoder.in);
  redio_token t;
  if ((*p == '+' && p[1] != 'Q') ||
      redio_shapes[redio_connection_expected(c)->reply.shape]->kind == REDIO_SHAPE_QUEUED)
    return 0;
  redio_token_next(p, &t);
  return t.len == 6 && !memcmp(t.s, "QUEUED", 6);
}

/* Takes replies for the first chain. Returns 1 when it is finished, 0 when bytes are missing or the
 * connection is broken, -1 when a message comes first. */
static int feed_chain(lua_State *L, redio_connection *c, redio_chain *chain) {
  int since = 0;
  resume_chain(L, c, chain);
  while (redio_decoder_next(&c->decoder) == REDIO_VALUE) {
    /* Each reply leaves one value, and building it takes some more. The first few have room. */
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

/* Messages ------------------------------------------------------------------------------------- */

/* Returns 1 when the reply at the decoder's head belongs to no chain. A reply that began to come
 * before a chain was written is not the chain's, although the chain is the next to get one. Else in
 * `-ERR a\r\n+X\r\n` the X would answer a chain that is sent upon the error, in one read or in
 * many. */
static int is_message(const redio_connection *c) {
  unsigned char type = c->decoder.first;
  return type == '>' || (c->receiver && type == '*') || c->first == REDIO_NO_CHAIN || c->unasked ||
         !redio_connection_was_sent(c, c->first);
}

/* Pushes nil and the reason: a message has more elements than a call may return. */
static int refuse_push(lua_State *L) {
  lua_settop(L, AT_SLOTS);
  lua_pushnil(L);
  lua_pushfstring(L, "protocol error: a push of more than %d elements", REDIO_MAX_RESULTS);
  return 2;
}

/* Pushes a reply that belongs to no chain: false, true and the elements of a message, or false,
 * false and any other reply. Returns the number of values. */
static int take_push(lua_State *L, redio_connection *c) {
  redio_builder b;
  redio_token t;
  unsigned long long left;
  size_t length;
  lua_settop(L, AT_SLOTS);
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
      redio_build(&b, REDIO_ANY_NAME, 1);
  } else {
    redio_build(&b, REDIO_ANY_NAME, 1);
  }
  length = redio_buf_len(&c->decoder.in);
  redio_decoder_consume(&c->decoder);
  length -= redio_buf_len(&c->decoder.in);
  c->unasked -= length < c->unasked ? length : c->unasked;
  return lua_gettop(L) - AT_WAITER + 1;
}

/* The next result ------------------------------------------------------------------------------ */

int redio_push_next(lua_State *L, redio_connection *c) {
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
  lua_settop(L, AT_ERRORS); /* without the waiter of an unfinished chain */
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

static void set_token(lua_State *L, const char *name, const char *token) {
  lua_pushlightuserdata(L, (void *)(size_t)token);
  lua_setfield(L, -2, name);
}

void redio_open_results(lua_State *L) {
  set_token(L, "DONE", &done_token);
  set_token(L, "FAILED", &failed_token);
  set_token(L, "LOST", &lost_token);
}
