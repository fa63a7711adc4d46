/* SPDX-License-Identifier: MIT */
/* What the files of the binding share. */
#ifndef REDIO_LBIND_H
#define REDIO_LBIND_H

#include "command.h"
#include "compat.h"
#include "connection.h"

/* Each userdata starts with the address of its tag, so that it is told from any other at the price
 * of two loads. */
extern const char redio_command_tag, redio_pipeline_tag, redio_connection_tag, redio_decoder_tag;

/* The userdata at index i; raises when it is not that kind. */
void *redio_check(lua_State *L, int i, const void *tag, size_t size, const char *what);

/* The same for what only this binding has put there: NULL when it is something else. */
static inline void *redio_own(lua_State *L, int i, const void *tag) {
  const void *const *p = lua_touserdata(L, i);
  return p && *p == tag ? (void *)(size_t)p : NULL;
}

#define check_command(L, i)                                                                        \
  ((redio_command *)redio_check(L, i, &redio_command_tag, sizeof(redio_command), "redio.command"))
#define check_pipeline(L, i)                                                                       \
  ((redio_pipeline *)redio_check(L, i, &redio_pipeline_tag, sizeof(redio_pipeline),                \
                                 "redio.pipeline"))

/* The decoder's limits from the table at that index; the defaults where it says nothing. */
redio_limits redio_read_limits(lua_State *L, int table);

void redio_set_functions(lua_State *L, const luaL_Reg *list);
/* A metatable that is its own __index. */
void redio_new_class(lua_State *L, const char *name, const luaL_Reg *methods);

/* Pushes an empty pipeline. */
redio_pipeline *redio_new_pipeline(lua_State *L);

/* Pipelines that nobody uses just now are kept in a stock, so that a handle made for one command
 * costs one small table. Puts functions that lend or take back into the table on top of the stack.
 */
void redio_set_recycling(lua_State *L, const luaL_Reg *list);
/* These are for such functions alone. Lends one: pushes it. */
redio_pipeline *redio_lend(lua_State *L);
typedef struct redio_stock redio_stock;
redio_stock *redio_stock_of(lua_State *L);
/* Takes back the pipeline on top of the stack, and pops it; before the next one borrows it, it is
 * to be blank. May raise when memory is out. */
void redio_restock(lua_State *L, redio_stock *stock, redio_pipeline *p);
void redio_blank(lua_State *L, redio_pipeline *p);

/* Why the connection does not take that pipeline from here, a word; NULL when it does. */
const char *redio_refuses_chain(lua_State *L, const redio_connection *c, const redio_pipeline *p,
                                int mode);
/* The chain is the connection's, which has reserved room for it; its waiter is the running
 * coroutine. On the stack, and popped: the pipeline, which is given back (without OWN), what
 * collects its results (with COLLECT, where some are to come). All that may raise when memory is
 * out comes first: nothing has happened then. */
uint32_t redio_submit(lua_State *L, redio_stock *stock, redio_connection *c, redio_pipeline *p,
                      int mode, int waiters);

#define check_connection(L, i)                                                                     \
  ((redio_connection *)redio_check(L, i, &redio_connection_tag, sizeof(redio_connection),          \
                                   "redio.connection"))

/* Each makes its metatable and puts its functions into the table on top of the stack. */
void redio_open_pipeline(lua_State *L);
void redio_open_connection(lua_State *L);
void redio_open_handle(lua_State *L);
void redio_open_decoder(lua_State *L);
void redio_open_process(lua_State *L);

#endif
