/* SPDX-License-Identifier: MIT */
/* Replies to Lua values. */
#ifndef REDIO_LVALUE_H
#define REDIO_LVALUE_H

#include "lscalar.h"

/* Pushes the reply at b->p in the form that the shape asks for, and returns 1; returns 0 when the
 * shape has no result for it. `inside`: the value goes into a table. May raise when memory is out;
 * the reply itself is never changed. */
int redio_build(redio_builder *b, const redio_shape *shape, int inside);

#endif
