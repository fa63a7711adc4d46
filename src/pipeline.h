/* SPDX-License-Identifier: MIT */
/* Queued commands: RESP requests in a growable buffer, and the expected replies.
 *
 * A command is written between `open` and `close`. The next `open` drops a command that was opened
 * and never closed (an argument could not be encoded, memory ran out). Large arguments are not
 * copied: they are pieces. A piece's bytes belong to the caller, and its `ref` tells the caller
 * what to release with the piece.
 *
 * The pipeline also follows MULTI: inside a transaction the server answers +QUEUED, and EXEC
 * answers for all. */
#ifndef REDIO_PIPELINE_H
#define REDIO_PIPELINE_H

#include "buf.h"
#include "command.h"
#include "shape.h"

/* From this size on an argument travels as its own piece. */
#define REDIO_PIECE_MIN (16 * 1024)

typedef struct redio_arg {
  const char *s;
  size_t len;
} redio_arg;

/* An expected reply. EXEC's is followed by a count and as many entries for the elements of its
 * array. */
typedef union redio_expect {
  struct {
    unsigned char shape;
    unsigned char unused;
    uint16_t id;
  } reply;
  uint32_t count;
} redio_expect;

/* Returns the number of entries of a reply. */
static inline size_t redio_expect_entries(const redio_expect *e) {
  return redio_shapes[e->reply.shape]->kind == REDIO_SHAPE_EXEC ? 2 + (size_t)e[1].count : 1;
}

typedef struct redio_piece {
  size_t at; /* the byte of `out` before which it is sent */
  const char *data;
  size_t len;
  int ref;
} redio_piece;

typedef struct redio_pieces {
  redio_piece *list;
  size_t count, cap;
  size_t spare; /* pieces behind the last one of which only the refs count */
} redio_pieces;

/* State that commands have left on their connection. */
enum { REDIO_LEFT_DATABASE = 1, REDIO_LEFT_NAME = 2, REDIO_LEFT_OTHER = 4 };

typedef struct redio_session {
  uint32_t queued_from;   /* the open transaction's first entry in `queued` */
  uint32_t queued;        /* number of its entries */
  unsigned char in_multi; /* MULTI is open */
  unsigned char watching; /* a WATCH is in force */
  unsigned char dirty;    /* the connection carries state of its own: REDIO_LEFT_... */
  unsigned char muted;    /* CLIENT REPLY OFF */
  unsigned char skip;     /* CLIENT REPLY SKIP: the next command has no reply */
} redio_session;

typedef struct redio_pipeline {
  const void *tag;
  const void *owner; /* the coroutine that queued the first command; only ever compared */
  redio_buf out;
  redio_buf expects; /* redio_expect */
  redio_buf queued;  /* redio_expect of the commands queued since MULTI */
  redio_pieces pieces;
  size_t closed_out, closed_pieces; /* where the last complete command ends */
  size_t commands;                  /* complete ones */
  size_t replies;                   /* replies due to complete commands */
  size_t values;                    /* replies that can be results */
  size_t piece_bytes;
  uint32_t flags;     /* of any command */
  uint32_t all_flags; /* of every command */
  uint16_t first_id;
  unsigned char quiet; /* no warning when it is collected with commands */
  unsigned char submitted;
  redio_session now, base; /* after and before the queued commands */
} redio_pipeline;

void redio_pipeline_init(redio_pipeline *p, const void *tag);
/* The caller releases the refs of `pieces` first. */
void redio_pipeline_free(redio_pipeline *p);

/* Returns 1 when the commands need a connection of their own: they may wait on the server, or leave
 * state behind. A whole transaction, MULTI to EXEC, does not: it is contiguous. */
int redio_pipeline_is_private(const redio_pipeline *p);

/* Returns the reason why this command cannot be queued now, or NULL. */
const char *redio_pipeline_refuses(const redio_pipeline *p, const redio_command *c);

/* Each returns 0, or -1 when memory is out. */
int redio_pipeline_open(redio_pipeline *p, const redio_command *c, unsigned args);
int redio_pipeline_arg(redio_pipeline *p, const char *s, size_t len);
int redio_pipeline_piece(redio_pipeline *p, const char *s, size_t len, int ref);
/* `reply_arg`: CLIENT REPLY's only argument, else NULL. */
int redio_pipeline_close(redio_pipeline *p, const redio_command *c, unsigned char shape,
                         const char *reply_arg);

/* The fast path for open, arg and close: writes a command that changes no session, with all its
 * arguments, which are `bytes` long together. Returns 0; -1 when memory is out; or 1 when the
 * command or the session needs the single steps. */
int redio_pipeline_plain(redio_pipeline *p, const redio_command *c, const redio_arg *args,
                         unsigned count, size_t bytes);

/* Puts MULTI in front of the queued commands, which must not belong to a transaction yet. Returns
 * 0, or -1 when memory is out. */
int redio_pipeline_wrap(redio_pipeline *p, const redio_command *multi);

/* Puts encoded commands and their expected replies into an empty pipeline. Returns 0, or -1 when
 * memory is out. */
int redio_pipeline_restore(redio_pipeline *p, const char *out, size_t len, const redio_expect *e,
                           const redio_expect *end, int readonly);

/* Returns 1 when the coroutine owns the pipeline: it has queued the first command. A pipeline
 * without commands becomes its own. */
static inline int redio_pipeline_claim(redio_pipeline *p, const void *coroutine) {
  if (p->owner == coroutine)
    return 1;
  if (p->owner && p->commands)
    return 0;
  p->owner = coroutine;
  return 1;
}

/* Drops the queued commands. */
void redio_pipeline_clear(redio_pipeline *p);
/* Drops the queued commands after they were sent and answered: the session goes on where they have
 * left it. */
void redio_pipeline_settle(redio_pipeline *p);
/* Makes the pipeline as new; keeps small buffers. */
void redio_pipeline_reset(redio_pipeline *p);

/* Appends a piece. Returns 0, or -1 when memory is out. */
int redio_pieces_add(redio_pieces *list, redio_piece piece);

#endif
