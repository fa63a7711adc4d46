/* SPDX-License-Identifier: MIT */
/* One connection without its socket: bytes to write, bytes that were read, and the chains that wait
 * for replies.
 *
 * Submitting a pipeline makes it a chain. A chain has a slot, a small number that the caller may
 * use as an index. It keeps the slot until its last reply is in, or until it is popped from a lost
 * connection. Replies belong to chains strictly first in, first out. A dropped chain keeps its
 * place, and its replies are read and ignored. If nothing of it was sent, it is cut out of the
 * output before that is taken.
 *
 * The commands of a chain are copied to the output, so its pipeline is free at once. They stay
 * there until they are sent, and those of a chain that only reads until it is answered: `recover`
 * gives them back for another try. `max_out` bounds what is kept.
 *
 * All states and the steps between them stand in the table of connection.c. An event without a step
 * is refused. */
#ifndef REDIO_CONNECTION_H
#define REDIO_CONNECTION_H

#include "decoder.h"
#include "mode.h"
#include "pipeline.h"

typedef enum redio_state {
  REDIO_CLOSED, /* new */
  REDIO_CONNECTING,
  REDIO_HANDSHAKE, /* connected; only the handshake's chains are submitted */
  REDIO_READY,
  REDIO_DRAINING, /* chains in flight may finish; new ones are refused */
  REDIO_LOST      /* for good */
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
  uint32_t replies;   /* expected */
  uint32_t done;      /* replies taken so far */
  uint32_t values;    /* results made of them */
  uint32_t places;    /* entries in the list of places: see REDIO_MODE_PLACES */
  unsigned char mode; /* REDIO_MODE_... */
  unsigned char dropped;
  unsigned char cut;      /* dropped before it was sent */
  unsigned char kept;     /* can be recovered until it is sent */
  unsigned char lasting;  /* can be recovered until it is answered: it only reads, without pieces */
  unsigned char large;    /* it has pieces */
  unsigned char readonly; /* all its commands are */
  unsigned long long at;  /* its first byte, counted from the connection's first */
  unsigned long long number; /* in order of submission, from 1; 0: the slot is free */
  size_t len;
} redio_chain;

typedef struct redio_connection {
  const void *tag;
  redio_decoder decoder;
  redio_buf out;                   /* sent bytes, as far as they are kept, and unsent ones */
  unsigned long long origin, sent; /* places in the stream of output: of the first byte of `out`,
                                      and of the first unsent byte */
  redio_pieces pieces;             /* of the unsent output; `at` counts from `sent` */
  size_t piece_bytes;
  redio_buf expects; /* from the first chain's first reply on */
  size_t taken;      /* entries of `expects` that the first chain's replies have used so far */
  redio_chain *chains;
  uint32_t chains_cap, chains_used, first, last, unused;
  uint32_t waiting;      /* chains in flight or to be sent, without the cut ones */
  uint32_t cuts;         /* chains to be cut out of the output */
  size_t cut_bytes;      /* of them and their pieces */
  size_t unsent_expects; /* bytes of `expects` that belong to unsent chains */
  uint32_t last_sent;    /* slot of the last chain that was sent, and its number */
  unsigned long long last_sent_number;
  unsigned long long submitted; /* chains so far */
  uint32_t last_indexed;        /* slot of the last chain in the index (lslot.c), and its number */
  unsigned long long last_indexed_number;
  uint32_t keeping; /* number of lasting chains */
  size_t unasked;   /* bytes that had come for no chain when the last chains were sent */
  redio_state state;
  const char *broken; /* the reason why replies cannot be trusted although their bytes are valid */
  size_t max_out; /* bytes that may wait to be sent before chains are refused, and bytes that are
                     kept after they were sent; 0: any number */
  unsigned char choked;   /* the socket does not keep up: chains are refused for now */
  unsigned char receiver; /* arrays without a chain are messages */
  unsigned char has_null; /* the caller has a value for null */
} redio_connection;

void redio_connection_init(redio_connection *c, const void *tag, const redio_limits *limits);
/* The caller releases the refs of `pieces` first. */
void redio_connection_free(redio_connection *c);

/* Takes the step. Returns 0, or -1 when the state has no such step. */
int redio_connection_event(redio_connection *c, redio_event event);

/* Makes room for the pipeline as one more chain, so that submit cannot fail. Returns 0, or -1 when
 * memory is out. */
int redio_connection_reserve(redio_connection *c, const redio_pipeline *p);

/* Returns the slot of the next chain. */
uint32_t redio_connection_next_slot(const redio_connection *c);

/* Copies the pipeline's commands to the output; with `keep` they can be recovered. The copies of
 * its pieces have refs of their own, which the caller has put into `pieces.list` from index
 * `pieces.count` on. Returns the chain's slot, or REDIO_NO_CHAIN when no reply will come. */
uint32_t redio_connection_submit(redio_connection *c, redio_pipeline *p, unsigned char mode,
                                 int keep);

/* Drops a chain: its replies will be ignored. An unsent one no longer counts as waiting, and `tidy`
 * frees its place in the output and its slot. */
void redio_connection_drop(redio_connection *c, uint32_t slot);

/* Cuts all chains that were dropped unsent out of the output, in one pass. Their pieces become the
 * spare ones of `pieces`, so that the caller can release the refs. */
void redio_connection_tidy(redio_connection *c);

/* Returns the first chain behind the chain `number`, which has or had that slot; REDIO_NO_CHAIN
 * when there is none. */
uint32_t redio_connection_after(const redio_connection *c, uint32_t slot,
                                unsigned long long number);

/* Returns the number of unsent bytes, without pieces; 0 when the connection is lost. */
static inline size_t redio_connection_unsent(const redio_connection *c) {
  return c->state == REDIO_LOST ? 0 : (size_t)(c->origin + redio_buf_len(&c->out) - c->sent);
}
/* Returns the number of unsent bytes with pieces, without those of cut chains. */
static inline size_t redio_connection_queued(const redio_connection *c) {
  size_t unsent = redio_connection_unsent(c);
  return unsent ? unsent + c->piece_bytes - c->cut_bytes : 0;
}
/* Returns the unsent bytes, without pieces. To be called after `tidy`. */
static inline const char *redio_connection_output(const redio_connection *c) {
  return redio_buf_head(&c->out) + (c->sent - c->origin);
}

/* Marks the output as sent. To be called after `tidy`. */
void redio_connection_sent(redio_connection *c);

/* Returns 1 when the chain's bytes were given out. */
int redio_connection_was_sent(const redio_connection *c, uint32_t slot);

/* Returns the expected replies of the first chain, from its first on. */
static inline const redio_expect *redio_connection_entries(const redio_connection *c) {
  return (const redio_expect *)(const void *)redio_buf_head(&c->expects);
}
/* Returns the expected reply for the reply at the decoder's head. */
static inline const redio_expect *redio_connection_expected(const redio_connection *c) {
  return redio_connection_entries(c) + c->taken;
}

/* Counts the reply at the decoder's head as taken by the first chain. */
void redio_connection_took(redio_connection *c);

/* Frees the memory that only much traffic needs. To be called when nothing is in flight. */
void redio_connection_rest(redio_connection *c);

/* Returns 1 when the first chain's commands can be recovered. */
int redio_connection_keeps(const redio_connection *c);
/* Puts the first chain's commands into an empty pipeline. Returns 0, or -1 when memory is out. */
int redio_connection_recover(redio_connection *c, redio_pipeline *p);

/* Removes the first chain, finished or not. */
void redio_connection_pop(redio_connection *c);

static inline redio_chain *redio_connection_first(const redio_connection *c) {
  return c->first == REDIO_NO_CHAIN ? NULL : c->chains + c->first;
}

#endif
