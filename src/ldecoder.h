/* SPDX-License-Identifier: MIT */
/* The userdata decoder, and limits given as a table. */
#ifndef REDIO_LDECODER_H
#define REDIO_LDECODER_H

#include "compat.h"
#include "decoder.h"

/* Returns the limits in the table at index `table`, which may be nil; the defaults for the
 * others. */
redio_limits redio_read_limits(lua_State *L, int table);

/* Makes the class, and puts the function into the table on top of the stack. */
void redio_open_decoder(lua_State *L);

#endif
