/* SPDX-License-Identifier: MIT */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 512, KEEP = 64 << 10 };

/* A larger allocation with the live bytes at its front. What was consumed is not copied. */
static int grow(redio_buf *b, size_t n) {
  size_t len = redio_buf_len(b);
  size_t cap = b->cap < SMALLEST / 2 ? SMALLEST / 2 : b->cap;
  char *data;
  if (n > (size_t)-1 - len)
    return -1;
  cap = cap > (size_t)-1 / 2 ? (size_t)-1 : cap * 2;
  if (cap < len + n)
    cap = len + n;
  data = malloc(cap);
  if (!data)
    return -1;
  if (len > 0)
    memcpy(data, redio_buf_head(b), len);
  free(b->data);
  b->data = data;
  b->head = 0;
  b->tail = len;
  b->cap = cap;
  return 0;
}

char *redio_buf_reserve(redio_buf *b, size_t n) {
  size_t len = redio_buf_len(b);
  if (b->data && b->cap - b->tail >= n)
    return b->data + b->tail;
  /* Moving no more bytes than were consumed since the last move costs each byte O(1). */
  if (b->data && len <= b->head && b->cap - len >= n) {
    memmove(b->data, redio_buf_head(b), len);
    b->head = 0;
    b->tail = len;
  } else if (grow(b, n) != 0) {
    return NULL;
  }
  return b->data + b->tail;
}

int redio_buf_append(redio_buf *b, const void *bytes, size_t n) {
  char *room;
  if (n == 0)
    return 0;
  room = redio_buf_reserve(b, n);
  if (!room)
    return -1;
  memcpy(room, bytes, n);
  b->tail += n;
  return 0;
}

void redio_buf_consume(redio_buf *b, size_t n) {
  b->head += n;
  if (b->head < b->tail)
    return;
  b->head = b->tail = 0;
  if (b->cap > KEEP)
    redio_buf_free(b);
}

void redio_buf_free(redio_buf *b) {
  free(b->data);
  b->data = NULL;
  b->head = b->tail = b->cap = 0;
}
