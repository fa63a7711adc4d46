/* SPDX-License-Identifier: MIT */
/* Reply shapes: the form of a reply in Lua, the same for RESP2 and RESP3. */
#ifndef REDIO_SHAPE_H
#define REDIO_SHAPE_H

#include <stddef.h>

typedef enum redio_shape_kind {
  REDIO_SHAPE_VALUE,   /* as it is typed on the wire; its bulk strings, at any depth, are values */
  REDIO_SHAPE_NAME,    /* likewise, but its strings are names: keys, fields, ids, channels */
  REDIO_SHAPE_NOTHING, /* +OK and +PONG: no result at all */
  REDIO_SHAPE_TRUE,    /* +OK: true (SET NX) */
  REDIO_SHAPE_BOOLEAN, /* integer: false when it is 0, true otherwise */
  REDIO_SHAPE_DOUBLE,  /* bulk string that reads as a number: a float */
  REDIO_SHAPE_SECONDS, /* integer milliseconds: float seconds; negative ones stay integers */
  REDIO_SHAPE_LIST,    /* array or set: each element by of[0] */
  REDIO_SHAPE_TUPLE,   /* array: element i by of[i], those past the last by of[count - 1] */
  REDIO_SHAPE_CYCLE,   /* flat array that stays flat: elements by of[0] ... of[count - 1], again and
                          again */
  REDIO_SHAPE_PAIRS,   /* flat array a b a b, or array of [a b]: list of {a, b}; by of[0], of[1] */
  REDIO_SHAPE_MAP,    /* flat array, array of [key value], or map: table by key; values by `fields`,
                         else of[0] */
  REDIO_SHAPE_QUEUED, /* +QUEUED inside MULTI: no result at all */
  REDIO_SHAPE_EXEC    /* EXEC's array: elements by the shapes of the queued commands */
} redio_shape_kind;

typedef struct redio_shape redio_shape;

typedef struct redio_shape_field {
  const char *name; /* NULL ends the list */
  const redio_shape *shape;
} redio_shape_field;

struct redio_shape {
  const char *name; /* in command/table.lua; NULL for one that is only part of another */
  redio_shape_kind kind;
  unsigned count; /* entries of `of` */
  const redio_shape *const *of;
  const redio_shape_field *fields; /* MAP only, may be NULL */
};

/* Indices of the shapes that the core itself needs. */
enum { REDIO_SHAPE_INDEX_VALUE, REDIO_SHAPE_INDEX_QUEUED, REDIO_SHAPE_INDEX_NAME };

/* The named shapes, at most 255; NULL ends the list. An expected reply carries the index of its
 * shape. */
extern const redio_shape *const redio_shapes[];

#define REDIO_ANY_VALUE (redio_shapes[REDIO_SHAPE_INDEX_VALUE])
#define REDIO_ANY_NAME (redio_shapes[REDIO_SHAPE_INDEX_NAME])

/* Returns the index of the shape of that name, or -1. */
int redio_shape_find(const char *name);

#endif
