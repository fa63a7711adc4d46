/* SPDX-License-Identifier: MIT */
/* A byte FIFO in one allocation: bytes are appended at the tail and consumed from the head. An
 * empty buffer owns no memory, and zeroed memory is an empty buffer. */
#ifndef REDIO_BUF_H
#define REDIO_BUF_H

#include <stddef.h>
#include <string.h>

typedef struct redio_buf {
  char *data;
  size_t head; /* first byte not yet consumed */
  size_t tail; /* one past the last byte */
  size_t cap;
  unsigned shrink_after; /* a large block is freed when it was little used more often than this in a
                            row; 0: each time that it is empty */
  unsigned small_uses;   /* how often in a row it was little used so far */
} redio_buf;

static inline size_t redio_buf_len(const redio_buf *b) { return b->tail - b->head; }
/* The first byte; NULL while the buffer owns no memory. */
static inline char *redio_buf_head(const redio_buf *b) {
  return b->data ? b->data + b->head : NULL;
}

/* redio_buf_reserve where the room has to be made first. */
char *redio_buf_make_room(redio_buf *b, size_t n);

/* Returns room for n more bytes at the tail, or NULL when memory is out (the buffer is unchanged).
 * The caller writes there and advances `tail`. */
static inline char *redio_buf_reserve(redio_buf *b, size_t n) {
  if (b->data && b->cap - b->tail >= n)
    return b->data + b->tail;
  return redio_buf_make_room(b, n);
}

/* Returns 0, or -1 when memory is out (nothing is appended). */
static inline int redio_buf_append(redio_buf *b, const void *bytes, size_t n) {
  char *room = n ? redio_buf_reserve(b, n) : NULL;
  if (!room)
    return n ? -1 : 0;
  memcpy(room, bytes, n);
  b->tail += n;
  return 0;
}

/* Starts again at the front of an emptied buffer. Frees a large block as `shrink_after` says. */
void redio_buf_emptied(redio_buf *b);

/* Drops n bytes at the head. */
static inline void redio_buf_consume(redio_buf *b, size_t n) {
  b->head += n;
  if (b->head >= b->tail)
    redio_buf_emptied(b);
}

/* Frees a large block when the buffer is empty. */
void redio_buf_trim(redio_buf *b);

void redio_buf_free(redio_buf *b);

#endif
