/* SPDX-License-Identifier: MIT */
/* The results of chains: values built of the replies that have come, and the errors among them. */
#ifndef REDIO_LRESULT_H
#define REDIO_LRESULT_H

#include "lslot.h"

/* The stack of redio_push_next: its argument, and the waiter of a finished chain. */
enum { REDIO_AT_SLOTS = 2, REDIO_AT_WAITER = 4 };

/* Pushes the next result of the bytes so far, see lconnection_next, and returns the number of its
 * values. The coroutine of a finished chain, and of nothing else, is the value at REDIO_AT_WAITER.
 * For functions with the stock's upvalues (lstock.h). */
int redio_push_next(lua_State *L, redio_connection *c);

/* Puts the tokens into the table on top of the stack. */
void redio_open_results(lua_State *L);

#endif
