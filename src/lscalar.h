/* SPDX-License-Identifier: MIT */
/* Replies to Lua values: strings, numbers, null, errors. Aggregates of them are built in
 * lvalue.c. */
#ifndef REDIO_LSCALAR_H
#define REDIO_LSCALAR_H

#include "compat.h"
#include "mode.h"
#include "pipeline.h"
#include "token.h"

#define REDIO_ERROR "redio.error" /* registry field: the metatable of error replies */

typedef struct redio_builder {
  lua_State *L;
  const char *p;             /* next token */
  const redio_expect *inner; /* the expected replies in EXEC's array */
  uint32_t inner_count;
  uint32_t index;         /* place of the command in its chain, from 1; 0: errors name no command */
  uint16_t id;            /* of the command */
  unsigned char mode;     /* REDIO_MODE_TEXT and REDIO_MODE_PLACES count */
  unsigned char is_value; /* the string just pushed is a value, to which modes apply */
  int errors; /* stack index of the list of errors, nil while there are none; 0: no list */
  int places; /* stack index of the list of places, with REDIO_MODE_PLACES */
  uint32_t places_count; /* its length */
  int null_holder;       /* stack index of the table with a field `null` for null; 0: none */
} redio_builder;

/* Pushes bytes as text: see strdecode in lcore.c. */
void redio_push_text(lua_State *L, const char *s, size_t len);

/* Pushes the value of the token t, which must not be an aggregate's, and returns 1; returns 0 when
 * the shape has no result for it. `inside`: the value goes into a table. */
int redio_build_scalar(redio_builder *b, const redio_token *t, const redio_shape *shape,
                       int inside);

#endif
