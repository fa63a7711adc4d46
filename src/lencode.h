/* SPDX-License-Identifier: MIT */
/* Lua values to commands of a pipeline. */
#ifndef REDIO_LENCODE_H
#define REDIO_LENCODE_H

#include "compat.h"
#include "pipeline.h"

/* Queues the command with the arguments from index `first` to `top`. Returns 0; -1 when memory is
 * out; or the index of the first argument that is neither a string nor a number. Then nothing is
 * queued. */
int redio_queue(lua_State *L, redio_pipeline *p, const redio_command *c, int first, int top);

/* Queues the command with the arguments from index `first` on. Pushes true; false when an argument
 * has to be converted in Lua (a table or a boolean); or false and a message when the command cannot
 * be queued. Returns the number of values. */
int redio_encode(lua_State *L, redio_pipeline *p, const redio_command *c, int first);

/* Does the same with the arguments 1 to `count` of the list at index `list`, which may be more than
 * a stack holds. They must be strings and numbers: false when one is not. */
int redio_encode_list(lua_State *L, redio_pipeline *p, const redio_command *c, int list, int count);

/* Removes the pieces from index `from` on and releases their refs. */
void redio_unref_pieces(lua_State *L, redio_pieces *pieces, size_t from);

#endif
