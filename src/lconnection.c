/* SPDX-License-Identifier: MIT */
/* Specs: unit/connection_core, promises/05, promises/24 */
#include "lconnection.h"

#include "ldecoder.h"
#include "loutput.h"
#include "lresult.h"
#include "lslot.h"

const char redio_connection_tag;

static redio_connection *check_connection(lua_State *L, int i) {
  return redio_check(L, i, &redio_connection_tag, sizeof(redio_connection), "redio.connection");
}

/* connection(receiver?, limits?) -> a connection without socket
 * For a receiver arrays that belong to no chain are messages. Limits as for decoder. */
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

static int lconnection_gc(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  redio_drop_output(L, c);
  redio_connection_free(c);
  return 0;
}

/* State ---------------------------------------------------------------------------------------- */

/* connection:event(name) -> the new state | nil: the state has no such step, and stays
 *
 *   connect       closed -> connecting
 *   connected     connecting -> handshake
 *   established   handshake -> ready
 *   drain         ready, draining -> draining: chains in flight finish, new ones are refused
 *   lose          any state -> lost: `next` returns the chains that have not finished */
static int lconnection_event(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  int event = luaL_checkoption(L, 2, NULL, redio_event_names);
  if (redio_connection_event(c, (redio_event)event))
    lua_pushnil(L);
  else
    lua_pushstring(L, redio_state_names[c->state]);
  return 1;
}

/* connection:state() -> "closed", "connecting", "handshake", "ready", "draining" or "lost" */
static int lconnection_state(lua_State *L) {
  lua_pushstring(L, redio_state_names[check_connection(L, 1)->state]);
  return 1;
}

/* connection:waiting() -> the number of chains in flight, bytes not yet taken by output() */
static int lconnection_waiting(lua_State *L) {
  const redio_connection *c = check_connection(L, 1);
  lua_pushinteger(L, c->waiting);
  lua_pushinteger(L, (lua_Integer)redio_connection_queued(c));
  return 2;
}

/* connection:is_clean() -> true when no chain is in flight, no output waits, and no byte is
 * unread */
static int lconnection_is_clean(lua_State *L) {
  const redio_connection *c = check_connection(L, 1);
  lua_pushboolean(L, !c->waiting && !redio_connection_queued(c) && !redio_buf_len(&c->decoder.in));
  return 1;
}

/* connection:rest() -> true when no chain is in flight
 * Then it frees the memory that only much traffic needs. */
static int lconnection_rest(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  if (!c->waiting)
    redio_connection_rest(c);
  lua_pushboolean(L, !c->waiting);
  return 1;
}

/* connection:limit(bytes): submit refuses chains ("full") while so many wait for output() */
static int lconnection_limit(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  lua_Number n = luaL_checknumber(L, 2);
  c->max_out = n >= 1 && n < 1e18 ? (size_t)n : 0;
  return 0;
}

/* connection:choke(on): submit refuses chains ("full"), however few bytes wait */
static int lconnection_choke(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  c->choked = (unsigned char)lua_toboolean(L, 2);
  return 0;
}

/* connection:null(): from now on slots.null stands for null */
static int lconnection_null(lua_State *L) {
  check_connection(L, 1)->has_null = 1;
  return 0;
}

/* Chains --------------------------------------------------------------------------------------- */

const char *redio_refuses_chain(lua_State *L, const redio_connection *c, const redio_pipeline *p,
                                int mode) {
  redio_state state = mode & REDIO_MODE_HANDSHAKE ? REDIO_HANDSHAKE : REDIO_READY;
  if (c->state != state)
    return c->state == REDIO_DRAINING ? "draining" : "state";
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

uint32_t redio_submit(lua_State *L, redio_stock *stock, redio_connection *c, redio_pipeline *p,
                      int mode, int slots) {
  uint32_t slot = redio_connection_next_slot(c);
  int is_own = mode & REDIO_MODE_OWN;
  if (p->closed_pieces)
    redio_copy_refs(L, c, p);
  if (p->replies) {
    lua_pushthread(L);
    redio_set_cell(L, slots, slot, REDIO_CELL_WAITER);
    if (mode & REDIO_MODE_COLLECT)
      redio_set_cell(L, slots, slot, REDIO_CELL_RESULTS);
  }
  if (!is_own)
    redio_restock(L, stock, p);
  slot = redio_connection_submit(c, p, (unsigned char)mode, !is_own);
  if (!is_own)
    redio_blank(L, p);
  return slot;
}

static int refuse(lua_State *L, const char *why) {
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* connection:submit(pipeline, slots, mode, collected?, waiter?) -> slot, first | nil, why
 *
 * Submits the pipeline's commands as a chain. Its waiter is the running coroutine, or `waiter`.
 * With COLLECT the results go into `collected`, {results, places}. Unless the mode has OWN, the
 * connection can give the commands back when it is lost, and the pipeline goes to the stock.
 *
 * The slot is false when no reply will come. `first`: no other output was waiting. why:
 *   state     not ready, or not in the handshake when the mode has HANDSHAKE
 *   draining  no new chains are taken
 *   private   the commands need a connection of their own
 *   yield     the running coroutine cannot wait here
 *   results   more values than a call may return
 *   full      too many bytes wait to be written
 *   memory    out of memory */
static int lconnection_submit(lua_State *L) {
  enum { AT_PIPELINE = 2, AT_SLOTS, AT_MODE, AT_COLLECTED, AT_WAITER };
  redio_connection *c = check_connection(L, 1);
  redio_pipeline *p = redio_check_pipeline(L, AT_PIPELINE);
  int mode = (int)lua_tointeger(L, AT_MODE), first = !redio_connection_unsent(c);
  const char *refusal = redio_refuses_chain(L, c, p, mode);
  uint32_t slot;
  if (!refusal && redio_connection_reserve(c, p))
    refusal = "memory";
  if (refusal)
    return refuse(L, refusal);
  lua_settop(L, AT_WAITER);
  if (!(mode & REDIO_MODE_OWN))
    lua_pushvalue(L, AT_PIPELINE);
  if (mode & REDIO_MODE_COLLECT && p->replies)
    lua_pushvalue(L, AT_COLLECTED);
  slot = redio_submit(L, redio_stock_of(L), c, p, mode, AT_SLOTS);
  if (slot != REDIO_NO_CHAIN && !lua_isnil(L, AT_WAITER)) {
    lua_pushvalue(L, AT_WAITER); /* replaces the coroutine: this needs no memory */
    redio_set_cell(L, AT_SLOTS, slot, REDIO_CELL_WAITER);
  }
  if (slot == REDIO_NO_CHAIN)
    lua_pushboolean(L, 0);
  else
    lua_pushinteger(L, slot);
  lua_pushboolean(L, first);
  return 2;
}

/* connection:find(slots, waiter) -> slot, was_sent | nothing: it waits for no chain
 * Finds the chain for which the coroutine waits. */
static int lconnection_find(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  uint32_t slot;
  lua_settop(L, 3);
  slot = redio_find_slot(L, c, 2, 3);
  if (slot == REDIO_NO_CHAIN)
    return 0;
  lua_pushinteger(L, slot);
  lua_pushboolean(L, redio_connection_was_sent(c, slot));
  return 2;
}

/* connection:drop(slots, slot): drops the chain. An unsent one is never sent, and the replies to a
 * sent one are ignored. */
static int lconnection_drop(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  uint32_t slot = (uint32_t)luaL_checkinteger(L, 3);
  redio_clear_cell(L, 2, slot, REDIO_CELL_WAITER);
  redio_clear_cell(L, 2, slot, REDIO_CELL_RESULTS);
  redio_connection_drop(c, slot);
  return 0;
}

/* Bytes ---------------------------------------------------------------------------------------- */

/* connection:output() -> bytes, size, waiting | nothing: there are none
 * Takes the bytes to write, a string or a list of strings. `waiting`: chains that wait for
 * replies. */
static int lconnection_output(lua_State *L) { return redio_push_output(L, check_connection(L, 1)); }

/* connection:feed(bytes) -> true, or false when memory is out */
static int lconnection_feed(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_pushboolean(L, !redio_decoder_feed(&c->decoder, s, len));
  return 1;
}

/* connection:next(slots) -> the next result of the bytes so far, or the next chain of a lost
 * connection:
 *   waiter, DONE, results...           the chain is finished
 *   waiter, DONE, collected, n, n      with COLLECT: its table, the lengths of results and places
 *   waiter, FAILED, errors, results    with error replies: see push_failed
 *   waiter, LOST, was_sent, pipeline   not finished; false for a pipeline that is not kept
 *   false, true, kind, ...             a push; for a receiver also an array of no chain
 *   false, false, value                any other reply of no chain
 *   nothing                            bytes are missing
 *   nil, text                          the stream is dead */
static int lconnection_next(lua_State *L) { return redio_push_next(L, check_connection(L, 1)); }

/* connection:wake(slots) -> as next, but resumes the waiters of finished chains itself
 * until there is another result:
 *   waiter, error                      the coroutine has ended by an error
 *   true                               the coroutine cannot be resumed: its results are dropped
 *
 * The only function of the binding that runs Lua. */
static int lconnection_wake(lua_State *L) {
  redio_connection *c = check_connection(L, 1);
  for (;;) {
    int n = redio_push_next(L, c), results;
    lua_State *co = n ? lua_tothread(L, REDIO_AT_WAITER) : NULL;
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

/* The class ------------------------------------------------------------------------------------ */

static const luaL_Reg methods[] = {
    {"output", lconnection_output}, {"feed", lconnection_feed},
    {"drop", lconnection_drop},     {"find", lconnection_find},
    {"event", lconnection_event},   {"state", lconnection_state},
    {"null", lconnection_null},     {"limit", lconnection_limit},
    {"choke", lconnection_choke},   {"waiting", lconnection_waiting},
    {"rest", lconnection_rest},     {"is_clean", lconnection_is_clean},
    {"__gc", lconnection_gc},       {NULL, NULL}};

/* Methods that lend pipelines or put them back. */
static const luaL_Reg recycling[] = {{"submit", lconnection_submit},
                                     {"next", lconnection_next},
                                     {"wake", lconnection_wake},
                                     {NULL, NULL}};

static const luaL_Reg functions[] = {{"connection", lconnection}, {NULL, NULL}};

static const redio_number modes[] = {{"TEXT", REDIO_MODE_TEXT},
                                     {"PLACES", REDIO_MODE_PLACES},
                                     {"COLLECT", REDIO_MODE_COLLECT},
                                     {"LIST", REDIO_MODE_LIST},
                                     {"OWN", REDIO_MODE_OWN},
                                     {"HANDSHAKE", REDIO_MODE_HANDSHAKE},
                                     {NULL, 0}};

void redio_open_connection(lua_State *L) {
  redio_new_class(L, "redio.connection", methods);
  luaL_getmetatable(L, "redio.connection");
  redio_set_recycling(L, recycling);
  lua_pop(L, 1);
  redio_set_functions(L, functions);
  redio_set_numbers(L, modes);
  redio_open_slots(L);
  redio_open_results(L);
}
