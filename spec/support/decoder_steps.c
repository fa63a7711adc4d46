/* SPDX-License-Identifier: MIT */
/* decoder_steps KIND LENGTH PIECE: one reply of that kind, about so many bytes long, is scanned as
 * it arrives in such pieces, and is then walked; each byte may take so many steps as are allowed
 * here, however many there are. Built by spec/tree/fuzz_spec.lua. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "steps.h"
#include "token.h"

enum { PER_BYTE = 30, ROOM = 64 };

typedef struct text {
  char *bytes;
  size_t len;
} text;

static void add(text *t, const char *bytes) {
  size_t n = strlen(bytes);
  memcpy(t->bytes + t->len, bytes, n);
  t->len += n;
}

static void add_many(text *t, const char *bytes, size_t until) {
  while (t->len + strlen(bytes) <= until)
    add(t, bytes);
}

static void add_head(text *t, const char *format, size_t count) {
  t->len += (size_t)sprintf(t->bytes + t->len, format, (unsigned long)count);
}

static void make(text *t, char kind, size_t n) {
  switch (kind) {
  case 'l': /* line */
    add(t, "-ERR ");
    add_many(t, "x", n);
    add(t, "\r\n");
    break;
  case 's': /* string */
    add_head(t, "$%lu\r\n", n);
    add_many(t, "x", t->len + n);
    add(t, "\r\n");
    break;
  case 'c': /* chunks */
    add(t, "$?\r\n");
    add_many(t, ";1\r\nx\r\n", n);
    add(t, ";0\r\n");
    break;
  case 'm': /* map */
    add(t, "%?\r\n");
    add_many(t, "$1\r\nk\r\n*1\r\n:123\r\n", n);
    add(t, ".\r\n");
    break;
  case 'a': /* attributes */
    add_many(t, "|1\r\n+a\r\n|1\r\n+b\r\n*1\r\n:1\r\n*?\r\n.\r\n", n);
    add(t, "+OK\r\n");
    break;
  default: /* deep */
    add(t, "*?\r\n");
    add_many(t, "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n", n);
    add(t, ".\r\n");
  }
}

static void scan(redio_decoder *d, const text *t, size_t piece) {
  size_t at, n;
  for (at = 0; at < t->len; at += n) {
    n = piece < t->len - at ? piece : t->len - at;
    redio_decoder_feed(d, t->bytes + at, n);
    if ((redio_decoder_next(d) == REDIO_VALUE) != (at + n == t->len)) {
      fprintf(stderr, "not one reply: %s\n", redio_decoder_error(d));
      exit(2);
    }
  }
}

int main(int argc, char **argv) {
  size_t n = (size_t)atol(argv[2]);
  text t = {malloc(n + ROOM), 0};
  redio_decoder d;
  redio_token token;
  const char *p;
  (void)argc;
  make(&t, *argv[1], n);
  redio_decoder_init(&d, NULL);
  steps_begin(PER_BYTE);
  steps_allow(t.len);
  scan(&d, &t, (size_t)atol(argv[3]));
  for (p = redio_buf_head(&d.in); p < redio_buf_head(&d.in) + d.pos;)
    p = redio_token_next(p, &token);
  steps_end();
  redio_decoder_free(&d);
  free(t.bytes);
  return 0;
}
