/* SPDX-License-Identifier: MIT */
/* One connection without its socket: bytes to write, bytes that were read, and who waits for which
 * reply.
 *
 * Pipelines are submitted as chains. A chain has a slot, a small number that the owner may use as
 * an index; it keeps it until its last reply is in, or until it is popped from a dead connection.
 * Replies belong to chains strictly first in, first out. A chain that is dropped keeps its place,
 * and its replies are read and forgotten; one of which nothing was sent yet never will be: it is
 * cut out of the output before that is taken.
 *
 * What a chain said stays in the output buffer until it is sent, so that it can be had back for
 * another try, and its pipeline is free at once. What only reads stays until it is answered, as in
 * TCP's own buffer, unless that is too much.
 *
 * Every state and every step between two of them stands in the table of connection.c; an event that
 * the table does not have is refused. */
#ifndef REDIO_CONNECTION_H
#define REDIO_CONNECTION_H

#include "decoder.h"
#include "pipeline.h"

typedef enum redio_state {
  REDIO_CLOSED,     /* new */
  REDIO_CONNECTING, /* the transport is at it */
  REDIO_HANDSHAKE,  /* connected; only the handshake's chains go out */
  REDIO_READY,
  REDIO_DRAINING, /* what is in flight may finish, nothing new */
  REDIO_LOST      /* for ever */
} redio_state;

typedef enum redio_event {
  REDIO_CONNECT,
  REDIO_CONNECTED,
  REDIO_ESTABLISHED,
  REDIO_DRAIN,
  REDIO_LOSE
} redio_event;

extern const char *const redio_state_names[];
extern const char *const redio_event_names[];

#define REDIO_NO_CHAIN UINT32_MAX

typedef struct redio_chain {
  uint32_t next;
  uint32_t replies; /* all */
  uint32_t done;    /* of these, taken */
  uint32_t values;  /* results made of them */
  uint32_t places;  /* strings among these that a decoder is to see */
  unsigned char mode;
  unsigned char dropped;
  unsigned char cut;         /* dropped before it was sent */
  unsigned char kept;        /* its commands may be asked for again as long as they are not sent */
  unsigned char lasting;     /* and also afterwards: they only read, and have no pieces */
  unsigned char large;       /* it has pieces */
  unsigned char readonly;    /* all its commands are */
  unsigned long long at;     /* its first byte, counted from the connection's first */
  unsigned long long number; /* of all that were submitted, from 1 on; 0: the slot is free */
  size_t len;
} redio_chain;

typedef struct redio_connection {
  const void *tag;
  redio_decoder decoder;
  redio_buf out; /* what is in flight, as far as it is kept, and what is to be sent */
  unsigned long long origin, sent; /* counted likewise: its first byte; what was given out */
  redio_pieces pieces;             /* of what is to be sent; `at` counts from `sent` */
  size_t piece_bytes;
  redio_buf expects; /* from the first chain's first reply on */
  size_t taken;      /* entries of it that the first chain's replies so far have used up */
  redio_chain *chains;
  uint32_t chains_cap, chains_used, first, last, unused;
  uint32_t waiting;      /* chains in flight or to be sent; not those that are cut */
  uint32_t cuts;         /* chains to be cut out of the output */
  size_t cut_bytes;      /* with their pieces */
  size_t unsent_expects; /* bytes of `expects` of what is to be sent */
  uint32_t last_sent;    /* the last slot when output was taken, and its chain then */
  unsigned long long last_sent_number;
  unsigned long long submitted; /* chains so far */
  uint32_t last_indexed;        /* likewise, of the owner's index of waiters */
  unsigned long long last_indexed_number;
  uint32_t keeping; /* how many chains may be asked for again after they were sent */
  size_t unasked;   /* bytes that had come for no chain when the last ones were sent */
  redio_state state;
  const char *broken; /* why nothing that comes can be trusted, though the bytes are in order */
  size_t max_out; /* bytes that may wait to be sent before no more chains are taken, and that are
                     kept of what was; 0: any */
  unsigned char choked;   /* the socket does not keep up: no more chains for now */
  unsigned char receiver; /* arrays that nobody asked for are messages */
  unsigned char has_null; /* the owner has a value of his own for null */
} redio_connection;

void redio_connection_init(redio_connection *c, const void *tag, const redio_limits *limits);
/* The owner gives back the refs of `pieces` first. */
void redio_connection_free(redio_connection *c);

/* 0, or -1 when the state has no such step. */
int redio_connection_event(redio_connection *c, redio_event event);

/* Room for one more chain of that pipeline; after it, submit cannot fail. 0, or -1 when memory is
 * out. */
int redio_connection_reserve(redio_connection *c, const redio_pipeline *p);

/* The slot that the next chain gets. */
uint32_t redio_connection_next_slot(const redio_connection *c);

/* Takes a copy of the pipeline's commands, which `recover` gives back when it is to keep them. The
 * copies of its pieces have refs of their own, which the caller has made: they are in `pieces.list`
 * from index `pieces.count` on. Returns the chain's slot, or REDIO_NO_CHAIN when no reply will
 * come. */
uint32_t redio_connection_submit(redio_connection *c, redio_pipeline *p, unsigned char mode,
                                 int keep);

/* Nothing waits for that chain any more. One that was not sent yet does not count from now on; its
 * place in the output and its slot are free after the next `tidy`. */
void redio_connection_drop(redio_connection *c, uint32_t slot);

/* Takes what was dropped unsent out of the output, all of it in one pass. The refs of its pieces,
 * for the owner to give back, have become the spare ones of `pieces`. */
void redio_connection_tidy(redio_connection *c);

/* The first chain that was submitted after the chain `number` had been, which has or had that slot;
 * REDIO_NO_CHAIN when there is none. */
uint32_t redio_connection_after(const redio_connection *c, uint32_t slot,
                                unsigned long long number);

/* The output: its bytes without pieces; with them, and without those of dropped chains; and the
 * former ones, after `tidy`. Nothing any more when it is lost. */
static inline size_t redio_connection_unsent(const redio_connection *c) {
  return c->state == REDIO_LOST ? 0 : (size_t)(c->origin + redio_buf_len(&c->out) - c->sent);
}
static inline size_t redio_connection_queued(const redio_connection *c) {
  size_t unsent = redio_connection_unsent(c);
  return unsent ? unsent + c->piece_bytes - c->cut_bytes : 0;
}
static inline const char *redio_connection_output(const redio_connection *c) {
  return redio_buf_head(&c->out) + (c->sent - c->origin);
}

/* The output was taken, after `tidy`. */
void redio_connection_sent(redio_connection *c);

/* Whether bytes of that chain may be on their way. */
int redio_connection_was_sent(const redio_connection *c, uint32_t slot);

/* What the first chain expects, from its first reply on. */
static inline const redio_expect *redio_connection_entries(const redio_connection *c) {
  return (const redio_expect *)(const void *)redio_buf_head(&c->expects);
}
/* The expected reply at the head. */
static inline const redio_expect *redio_connection_expected(const redio_connection *c) {
  return redio_connection_entries(c) + c->taken;
}

/* The reply at the head was taken for the first chain. */
void redio_connection_took(redio_connection *c);

/* Nothing is in flight: gives back the memory that only much traffic needs. */
void redio_connection_rest(redio_connection *c);

/* Whether the first chain's commands can be had back. */
int redio_connection_keeps(const redio_connection *c);
/* Puts them into an empty pipeline. 0, or -1 when memory is out. */
int redio_connection_recover(redio_connection *c, redio_pipeline *p);

/* Takes the first chain off, finished or not. */
void redio_connection_pop(redio_connection *c);

static inline redio_chain *redio_connection_first(const redio_connection *c) {
  return c->first == REDIO_NO_CHAIN ? NULL : c->chains + c->first;
}

#endif
