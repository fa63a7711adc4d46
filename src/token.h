/* SPDX-License-Identifier: MIT */
/* A reply that the scanner of decoder.h has validated, step by step. */
#ifndef REDIO_TOKEN_H
#define REDIO_TOKEN_H

#include <stddef.h>

/* One step through a validated reply. */
typedef struct redio_token {
  unsigned char
      type; /* + - : $ * _ # , ( ! = % ~ > ; and '.' for the end of a streamed aggregate */
  unsigned char streamed; /* $ * % ~ of unknown length: chunks (type ';', the last one empty) or
                             elements up to '.' follow */
  const char *s; /* + - : its line; ( : its line without a plus; $ ! ; : its bytes; = : those behind
                    "txt:" */
  size_t len;
  long long integer;        /* ':' the number; '#' 0 or 1 */
  double number;            /* ',' */
  unsigned long long count; /* * ~ > : elements; % : pairs */
} redio_token;

/* Reads the token at p and returns where the next one starts. Attributes are passed over, whole.
 * "$-1", "*-1" and "_" all read as type '_'. Fields that the type does not name are left as they
 * were. Never allocates. */
const char *redio_token_next(const char *p, redio_token *t);

#endif
