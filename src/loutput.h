/* SPDX-License-Identifier: MIT */
/* A connection's output as Lua strings, and the refs of its pieces. */
#ifndef REDIO_LOUTPUT_H
#define REDIO_LOUTPUT_H

#include "compat.h"
#include "connection.h"

/* Makes refs of their own for the pieces of the pipeline, which submit is about to copy. */
void redio_copy_refs(lua_State *L, redio_connection *c, const redio_pipeline *p);

/* Pushes the output and marks it as sent: a string, or a list of strings when there are pieces;
 * then its size, and the number of chains that wait for replies. Returns the number of values, 0
 * without output. */
int redio_push_output(lua_State *L, redio_connection *c);

/* Releases the refs of all pieces. */
void redio_drop_output(lua_State *L, redio_connection *c);

#endif
