/* SPDX-License-Identifier: MIT */
/* Lua values to requests, and replies to Lua values. */
#ifndef REDIO_LVALUE_H
#define REDIO_LVALUE_H

#include "compat.h"
#include "decoder.h"
#include "pipeline.h"
#include "shape.h"

/* How a chain's results are wanted. */
enum {
  REDIO_MODE_TEXT = 1,    /* values as text: strdecode */
  REDIO_MODE_PLACES = 2,  /* note where values stand, for a decoder in Lua */
  REDIO_MODE_COLLECT = 4, /* results into the chain's own list rather than onto the stack */
  REDIO_MODE_LIST = 8,    /* that list is what the caller sees: null in it is false */
  REDIO_MODE_OWN = 16,    /* the connection belongs to the caller alone */
  REDIO_MODE_HANDSHAKE = 32
};

/* Registry fields. */
#define REDIO_ERROR "redio.error" /* metatable of error replies */
#define REDIO_NAMES "redio.names" /* command id -> name */

typedef struct redio_builder {
  lua_State *L;
  const char *p;             /* next token */
  const redio_expect *inner; /* shapes of EXEC's elements */
  uint32_t inner_count;
  uint32_t index; /* place of the command in its chain, from 1 */
  uint16_t id;
  unsigned char mode;
  unsigned char is_value; /* the string just pushed is a value */
  int errors;             /* stack index: nil, or the list of error objects made */
  int places;             /* stack index of the list of places, with REDIO_MODE_PLACES */
  uint32_t places_count;
  int null_holder; /* stack index of a table whose `null` stands for null, or 0 */
} redio_builder;

/* Pushes the reply at b->p as the shape says: one value and 1, or nothing and 0. `inside` when it
 * goes into a table. May raise when memory is out; the reply is then untouched. */
int redio_build(redio_builder *b, const redio_shape *shape, int inside);

/* Queues the command with the arguments from index `first` to `top`. 0; -1 when memory is out; or
 * the index of the first argument that is no plain one. Nothing is queued then. */
int redio_queue(lua_State *L, redio_pipeline *p, const redio_command *c, int first, int top);

/* encode(pipeline, command, ...): true when the command is queued; false when an argument needs
 * Lua's help (a table or a boolean); false and a message when it cannot be queued. Nothing is
 * queued then. */
int redio_encode(lua_State *L, redio_pipeline *p, const redio_command *c, int first);

/* encode_list(pipeline, command, list, count): the same for the arguments of a list, each a string
 * or a number; false when one is not. */
int redio_encode_list(lua_State *L, redio_pipeline *p, const redio_command *c, int list, int count);

/* Gives back the refs of pieces from index `from` on. */
void redio_unref_pieces(lua_State *L, redio_pieces *pieces, size_t from);

void redio_push_text(lua_State *L, const char *s, size_t len);

#endif
