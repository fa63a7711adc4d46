/* SPDX-License-Identifier: MIT */
/* A reply that the scanner of decoder.h has validated, token by token. */
#ifndef REDIO_TOKEN_H
#define REDIO_TOKEN_H

#include <stddef.h>

#include "number.h"

typedef struct redio_token {
  unsigned char type; /* + - : $ * _ # , ( ! = % ~ > ; and '.', the end of a streamed aggregate */
  unsigned char streamed; /* $ * % ~ of unknown length: chunks (type ';', the last one empty) or
                             elements up to '.' follow */
  const char *s; /* + - : its line; ( : its line without a plus; $ ! ; : its bytes; = : those behind
                    "txt:" */
  size_t len;
  long long integer;        /* ':' the number; '#' 0 or 1 */
  double number;            /* ',' */
  unsigned long long count; /* * ~ > : elements; % : pairs */
} redio_token;

/* Reads the token at p and returns the place of the next one. Attributes are skipped whole. "$-1",
 * "*-1" and "_" all read as type '_'. Fields that the type does not name are left unchanged. Never
 * allocates. */
const char *redio_token_next(const char *p, redio_token *t);

/* The longest header that redio_bulk_at reads: "$123456789\r\n". */
enum { REDIO_BULK_DIGITS = 9, REDIO_BULK_HEADER = REDIO_BULK_DIGITS + 3 };

/* The fast path for a bulk string, the most frequent reply and element: returns the place of its
 * bytes and stores their number. NULL for anything else, for a length of more digits and for a
 * malformed header. REDIO_BULK_HEADER bytes, or a validated token, must lie at p. */
static inline const char *redio_bulk_at(const char *p, size_t *len) {
  const char *at = p + 1, *most = p + REDIO_BULK_HEADER - 2;
  size_t n = (size_t)(*at - '0'), digit;
  if (*p != '$' || n > 9)
    return NULL;
  for (at++; (digit = (size_t)(*at - '0')) <= 9; at++) {
    n = n * 10 + digit;
    if (at == most || n == digit) /* too long, or behind a leading zero */
      return NULL;
  }
  if (*at != '\r' || at[1] != '\n')
    return NULL;
  *len = n;
  return at + 2;
}

#endif
