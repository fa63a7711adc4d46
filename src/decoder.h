/* SPDX-License-Identifier: MIT */
/* RESP2 and RESP3, bytes in.
 *
 * Store, then interpret: `feed` copies bytes and never fails on their content. `next` advances a
 * scanner over them and has three outcomes: a whole reply is there, more bytes are needed, or the
 * stream is dead. Dead is sticky and `error` says why. The same bytes in any split have the same
 * outcome.
 *
 * Scan, then build: the scanner keeps integers only (its place, the open aggregates) and resumes
 * where it stopped. At most the 32 bytes of an unfinished header are read again, never a payload or
 * a line. `redio_token_next` (token.h) then walks the whole reply and trusts that it is valid, and
 * `redio_decoder_consume` drops it. Until then its bytes stay where they are, so a builder that
 * runs out of memory may simply start again.
 *
 * A length from the wire reserves nothing. */
#ifndef REDIO_DECODER_H
#define REDIO_DECODER_H

#include "buf.h"

typedef enum redio_status { REDIO_DEAD = -1, REDIO_NEED_MORE = 0, REDIO_VALUE = 1 } redio_status;

typedef struct redio_limits {
  unsigned long long max_bulk;     /* bytes of one string (and of one streamed string altogether) */
  unsigned long long max_elements; /* elements of one aggregate; pairs of one map, or of all the
                                      attributes before one value, an empty one as one */
  unsigned long long max_line;     /* bytes of a simple string or an error, of which scripts and
                                      MONITOR make long ones; a double or big number has 64 KiB at
                                      most */
  unsigned max_depth; /* aggregates within aggregates, attributes too; never above 10000 */
} redio_limits;

extern const redio_limits redio_default_limits; /* 512 MiB, 2^24, 512 MiB, 128 */

typedef struct redio_frame {
  unsigned long long left;       /* elements to come; for a streamed aggregate, elements so far */
  unsigned long long attributes; /* of an attribute: pairs of it and of those before it */
  unsigned char type;            /* '*', '%', '~', '>', '|' */
  unsigned char streamed;
  unsigned char kind_due; /* a push before its first element, the kind */
} redio_frame;

typedef struct redio_decoder {
  redio_buf in;
  redio_limits limits;
  size_t pos;            /* the scanner's place, from in.head: bytes before it are validated */
  unsigned char first;   /* type of the reply being scanned, attributes aside; 0 before it */
  unsigned char is_bulk; /* the reply is one bulk string and nothing else: no token need be read */
  size_t bulk, bulk_len; /* its bytes, from in.head */
  /* private */
  unsigned char ready; /* a whole reply lies at the head */
  unsigned char dead;
  unsigned char in_chunks;       /* inside a streamed string */
  unsigned long long attributes; /* pairs of those that have just ended: a value must follow */
  size_t scanned;                /* bytes of the line at pos already searched for its end */
  unsigned long long chunked;    /* bytes so far of the streamed string */
  redio_frame *stack;            /* open aggregates, innermost last */
  unsigned depth, stack_cap;
  char error[128];
} redio_decoder;

/* `limits` may be NULL. Never fails: nothing is allocated before bytes arrive. */
void redio_decoder_init(redio_decoder *d, const redio_limits *limits);
void redio_decoder_free(redio_decoder *d);

/* Stores bytes. Returns 0; or -1 when memory is out, with nothing stored and the decoder dead. A
 * dead decoder ignores the bytes and returns 0. */
int redio_decoder_feed(redio_decoder *d, const char *bytes, size_t n);

/* VALUE: one whole top-level reply lies at redio_buf_head(&d->in). It is d->pos bytes long, and
 * d->first is its type byte after attributes ('>' for a push). The next call returns the same until
 * the reply is consumed. */
redio_status redio_decoder_next(redio_decoder *d);

/* Drops the reply that `next` found. */
void redio_decoder_consume(redio_decoder *d);

/* Returns the reason of a dead decoder, one line without bytes of any payload; NULL while it is not
 * dead. */
const char *redio_decoder_error(const redio_decoder *d);

#endif
