/* SPDX-License-Identifier: MIT */
/* Specs: client/fast_paths, client/handle, promises/28 */
/* A handle's methods and `await` call these first. Where one returns nothing, Lua takes the slow
 * path from the beginning.
 *
 * To C a handle is a table {client, queue, true when an option is set}, and a client is a table
 * {connection that is ready or false, its slots}. The queue is a pipeline; nil or false without
 * queued commands; or BUSY while a coroutine waits for their results. */
#include "lhandle.h"

#include "lconnection.h"
#include "lencode.h"

enum { HANDLE_CLIENT = 1, HANDLE_QUEUE, HANDLE_IS_SET };
enum { CLIENT_CONNECTION = 1, CLIENT_SLOTS };

/* BUSY, the light userdata &busy. It points at an address, as redio_own requires. */
static const void *const busy = &busy;

static void push_busy(lua_State *L) { lua_pushlightuserdata(L, (void *)(size_t)&busy); }

/* The function that handles() returns: new(client) -> a handle */
static int lnew_handle(lua_State *L) {
  lua_createtable(L, HANDLE_QUEUE, 0); /* options are rare */
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, HANDLE_CLIENT);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  return 1;
}

/* handles(metatable) -> a function that makes handles */
static int lhandles(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushcclosure(L, lnew_handle, 1);
  return 1;
}

/* Returns the handle's pipeline, which is pushed. A handle without one borrows one. NULL when an
 * option is set or a coroutine waits for the results. */
static redio_pipeline *pipeline_of_handle(lua_State *L) {
  const void *const *queue;
  redio_pipeline *p;
  lua_rawgeti(L, 1, HANDLE_QUEUE);
  queue = lua_touserdata(L, -1);
  if (queue)
    return *queue == &redio_pipeline_tag ? (redio_pipeline *)(size_t)queue : NULL;
  lua_rawgeti(L, 1, HANDLE_IS_SET);
  if (lua_toboolean(L, -1))
    return NULL;
  p = redio_lend(L);
  lua_rawseti(L, 1, HANDLE_QUEUE);
  return p;
}

/* The function that queuer() returns: queue(handle, ...) -> handle | nothing: an argument has to be
 * converted, or the command is refused */
static int lqueue(lua_State *L) {
  int top = lua_gettop(L);
  const redio_command *c = lua_touserdata(L, lua_upvalueindex(REDIO_UPVALUE_OWN));
  redio_pipeline *p;
  if (lua_type(L, 1) != LUA_TTABLE)
    luaL_checktype(L, 1, LUA_TTABLE);
  p = pipeline_of_handle(L);
  if (!p || !redio_pipeline_claim(p, L) || redio_queue(L, p, c, 2, top))
    return 0;
  lua_pushvalue(L, 1);
  return 1;
}

/* queuer(command) -> a function that queues the command */
static int lqueuer(lua_State *L) {
  redio_check_command(L, 1);
  lua_pushvalue(L, lua_upvalueindex(REDIO_UPVALUE_STOCK));
  lua_pushvalue(L, lua_upvalueindex(REDIO_UPVALUE_LIST));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, lqueue, REDIO_UPVALUE_OWN);
  return 1;
}

/* Results of send, which add up. */
enum {
  SINGLE = 1, /* exactly one value will come */
  FIRST = 2,  /* no other output was waiting */
  MUCH = 4    /* so much output waits that it should be written now */
};

/* From so many bytes on a system call is worth it: the server works on them while this end goes
 * on. */
enum { MUCH_BYTES = 8192 };

/* send(handle) -> SINGLE + FIRST + MUCH | nothing: the chain needs the slow path
 * Submits the queued commands to the client's connection. The caller has to yield for the
 * results. */
static int lsend(lua_State *L) {
  enum { AT_HANDLE = 1, AT_IS_SET, AT_QUEUE, AT_CLIENT, AT_CONNECTION, AT_SLOTS };
  redio_connection *c;
  redio_pipeline *p;
  redio_stock *stock = redio_stock_of(L);
  int how;
  luaL_checktype(L, AT_HANDLE, LUA_TTABLE);
  lua_settop(L, AT_HANDLE);
  lua_rawgeti(L, AT_HANDLE, HANDLE_IS_SET);
  lua_rawgeti(L, AT_HANDLE, HANDLE_QUEUE);
  p = redio_own(L, AT_QUEUE, &redio_pipeline_tag);
  if (!p || p->owner != L || lua_toboolean(L, AT_IS_SET) || stock->cancelling)
    return 0;
  lua_rawgeti(L, AT_HANDLE, HANDLE_CLIENT);
  lua_rawgeti(L, AT_CLIENT, CLIENT_CONNECTION);
  c = redio_own(L, AT_CONNECTION, &redio_connection_tag);
  if (!c)
    return 0;
  lua_rawgeti(L, AT_CLIENT, CLIENT_SLOTS);
  if (!p->replies || redio_refuses_chain(L, c, p, 0) || redio_connection_reserve(c, p))
    return 0;
  how = (p->replies == 1 && p->values == 1 ? SINGLE : 0) + (redio_connection_unsent(c) ? 0 : FIRST);
  lua_pushvalue(L, AT_QUEUE);
  redio_submit(L, stock, c, p, 0, AT_SLOTS);
  push_busy(L);
  lua_rawseti(L, AT_HANDLE, HANDLE_QUEUE);
  if (redio_connection_unsent(c) >= MUCH_BYTES)
    how += MUCH;
  lua_pushinteger(L, how);
  return 1;
}

/* cancelling(n): adds n to the number of tasks that are to be cancelled when they next wait. Unless
 * it is 0, send leaves every chain to the slow path. */
static int lcancelling(lua_State *L) {
  redio_stock_of(L)->cancelling += (int)luaL_checkinteger(L, 1);
  return 0;
}

void redio_open_handle(lua_State *L) {
  static const luaL_Reg recycling[] = {
      {"send", lsend}, {"cancelling", lcancelling}, {"queuer", lqueuer}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"handles", lhandles}, {NULL, NULL}};
  static const redio_number numbers[] = {
      {"SINGLE", SINGLE}, {"FIRST", FIRST}, {"MUCH", MUCH}, {NULL, 0}};
  redio_set_recycling(L, recycling);
  redio_set_functions(L, functions);
  redio_set_numbers(L, numbers);
  push_busy(L);
  lua_setfield(L, -2, "BUSY");
}
