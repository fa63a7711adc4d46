/* SPDX-License-Identifier: MIT */
/* A mutator of values: it replaces one value of a reply with another one of it. When the other one
 * contains the first, the reply nests one level deeper, and so on. A mutator of bytes needs luck
 * for each level and does not get as deep in as many runs.
 *
 * The input of the target must be two bytes of choices and a server's bytes. */
#include "decoder.h"
#include "fuzz.h"
#include "token.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

enum { CHOICES = 2, MOST_VALUES = 256 };

typedef struct span {
  const char *from, *to;
} span;

typedef struct values {
  span list[MOST_VALUES];
  unsigned count;
} values;

/* Adds the value at p and the values in it to the list; returns its end. */
static const char *collect(values *v, const char *p) {
  unsigned at = v->count < MOST_VALUES ? v->count++ : MOST_VALUES - 1;
  const char *from = p;
  unsigned long long left;
  redio_token t;
  p = redio_token_next(p, &t);
  if (t.streamed && t.type == '$') {
    do
      p = redio_token_next(p, &t);
    while (t.len > 0);
  } else if (t.streamed) {
    while (*p != '.')
      p = collect(v, p);
    p += 3;
  } else if (strchr("*~>%", t.type)) {
    for (left = t.type == '%' ? 2 * t.count : t.count; left > 0; left--)
      p = collect(v, p);
  }
  v->list[at].from = from;
  v->list[at].to = p;
  return p;
}

static size_t replace(uint8_t *data, size_t size, size_t most, const redio_decoder *d,
                      unsigned random) {
  const char *head = redio_buf_head(&d->in);
  values v = {{{NULL, NULL}}, 0};
  const span *old, *by;
  size_t at, old_len, len;
  collect(&v, head);
  old = v.list + random % v.count;
  by = v.list + random / v.count % v.count;
  at = CHOICES + (size_t)(old->from - head);
  old_len = (size_t)(old->to - old->from);
  len = (size_t)(by->to - by->from);
  if (size - old_len + len > most)
    return size;
  memmove(data + at + len, data + at + old_len, size - at - old_len);
  memcpy(data + at, by->from, len);
  return size - old_len + len;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  redio_decoder d;
  size_t grown = size;
  if (size <= CHOICES || seed % 2)
    return LLVMFuzzerMutate(data, size, most);
  redio_decoder_init(&d, NULL);
  redio_decoder_feed(&d, (const char *)data + CHOICES, size - CHOICES);
  if (redio_decoder_next(&d) == REDIO_VALUE)
    grown = replace(data, size, most, &d, seed / 2);
  redio_decoder_free(&d);
  return grown == size ? LLVMFuzzerMutate(data, size, most) : grown;
}
