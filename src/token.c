/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, fuzz/value */
/* The scanner has validated the bytes, so nothing is checked again. */
#include "token.h"

static const char *read_integer(const char *p, long long *out) {
  unsigned long long n = 0;
  int negative = *p == '-';
  if (*p == '-' || *p == '+')
    p++;
  for (; *p != '\r'; p++)
    n = n * 10 + (unsigned long long)(*p - '0');
  *out = negative ? -(long long)(n - 1) - 1 : (long long)n;
  return p + 2;
}

static const char *read_line(const char *p, redio_token *t) {
  t->s = p;
  while (*p != '\r')
    p++;
  t->len = (size_t)(p - t->s);
  return p + 2;
}

static const char *read_string(const char *p, redio_token *t) {
  long long n;
  if (*p == '?') {
    t->streamed = 1;
    return p + 3;
  }
  p = read_integer(p, &n);
  if (n < 0) {
    t->type = '_';
    return p;
  }
  t->s = p;
  t->len = (size_t)n;
  if (t->type == '=') {
    t->s += 4;
    t->len -= 4;
  }
  if (t->type == ';' && n == 0) /* the last chunk has no payload, hence no trailer */
    return p;
  return p + n + 2;
}

static const char *read_aggregate(const char *p, redio_token *t) {
  long long n;
  if (*p == '?') {
    t->streamed = 1;
    t->count = 0;
    return p + 3;
  }
  p = read_integer(p, &n);
  if (n < 0)
    t->type = '_';
  t->count = n < 0 ? 0 : (unsigned long long)n;
  return p;
}

/* Reads one token, which may be the header of an attribute. */
static const char *read_token(const char *p, redio_token *t) {
  t->type = (unsigned char)*p++;
  t->streamed = 0;
  switch (t->type) {
  case '$':
  case '=':
  case '!':
  case ';':
    return read_string(p, t);
  case ':':
    return read_integer(p, &t->integer);
  case '+':
  case '-':
    return read_line(p, t);
  case '(':
    return read_line(*p == '+' ? p + 1 : p, t);
  case ',':
    p = read_line(p, t);
    redio_read_double(t->s, t->len, &t->number);
    return p;
  case '#':
    t->integer = *p == 't';
    return p + 3;
  case '_':
  case '.':
    return p + 2;
  default:
    return read_aggregate(p, t);
  }
}

/* Returns the place behind `count` whole values, with the attributes before them. */
static const char *skip_values(const char *p, unsigned long long count) {
  redio_token t;
  while (count > 0) {
    p = read_token(p, &t);
    if (t.type == '|') {
      count += 2 * t.count;
      continue;
    }
    count--;
    if (t.type == '%')
      count += 2 * t.count;
    else if (t.type == '*' || t.type == '~' || t.type == '>')
      count += t.count;
    if (!t.streamed)
      continue;
    if (t.type == '$') {
      do
        p = read_token(p, &t);
      while (t.len > 0);
    } else {
      while (*p != '.')
        p = skip_values(p, 1);
      p += 3;
    }
  }
  return p;
}

const char *redio_token_next(const char *p, redio_token *t) {
  while (*p == '|') {
    p = read_token(p, t);
    p = skip_values(p, 2 * t->count);
  }
  return read_token(p, t);
}
