/* SPDX-License-Identifier: MIT */
/* Specs: promises/13, promises/24, fuzz/pipeline */
#include "buf.h"

#include <stdlib.h>

enum { SMALLEST = 512, KEEP = 128 << 10 };

static char *allocate(redio_buf *b, size_t cap) {
  size_t len = redio_buf_len(b);
  char *data;
  if (!b->head) /* a large block may grow without being copied */
    return realloc(b->data, cap);
  data = malloc(cap);
  if (!data)
    return NULL;
  memcpy(data, b->data + b->head, len); /* consumed bytes are left behind */
  free(b->data);
  return data;
}

static int grow(redio_buf *b, size_t n) {
  size_t len = redio_buf_len(b);
  size_t cap = b->cap < SMALLEST / 2 ? SMALLEST / 2 : b->cap;
  char *data;
  if (n > (size_t)-1 - len)
    return -1;
  cap = cap > (size_t)-1 / 2 ? (size_t)-1 : cap * 2;
  if (cap < len + n)
    cap = len + n;
  data = allocate(b, cap);
  if (!data)
    return -1;
  b->data = data;
  b->head = 0;
  b->tail = len;
  b->cap = cap;
  return 0;
}

char *redio_buf_make_room(redio_buf *b, size_t n) {
  size_t len = redio_buf_len(b);
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

void redio_buf_emptied(redio_buf *b) {
  size_t used = b->tail;
  b->head = b->tail = 0;
  if (b->cap <= KEEP)
    return;
  b->small_uses = used > b->cap / 4 ? 0 : b->small_uses + 1;
  if (!b->shrink_after || b->small_uses > b->shrink_after)
    redio_buf_free(b);
}

void redio_buf_trim(redio_buf *b) {
  if (b->cap > KEEP && !redio_buf_len(b))
    redio_buf_free(b);
}

void redio_buf_free(redio_buf *b) {
  free(b->data);
  b->data = NULL;
  b->head = b->tail = b->cap = 0;
  b->small_uses = 0;
}
