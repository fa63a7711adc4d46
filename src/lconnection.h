/* SPDX-License-Identifier: MIT */
/* The userdata connection. */
#ifndef REDIO_LCONNECTION_H
#define REDIO_LCONNECTION_H

#include "connection.h"
#include "lstock.h"

extern const char redio_connection_tag;

/* Returns the reason why the connection does not take the pipeline from the running coroutine, one
 * word; NULL when it does. */
const char *redio_refuses_chain(lua_State *L, const redio_connection *c, const redio_pipeline *p,
                                int mode);

/* Submits a chain for which room is reserved, and returns its slot. The running coroutine is its
 * waiter. Pops the pipeline, which goes back to the stock, unless the mode has OWN; and before it,
 * with COLLECT and a reply to come, the table of its results. May raise when memory is out, and has
 * submitted nothing then. For functions with the stock's upvalues (lstock.h). */
uint32_t redio_submit(lua_State *L, redio_stock *stock, redio_connection *c, redio_pipeline *p,
                      int mode, int slots);

/* Makes the class, and puts functions and constants into the table on top of the stack. To be
 * called after redio_open_stock. */
void redio_open_connection(lua_State *L);

#endif
