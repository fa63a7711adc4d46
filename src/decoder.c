/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, promises/12, fuzz/decoder */
#include "decoder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"
#include "token.h"

/* A function of the scanner takes the place at which it reads and returns the place behind the
 * bytes that it has read. NULL means that the decoder is dead, or, when it is not, that bytes are
 * missing.
 *
 * Its decisions depend on the bytes alone, never on how many more have arrived. So a byte that
 * kills the decoder kills it with the same words in every split. */

const redio_limits redio_default_limits = {512ULL << 20, 1ULL << 24, 512ULL << 20, 128};

/* The reader of tokens recurses per level of streamed aggregates inside attributes. */
enum {
  DEPTH_CEILING = 10000,
  LONGEST_INTEGER = 19,
  SHORT_LINE = 32,
  LONGEST_NUMBER = 64 << 10 /* of a double or a big number */
};

void redio_decoder_init(redio_decoder *d, const redio_limits *limits) {
  memset(d, 0, sizeof *d);
  d->limits = limits ? *limits : redio_default_limits;
  if (d->limits.max_depth > DEPTH_CEILING)
    d->limits.max_depth = DEPTH_CEILING;
}

void redio_decoder_free(redio_decoder *d) {
  redio_buf_free(&d->in);
  free(d->stack);
  d->stack = NULL;
  d->stack_cap = d->depth = 0;
}

const char *redio_decoder_error(const redio_decoder *d) { return d->dead ? d->error : NULL; }

static const char *out_of_memory(redio_decoder *d) {
  d->dead = 1;
  strcpy(d->error, "out of memory");
  return NULL;
}

static const char *die(redio_decoder *d, const char *why) {
  d->dead = 1;
  snprintf(d->error, sizeof d->error, "protocol error: %s", why);
  return NULL;
}

static const char *die_at(redio_decoder *d, const char *where, char byte) {
  d->dead = 1;
  snprintf(d->error, sizeof d->error, "protocol error: unexpected byte \\x%02x %s",
           (unsigned)(unsigned char)byte, where);
  return NULL;
}

int redio_decoder_feed(redio_decoder *d, const char *bytes, size_t n) {
  if (d->dead)
    return 0;
  if (redio_buf_append(&d->in, bytes, n) == 0)
    return 0;
  out_of_memory(d);
  return -1;
}

/* Values and aggregates ------------------------------------------------------------------------ */

/* Ends a value, and with it each aggregate of which it is the last element. An attribute that ends
 * is no element. */
static void complete(redio_decoder *d) {
  while (d->depth > 0) {
    redio_frame *f = &d->stack[d->depth - 1];
    f->kind_due = 0;
    if (f->streamed) {
      f->left++;
      return;
    }
    if (--f->left > 0)
      return;
    d->depth--;
    if (f->type == '|') {
      d->attributes = f->attributes;
      return;
    }
  }
  d->ready = 1;
}

static int grow_stack(redio_decoder *d) {
  unsigned cap = d->stack_cap ? d->stack_cap * 2 : 8;
  redio_frame *stack = realloc(d->stack, cap * sizeof *stack);
  if (!stack)
    return -1;
  d->stack = stack;
  d->stack_cap = cap;
  return 0;
}

/* Opens an aggregate of `count` elements, of which a pair is two. Its header ends at p. */
static const char *open_aggregate(redio_decoder *d, char type, unsigned long long count,
                                  int streamed, const char *p) {
  redio_frame *f;
  if (d->depth >= d->limits.max_depth)
    return die(d, "aggregates nested too deeply");
  if (count == 0 && !streamed) {
    if (type != '|')
      complete(d);
    return p;
  }
  if (d->depth == d->stack_cap && grow_stack(d) != 0)
    return out_of_memory(d);
  f = &d->stack[d->depth++];
  f->left = count;
  f->type = (unsigned char)type;
  f->streamed = (unsigned char)streamed;
  f->kind_due = type == '>';
  f->attributes = d->attributes; /* a value inside of it counts its own anew */
  d->attributes = 0;
  return p;
}

/* Attributes before one value count together, and an empty one as one pair. Without a limit on them
 * a reply need never begin. */
static int count_attribute(redio_decoder *d, unsigned long long pairs) {
  d->attributes += pairs ? pairs : 1;
  if (d->attributes <= d->limits.max_elements)
    return 0;
  die(d, "too many attributes before a value");
  return -1;
}

/* Returns 1 when a value of this type may begin here. */
static int may_begin(redio_decoder *d, char type) {
  const redio_frame *f;
  d->attributes = 0;
  if (d->depth == 0) {
    d->first = (unsigned char)type;
    return 1;
  }
  f = &d->stack[d->depth - 1];
  if (f->kind_due && type != '$' && type != '+' && type != '=') {
    die(d, "the kind of a push is not a string");
    return 0;
  }
  if (f->streamed && (f->type == '%' ? f->left / 2 : f->left) >= d->limits.max_elements) {
    die(d, "too many elements in a streamed aggregate");
    return 0;
  }
  return 1;
}

/* Lines ---------------------------------------------------------------------------------------- */

static const char *scan_crlf(redio_decoder *d, const char *p, const char *end) {
  if (p == end)
    return NULL;
  if (*p != '\r')
    return die_at(d, "before the end of a line", *p);
  if (p + 1 == end)
    return NULL;
  if (p[1] != '\n')
    return die_at(d, "after CR", p[1]);
  return p + 2;
}

/* Reads an integer and its CRLF. Leading zeros and "-0" are errors. At most nineteen digits keep
 * the line within its 32 bytes and the sum within 64 bits. */
static const char *scan_integer(redio_decoder *d, const char *p, const char *end, int plus,
                                long long *out) {
  unsigned long long n = 0;
  const char *digits;
  int negative = 0;
  if (p == end)
    return NULL;
  if (*p == '-' || (plus && *p == '+'))
    negative = *p++ == '-';
  for (digits = p; p < end && redio_is_digit(*p) && p - digits < LONGEST_INTEGER; p++)
    n = n * 10 + (unsigned long long)(*p - '0');
  if (p > digits && *digits == '0' && (negative || p - digits > 1))
    return die(d, "a number begins with a needless zero");
  if (p == end)
    return NULL;
  if (p == digits)
    return die_at(d, "where a number should be", *p);
  if (redio_is_digit(*p) || n > (unsigned long long)LLONG_MAX + (unsigned)negative)
    return die(d, "a number does not fit 64 bits");
  *out = negative ? -(long long)(n - 1) - 1 : (long long)n;
  return scan_crlf(d, p, end);
}

/* Returns the first CR or LF of [p, end), or end. For most lines a call of memchr is not worth
 * it. */
static const char *find_line_end(const char *p, const char *end) {
  const char *near = end - p > SHORT_LINE ? p + SHORT_LINE : end;
  const char *cr, *lf;
  for (; p < near; p++)
    if (*p == '\r' || *p == '\n')
      return p;
  if (p == end)
    return end;
  cr = memchr(p, '\r', (size_t)(end - p));
  if (!cr)
    cr = end;
  lf = memchr(p, '\n', (size_t)(cr - p));
  return lf ? lf : cr;
}

/* Reads a line of at most so many bytes other than CR and LF, and its CRLF. */
static const char *scan_line(redio_decoder *d, const char *line, const char *end,
                             unsigned long long most) {
  int is_longer = (unsigned long long)(end - line) > most;
  const char *stop = is_longer ? line + most + 1 : end;
  const char *p = find_line_end(line + d->scanned, stop);
  d->scanned = (size_t)(p - line);
  if (p == stop)
    return is_longer ? die(d, "a line is too long") : NULL;
  p = scan_crlf(d, p, end);
  if (p)
    d->scanned = 0;
  return p;
}

static const char *scan_number_line(redio_decoder *d, const char *line, const char *end) {
  unsigned long long most = d->limits.max_line;
  return scan_line(d, line, end, most < LONGEST_NUMBER ? most : LONGEST_NUMBER);
}

static const char *scan_double(redio_decoder *d, const char *line, const char *end) {
  const char *p = scan_number_line(d, line, end);
  double number;
  if (p && redio_read_double(line, (size_t)(p - line) - 2, &number) != 0)
    return die(d, "a double is not a number");
  return p;
}

static const char *scan_big_number(redio_decoder *d, const char *line, const char *end) {
  const char *p = scan_number_line(d, line, end);
  if (!p)
    return NULL;
  if (*line == '-' || *line == '+')
    line++;
  if (!redio_is_digit(*line))
    return die(d, "a big number is not a number");
  while (redio_is_digit(*line))
    line++;
  return line == p - 2 ? p : die(d, "a big number is not a number");
}

static const char *scan_boolean(redio_decoder *d, const char *p, const char *end) {
  if (p == end)
    return NULL;
  if (*p != 't' && *p != 'f')
    return die_at(d, "where a boolean should be", *p);
  return scan_crlf(d, p + 1, end);
}

/* Strings -------------------------------------------------------------------------------------- */

/* Reads n bytes and their CRLF. A client that skips the trailer unchecked, as most do, loses its
 * place in the stream unnoticed when a length is wrong. */
static const char *scan_payload(redio_decoder *d, const char *p, const char *end,
                                unsigned long long n) {
  unsigned long long there = (unsigned long long)(end - p);
  if (there > n && p[n] != '\r')
    return die_at(d, "behind a string", p[n]);
  if (there > n + 1 && p[n + 1] != '\n')
    return die_at(d, "behind a string", p[n + 1]);
  return there > n + 1 ? p + n + 2 : NULL;
}

static const char *scan_chunk(redio_decoder *d, const char *p, const char *end) {
  long long n;
  if (*p != ';')
    return die_at(d, "in a streamed string", *p);
  p = scan_integer(d, p + 1, end, 0, &n);
  if (!p)
    return NULL;
  if (n < 0)
    return die(d, "a length is negative");
  if (n == 0) {
    d->in_chunks = 0;
    complete(d);
    return p;
  }
  if ((unsigned long long)n > d->limits.max_bulk ||
      d->chunked > d->limits.max_bulk - (unsigned long long)n)
    return die(d, "a streamed string is too long");
  p = scan_payload(d, p, end, (unsigned long long)n);
  if (p)
    d->chunked += (unsigned long long)n;
  return p;
}

static const char *begin_chunks(redio_decoder *d, const char *p, const char *end) {
  p = scan_crlf(d, p + 1, end);
  if (p) {
    d->in_chunks = 1;
    d->chunked = 0;
  }
  return p;
}

static const char *scan_null(redio_decoder *d, const char *p) {
  if (d->depth > 0 && d->stack[d->depth - 1].kind_due)
    return die(d, "the kind of a push is not a string");
  complete(d);
  return p;
}

static const char *scan_string(redio_decoder *d, char type, const char *p, const char *end) {
  long long n;
  if (type == '$' && p < end && *p == '?')
    return begin_chunks(d, p, end);
  p = scan_integer(d, p, end, 0, &n);
  if (!p)
    return NULL;
  if (n == -1 && type == '$')
    return scan_null(d, p);
  if (n < 0)
    return die(d, "a length is negative");
  if ((unsigned long long)n > d->limits.max_bulk)
    return die(d, "a string is too long");
  if (type == '=' && n < 4)
    return die(d, "a verbatim string has no format");
  if (type == '=' && end - p > 3 && p[3] != ':')
    return die(d, "a verbatim string has no format");
  p = scan_payload(d, p, end, (unsigned long long)n);
  if (p)
    complete(d);
  return p;
}

/* Headers of aggregates ------------------------------------------------------------------------ */

static const char *scan_aggregate(redio_decoder *d, char type, const char *p, const char *end) {
  int pairs = type == '%' || type == '|';
  long long n;
  if (p < end && *p == '?' && type != '>' && type != '|') {
    p = scan_crlf(d, p + 1, end);
    return p ? open_aggregate(d, type, 0, 1, p) : NULL;
  }
  p = scan_integer(d, p, end, 0, &n);
  if (!p)
    return NULL;
  if (n == -1 && type == '*')
    return scan_null(d, p);
  if (n < 0)
    return die(d, "a length is negative");
  if ((unsigned long long)n > d->limits.max_elements)
    return die(d, "too many elements in an aggregate");
  if (n == 0 && type == '>')
    return die(d, "a push has no kind");
  if (type == '|' && count_attribute(d, (unsigned long long)n) != 0)
    return NULL;
  return open_aggregate(d, type, (unsigned long long)n << pairs, 0, p);
}

static const char *scan_stream_end(redio_decoder *d, const char *p, const char *end) {
  const redio_frame *f = d->depth > 0 ? &d->stack[d->depth - 1] : NULL;
  if (!f || !f->streamed)
    return die(d, "the end of a stream that was never begun");
  if (d->attributes)
    return die(d, "an attribute without its value");
  if (f->type == '%' && f->left % 2 != 0)
    return die(d, "a key without its value");
  p = scan_crlf(d, p + 1, end);
  if (p) {
    d->depth--;
    complete(d);
  }
  return p;
}

static const char *unknown_type(redio_decoder *d, char type) {
  if (d->depth == 0 && (type == 0x15 || type == 0x16))
    return die_at(d, "where a reply should begin (the server speaks TLS; use rediss://)", type);
  if (d->depth == 0 && type == 'H')
    return die_at(d, "where a reply should begin (an HTTP server?)", type);
  return die_at(d, "where a reply should begin", type);
}

/* The scanner ---------------------------------------------------------------------------------- */

static const char *scan_scalar(redio_decoder *d, const char *p, const char *end) {
  char type = *p++;
  long long n;
  switch (type) {
  case ':':
    p = scan_integer(d, p, end, 1, &n);
    break;
  case '+':
  case '-':
    p = scan_line(d, p, end, d->limits.max_line);
    break;
  case '_':
    p = scan_crlf(d, p, end);
    break;
  case '#':
    p = scan_boolean(d, p, end);
    break;
  case ',':
    p = scan_double(d, p, end);
    break;
  case '(':
    p = scan_big_number(d, p, end);
    break;
  default:
    return unknown_type(d, type);
  }
  if (p)
    complete(d);
  return p;
}

/* Reads one token: a scalar, a string, a chunk, the header of an aggregate, the end of a stream. */
static const char *scan_token(redio_decoder *d, const char *p, const char *end) {
  char type = *p;
  if (d->in_chunks)
    return scan_chunk(d, p, end);
  if (type == '.')
    return scan_stream_end(d, p, end);
  if (type == '|')
    return scan_aggregate(d, type, p + 1, end);
  if (!may_begin(d, type))
    return NULL;
  switch (type) {
  case '$':
  case '=':
  case '!':
    return scan_string(d, type, p + 1, end);
  case '*':
  case '%':
  case '~':
  case '>':
    return scan_aggregate(d, type, p + 1, end);
  default:
    return scan_scalar(d, p, end);
  }
}

/* The fast path for "$32\r\n...\r\n" when all of it is there: returns the place of its bytes. NULL
 * leaves everything else, unfinished and malformed strings among it, to scan_token. */
static inline const char *plain_bulk(const redio_decoder *d, const char *p, const char *end,
                                     size_t *len) {
  const char *bytes = end - p < REDIO_BULK_HEADER ? NULL : redio_bulk_at(p, len);
  if (!bytes || (size_t)(end - bytes) < *len + 2 || bytes[*len] != '\r' ||
      bytes[*len + 1] != '\n' || *len > d->limits.max_bulk)
    return NULL;
  return bytes;
}

/* Returns 1 when the reply is one bulk string that is there as a whole. */
static int next_bulk(redio_decoder *d) {
  const char *head = redio_buf_head(&d->in);
  const char *bytes = plain_bulk(d, head, d->in.data + d->in.tail, &d->bulk_len);
  if (!bytes)
    return 0;
  d->bulk = (size_t)(bytes - head);
  d->pos = d->bulk + d->bulk_len + 2;
  d->first = '$';
  d->is_bulk = d->ready = 1;
  return 1;
}

/* Skips a run of whole bulk strings inside an aggregate, up to its last element. */
static const char *skip_bulks(redio_decoder *d, const char *p, const char *end) {
  redio_frame *f = &d->stack[d->depth - 1];
  const char *start = p, *bytes;
  size_t n;
  if (f->streamed || f->kind_due || d->attributes || d->in_chunks || d->scanned)
    return p;
  while (f->left > 1 && (bytes = plain_bulk(d, p, end, &n)) != NULL) {
    p = bytes + n + 2;
    f->left--;
  }
  d->pos += (size_t)(p - start);
  return p;
}

static int at_start(const redio_decoder *d) {
  return d->pos == 0 && !d->attributes && d->scanned == 0;
}

redio_status redio_decoder_next(redio_decoder *d) {
  const char *head, *p, *end;
  if (d->dead)
    return REDIO_DEAD;
  if (d->ready)
    return REDIO_VALUE;
  if (d->pos == redio_buf_len(&d->in))
    return REDIO_NEED_MORE;
  if (at_start(d) && next_bulk(d))
    return REDIO_VALUE;
  head = redio_buf_head(&d->in);
  end = d->in.data + d->in.tail;
  for (p = head + d->pos; p < end;) {
    if (d->depth)
      p = skip_bulks(d, p, end);
    if (p == end)
      break;
    p = scan_token(d, p, end);
    if (!p)
      return d->dead ? REDIO_DEAD : REDIO_NEED_MORE;
    d->pos = (size_t)(p - head);
    if (d->ready)
      return REDIO_VALUE;
  }
  return REDIO_NEED_MORE;
}

void redio_decoder_consume(redio_decoder *d) {
  if (!d->ready)
    return;
  redio_buf_consume(&d->in, d->pos);
  d->pos = 0;
  d->ready = d->is_bulk = 0;
  d->first = 0;
}
