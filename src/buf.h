/* SPDX-License-Identifier: MIT */
/* A byte FIFO: bytes are appended at the end and consumed from the head. One allocation. */
#ifndef REDIO_BUF_H
#define REDIO_BUF_H

#include <stddef.h>

typedef struct redio_buf {
  char *data;
  size_t head; /* first byte not yet consumed */
  size_t tail; /* one past the last byte */
  size_t cap;
} redio_buf;

/* An empty buffer owns no memory; zeroed memory is an empty buffer. */
#define REDIO_BUF_INIT                                                                             \
  { NULL, 0, 0, 0 }

static inline size_t redio_buf_len(const redio_buf *b) { return b->tail - b->head; }
/* NULL, to which nothing may be added, while it owns no memory. */
static inline char *redio_buf_head(const redio_buf *b) {
  return b->data ? b->data + b->head : NULL;
}

/* Room for n more bytes at the tail, or NULL when memory is out (the buffer is then as it was).
 * The caller writes there and adds what it wrote to `tail`. */
char *redio_buf_reserve(redio_buf *b, size_t n);

/* 0, or -1 when memory is out (nothing appended). */
int redio_buf_append(redio_buf *b, const void *bytes, size_t n);

/* Drops n bytes from the head. An emptied buffer starts again at its front, and one that had grown
 * large gives its memory back. */
void redio_buf_consume(redio_buf *b, size_t n);

void redio_buf_free(redio_buf *b);

#endif
