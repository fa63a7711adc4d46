/* SPDX-License-Identifier: MIT */
/* Bytes of a server, whole and in pieces. Both ways give the same replies and the same error, and
 * the reader of tokens never leaves the reply.
 *
 * Input: a byte for the limits, one for the pieces, the server's bytes. */
#include "decoder.h"
#include "fuzz.h"
#include "steps.h"
#include "token.h"

/* For a byte of the input, which is decoded whole and in pieces, usually 150 at most. An unfinished
 * number of up to 20 digits is read again with each piece, and the digits of a double are
 * multiplied. The rest is room for inputs that no run has met. */
enum { STEPS = 400 };

typedef struct outcome {
  uint64_t hash; /* of all replies */
  size_t replies;
  size_t left; /* bytes of a reply that is not whole */
  char error[128];
} outcome;

static void mix(outcome *o, const void *bytes, size_t n) {
  const unsigned char *p = bytes;
  while (n--)
    o->hash = (o->hash ^ *p++) * 1099511628211u;
}

static void mix_number(outcome *o, unsigned long long n) { mix(o, &n, sizeof n); }

static void mix_token(outcome *o, const redio_token *t) {
  mix_number(o, t->type);
  mix_number(o, t->streamed);
  if (strchr("+-$(!=;", t->type) && !(t->type == '$' && t->streamed))
    mix(o, t->s, t->len);
  if (t->type == ':' || t->type == '#')
    mix_number(o, (unsigned long long)t->integer);
  if (strchr("*%~>", t->type))
    mix_number(o, t->count);
}

/* Walks one reply in a copy of exactly its size, so that a read outside of it is detected. */
static void walk(outcome *o, const char *reply, size_t len) {
  char *copy = malloc(len);
  const char *p = copy, *end = copy + len;
  unsigned long long left[10001];
  size_t depth = 0;
  int in_chunks = 0;
  memcpy(copy, reply, len);
  left[0] = 1;
  for (;;) {
    redio_token t = {0, 0, NULL, 0, 0, 0, 0};
    REQUIRE(p < end);
    p = redio_token_next(p, &t);
    REQUIRE(p > copy && p <= end);
    mix_token(o, &t);
    if (in_chunks) {
      REQUIRE(t.type == ';');
      in_chunks = t.len > 0;
      if (in_chunks)
        continue;
    } else if (t.type == '$' && t.streamed) {
      in_chunks = 1;
      continue;
    } else if (t.type == '.') {
      REQUIRE(depth > 0 && left[depth] == 0);
      depth--;
    } else if (strchr("*%~>", t.type) && (t.count > 0 || t.streamed)) {
      depth++;
      left[depth] = t.streamed ? 0 : t.type == '%' ? 2 * t.count : t.count;
      continue;
    }
    /* a value has ended; a streamed aggregate counts nothing */
    while (left[depth] > 0 && --left[depth] == 0 && depth > 0)
      depth--;
    if (depth == 0 && left[0] == 0)
      break;
  }
  REQUIRE(p == end);
  free(copy);
}

static void take_replies(redio_decoder *d, outcome *o) {
  redio_status status;
  while ((status = redio_decoder_next(d)) == REDIO_VALUE) {
    REQUIRE(redio_decoder_next(d) == REDIO_VALUE);
    REQUIRE(d->pos > 0 && d->pos <= redio_buf_len(&d->in));
    mix_number(o, d->first);
    mix_number(o, d->pos);
    steps_pause();
    walk(o, redio_buf_head(&d->in), d->pos);
    steps_go_on();
    o->replies++;
    redio_decoder_consume(d);
  }
  REQUIRE((status == REDIO_DEAD) == (redio_decoder_error(d) != NULL));
}

static outcome decode(const redio_limits *limits, const uint8_t *bytes, size_t size,
                      unsigned piece) {
  outcome o = {14695981039346656037u, 0, 0, ""};
  redio_decoder d;
  size_t at, n;
  uint32_t random = piece;
  redio_decoder_init(&d, limits);
  for (at = 0; at < size; at += n) {
    random = random * 1664525u + 1013904223u;
    n = piece == 0 ? size : piece == 1 ? 1 : 1 + (random >> 16) % piece;
    if (n > size - at)
      n = size - at;
    REQUIRE(redio_decoder_feed(&d, (const char *)bytes + at, n) == 0);
    take_replies(&d, &o);
  }
  if (redio_decoder_error(&d))
    strcpy(o.error, redio_decoder_error(&d));
  else
    o.left = redio_buf_len(&d.in);
  redio_decoder_free(&d);
  return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const redio_limits tight = {16, 8, 12, 3};
  redio_limits limits = redio_default_limits;
  outcome whole, split;
  if (size < 2)
    return 0;
  if (data[0] % 3 == 1)
    limits = tight;
  else if (data[0] % 3 == 2)
    limits.max_depth = 10000;
  steps_begin(STEPS);
  steps_allow(steps_bytes(data, size));
  whole = decode(&limits, data + 2, size - 2, 0);
  split = decode(&limits, data + 2, size - 2, data[1] ? data[1] : 1);
  steps_end();
  REQUIRE(whole.hash == split.hash && whole.replies == split.replies);
  REQUIRE(whole.left == split.left && !strcmp(whole.error, split.error));
  return 0;
}
