/* SPDX-License-Identifier: MIT */
/* Shared by the fuzz targets. An input is a stream of choices, and past its end all are 0. */
#ifndef REDIO_FUZZ_H
#define REDIO_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

typedef struct choices {
  const uint8_t *at, *end;
} choices;

static inline unsigned pick(choices *c, unsigned below) {
  unsigned n = c->at < c->end ? *c->at++ : 0;
  return n % below;
}

static inline int is_over(const choices *c) { return c->at == c->end; }

#endif
