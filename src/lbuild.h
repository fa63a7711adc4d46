/* SPDX-License-Identifier: MIT */
/* Shared by the files that build Lua values, lvalue.c and lmap.c. */
#ifndef REDIO_LBUILD_H
#define REDIO_LBUILD_H

#include "lvalue.h"
#include "token.h"

extern const redio_shape redio_any_value, redio_any_name;

/* Pushes the value that begins with the token t, which has been read: 1, or 0 when there is nothing
 * to push. */
int redio_build_token(redio_builder *b, const redio_token *t, const redio_shape *shape, int inside);

/* A map, or an array that the shape MAP or PAIRS is for: 1; 0 when no pairs are in it, and then
 * nothing is pushed. */
int redio_build_pairs(redio_builder *b, const redio_token *t, const redio_shape *shape);

/* Reads one element; 0 at the end of a streamed aggregate. */
int redio_next_element(redio_builder *b, const redio_token *t, unsigned long long *left,
                       redio_token *element);

/* list[i] = value on top; the value is a place when it is a string that modes apply to. */
void redio_set_item(redio_builder *b, int list, int i);

/* With REDIO_MODE_PLACES: the value on top is to stand in the container by the key below it. */
void redio_note_place(redio_builder *b, int container);

/* How large a table is made in advance. */
static inline int redio_small(unsigned long long n) { return n < 0x1000000 ? (int)n : 0x1000000; }

/* The bytes of the bulk string at p, and where they end; NULL when something else is there. */
static inline const char *redio_bulk_at(const char *p, size_t *len) {
  if (*p != '$' || p[1] < '0' || p[1] > '9')
    return NULL;
  for (*len = 0, p++; *p != '\r'; p++)
    *len = *len * 10 + (size_t)(*p - '0');
  return p + 2;
}

#endif
