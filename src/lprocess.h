/* SPDX-License-Identifier: MIT */
/* Signals, forks and limits of the system, for transports that live in a process. The core itself
 * uses none of it: it is here because Lua cannot do it. */
#ifndef REDIO_LPROCESS_H
#define REDIO_LPROCESS_H

#include "compat.h"

/* Puts the functions and the limit into the table on top of the stack. */
void redio_open_process(lua_State *L);

#endif
