/* SPDX-License-Identifier: MIT */
/* A byte FIFO: bytes are appended at the end and consumed from the head. One allocation. */
#ifndef REDIO_BUF_H
#define REDIO_BUF_H

#include <stddef.h>
#include <string.h>

typedef struct redio_buf {
  char *data;
  size_t head; /* first byte not yet consumed */
  size_t tail; /* one past the last byte */
  size_t cap;
  unsigned patience; /* how often a large one may be emptied with little in it and is kept */
  unsigned small;    /* how often that was the case, one after the other */
} redio_buf;

/* An empty buffer owns no memory; zeroed memory is an empty buffer. */
#define REDIO_BUF_INIT                                                                             \
  { NULL, 0, 0, 0, 0, 0 }

static inline size_t redio_buf_len(const redio_buf *b) { return b->tail - b->head; }
/* NULL, to which nothing may be added, while it owns no memory. */
static inline char *redio_buf_head(const redio_buf *b) {
  return b->data ? b->data + b->head : NULL;
}

/* redio_buf_reserve, where there is no room yet. */
char *redio_buf_make_room(redio_buf *b, size_t n);

/* Room for n more bytes at the tail, or NULL when memory is out (the buffer is then as it was).
 * The caller writes there and adds what it wrote to `tail`. */
static inline char *redio_buf_reserve(redio_buf *b, size_t n) {
  if (b->data && b->cap - b->tail >= n)
    return b->data + b->tail;
  return redio_buf_make_room(b, n);
}

/* 0, or -1 when memory is out (nothing appended). */
static inline int redio_buf_append(redio_buf *b, const void *bytes, size_t n) {
  char *room = n ? redio_buf_reserve(b, n) : NULL;
  if (!room)
    return n ? -1 : 0;
  memcpy(room, bytes, n);
  b->tail += n;
  return 0;
}

/* An emptied buffer starts again at its front, and one that had grown large gives its memory back:
 * at once, or, with patience, when it was not needed for a while. */
void redio_buf_emptied(redio_buf *b);

/* Drops n bytes from the head. */
static inline void redio_buf_consume(redio_buf *b, size_t n) {
  b->head += n;
  if (b->head >= b->tail)
    redio_buf_emptied(b);
}

/* Gives the memory of a large buffer back, when it is empty. */
void redio_buf_trim(redio_buf *b);

void redio_buf_free(redio_buf *b);

#endif
