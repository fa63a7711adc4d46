/* SPDX-License-Identifier: MIT */
/* The usual command on its usual way: what is done for every one of them, in as few steps as it
 * takes. Whatever is not usual is left to Lua, which starts again from the beginning.
 *
 * To C a handle is a table {client, its queue, true when something is set}, and a client
 * {connection that is ready or false, its waiters}. The queue is a pipeline; nil or false while
 * nothing is queued; or BUSY while a coroutine waits for what was. */
#include "lbind.h"
#include "lvalue.h"

enum { HANDLE_CLIENT = 1, HANDLE_PIPELINE = 2, HANDLE_IS_SET = 3 };
enum { CLIENT_CONNECTION = 1, CLIENT_WAITERS = 2 };

/* ---- the stock of pipelines ---- */

#define MOST_IN_STOCK 1024

/* Upvalues of every function that lends or takes back. The count is not in the list, where each
 * change of it would be two calls. */
enum { AT_STOCK = 1, AT_LIST = 2, AT_OWN = 3 };

struct redio_stock {
  int count;
  int cancelling;                           /* tasks that are to be cancelled when they next wait */
  redio_pipeline *pipelines[MOST_IN_STOCK]; /* what is in the list */
};

redio_stock *redio_stock_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(AT_STOCK)); }

redio_pipeline *redio_lend(lua_State *L) {
  redio_stock *stock = redio_stock_of(L);
  if (!stock->count)
    return redio_new_pipeline(L);
  lua_rawgeti(L, lua_upvalueindex(AT_LIST), stock->count);
  lua_pushnil(L);
  lua_rawseti(L, lua_upvalueindex(AT_LIST), stock->count--);
  return stock->pipelines[stock->count];
}

void redio_restock(lua_State *L, redio_stock *stock, redio_pipeline *p) {
  if (stock->count < MOST_IN_STOCK) {
    lua_rawseti(L, lua_upvalueindex(AT_LIST), stock->count + 1);
    stock->pipelines[stock->count++] = p;
  } else {
    lua_pop(L, 1);
  }
}

void redio_blank(lua_State *L, redio_pipeline *p) {
  if (p->pieces.count)
    redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_reset(p);
}

/* lend() -> a pipeline */
static int llend(lua_State *L) {
  redio_lend(L);
  return 1;
}

/* recycle(pipeline): for the next one who borrows; what it held is forgotten */
static int lrecycle(lua_State *L) {
  redio_pipeline *p = check_pipeline(L, 1);
  lua_settop(L, 1);
  redio_restock(L, redio_stock_of(L), p);
  redio_blank(L, p);
  return 0;
}

/* cancelling(n): so many more tasks are to be cancelled when they next wait; until that is none
 * again, send leaves every await to Lua */
static int lcancelling(lua_State *L) {
  redio_stock_of(L)->cancelling += (int)luaL_checkinteger(L, 1);
  return 0;
}

/* ---- handle, queue, send ---- */

/* BUSY. Starts with an address, as whatever redio_own looks at does. */
static const void *const busy = &busy;

static void push_busy(lua_State *L) { lua_pushlightuserdata(L, (void *)(size_t)&busy); }

/* What handles(metatable) makes: new(client) -> a handle */
static int lnew_handle(lua_State *L) {
  lua_createtable(L, HANDLE_PIPELINE, 0); /* the third is rare */
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, HANDLE_CLIENT);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  return 1;
}

/* handles(metatable) -> a function that makes them */
static int lhandles(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushcclosure(L, lnew_handle, 1);
  return 1;
}

/* The handle's pipeline, on top; one is lent to it when it has none. NULL when something is set, or
 * when another coroutine waits for what was queued. */
static redio_pipeline *pipeline_of_handle(lua_State *L) {
  const void *const *queue;
  redio_pipeline *p;
  lua_rawgeti(L, 1, HANDLE_PIPELINE);
  queue = lua_touserdata(L, -1);
  if (queue)
    return *queue == &redio_pipeline_tag ? (redio_pipeline *)(size_t)queue : NULL;
  lua_rawgeti(L, 1, HANDLE_IS_SET);
  if (lua_toboolean(L, -1))
    return NULL;
  p = redio_lend(L);
  lua_rawseti(L, 1, HANDLE_PIPELINE);
  return p;
}

/* What queuer() makes: queue(handle, ...) -> handle, or nothing when it takes Lua to queue it or to
 * say what is wrong */
static int lqueue(lua_State *L) {
  int top = lua_gettop(L);
  const redio_command *c = lua_touserdata(L, lua_upvalueindex(AT_OWN));
  redio_pipeline *p;
  if (lua_type(L, 1) != LUA_TTABLE)
    luaL_checktype(L, 1, LUA_TTABLE);
  p = pipeline_of_handle(L);
  if (!p || !redio_pipeline_claim(p, L) || redio_queue(L, p, c, 2, top))
    return 0;
  lua_pushvalue(L, 1);
  return 1;
}

enum { SINGLE = 1, FIRST = 2, MUCH = 4 };

/* From so many bytes on it is worth a system call to have the server begin: it works on them while
 * this end goes on to answer those who wait, or to queue more. */
enum { MUCH_BYTES = 8192 };

/* send(handle) -> how | nothing, when it takes Lua
 * The usual await, all but the waiting. How: SINGLE when exactly one value will come, plus FIRST
 * when nothing else was waiting for output(), plus MUCH when so much is that it should be written
 * now. */
static int lsend(lua_State *L) {
  redio_connection *c;
  redio_pipeline *p;
  redio_stock *stock = redio_stock_of(L);
  int how;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_rawgeti(L, 1, HANDLE_IS_SET);
  lua_rawgeti(L, 1, HANDLE_PIPELINE);
  p = redio_own(L, 3, &redio_pipeline_tag);
  if (!p || p->owner != L || lua_toboolean(L, 2) || stock->cancelling)
    return 0;
  lua_rawgeti(L, 1, HANDLE_CLIENT);
  lua_rawgeti(L, 4, CLIENT_CONNECTION);
  c = redio_own(L, 5, &redio_connection_tag);
  if (!c)
    return 0;
  lua_rawgeti(L, 4, CLIENT_WAITERS);
  if (!p->replies || redio_refuses_chain(L, c, p, 0) || redio_connection_reserve(c, p))
    return 0;
  how = (p->replies == 1 && p->values == 1 ? SINGLE : 0) + (redio_connection_unsent(c) ? 0 : FIRST);
  lua_pushvalue(L, 3);
  redio_submit(L, stock, c, p, 0, 6);
  push_busy(L);
  lua_rawseti(L, 1, HANDLE_PIPELINE);
  if (redio_connection_unsent(c) >= MUCH_BYTES)
    how += MUCH;
  lua_pushinteger(L, how);
  return 1;
}

/* queuer(command) -> a function that queues it */
static int lqueuer(lua_State *L) {
  check_command(L, 1);
  lua_pushvalue(L, lua_upvalueindex(AT_STOCK));
  lua_pushvalue(L, lua_upvalueindex(AT_LIST));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, lqueue, 3);
  return 1;
}

#define STOCK "redio.stock"

void redio_set_recycling(lua_State *L, const luaL_Reg *list) {
  for (; list->name; list++) {
    lua_getfield(L, LUA_REGISTRYINDEX, STOCK);
    lua_rawgeti(L, -1, AT_STOCK);
    lua_rawgeti(L, -2, AT_LIST);
    lua_pushcclosure(L, list->func, 2);
    lua_setfield(L, -3, list->name);
    lua_pop(L, 1);
  }
}

void redio_open_handle(lua_State *L) {
  static const luaL_Reg recycling[] = {{"lend", llend},     {"recycle", lrecycle},
                                       {"send", lsend},     {"cancelling", lcancelling},
                                       {"queuer", lqueuer}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"handles", lhandles}, {NULL, NULL}};
  redio_stock *stock;
  lua_newtable(L);
  stock = lua_newuserdatauv(L, sizeof *stock, 0);
  stock->count = stock->cancelling = 0;
  lua_rawseti(L, -2, AT_STOCK);
  lua_newtable(L);
  lua_rawseti(L, -2, AT_LIST);
  lua_setfield(L, LUA_REGISTRYINDEX, STOCK);
  redio_set_recycling(L, recycling);
  redio_set_functions(L, functions);
  lua_pushinteger(L, SINGLE);
  lua_setfield(L, -2, "SINGLE");
  lua_pushinteger(L, FIRST);
  lua_setfield(L, -2, "FIRST");
  lua_pushinteger(L, MUCH);
  lua_setfield(L, -2, "MUCH");
  push_busy(L);
  lua_setfield(L, -2, "BUSY");
}
