/* SPDX-License-Identifier: MIT */
/* The fast paths of a handle: queueing a command and sending a chain. */
#ifndef REDIO_LHANDLE_H
#define REDIO_LHANDLE_H

#include "compat.h"

/* Puts the functions into the table on top of the stack. To be called after redio_open_stock. */
void redio_open_handle(lua_State *L);

#endif
