/* SPDX-License-Identifier: MIT */
/* Commands on their way out: RESP requests in a growable buffer, and what each expects in return.
 *
 * A command is written between `open` and `close`; what was opened and never closed (an argument
 * could not be encoded, memory ran out) is dropped by the next `open`. Large arguments are not
 * copied: they are pieces, whose bytes belong to whoever made the command and who is told by `ref`
 * when they may go.
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

/* One reply to come. EXEC's is followed by a count and as many entries for the elements of its
 * array. */
typedef union redio_expect {
  struct {
    unsigned char shape;
    unsigned char unused;
    uint16_t id;
  } reply;
  uint32_t count;
} redio_expect;

/* How many entries a reply has. */
static inline size_t redio_expect_entries(const redio_expect *e) {
  return redio_shapes[e->reply.shape]->kind == REDIO_SHAPE_EXEC ? 2 + (size_t)e[1].count : 1;
}

typedef struct redio_piece {
  size_t at; /* stands before this byte of `out` */
  const char *data;
  size_t len;
  int ref;
} redio_piece;

typedef struct redio_pieces {
  redio_piece *list;
  size_t count, cap;
  size_t spare; /* refs that are behind the last piece already */
} redio_pieces;

/* What commands have left on their connection. */
enum { REDIO_LEFT_DATABASE = 1, REDIO_LEFT_NAME = 2, REDIO_LEFT_OTHER = 4 };

typedef struct redio_session {
  uint32_t queued_from;   /* the open transaction's first entry in `queued` */
  uint32_t queued;        /* how many it has */
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
  size_t replies;                   /* that they will bring */
  size_t values;                    /* of these, those that can be results */
  size_t piece_bytes;
  uint32_t flags;     /* of all of them */
  uint32_t all_flags; /* that every one of them has */
  uint16_t first_id;
  unsigned char quiet; /* nobody is told when it is dropped with commands */
  unsigned char submitted;
  redio_session now, base; /* after the queued commands; before them */
} redio_pipeline;

void redio_pipeline_init(redio_pipeline *p, const void *tag);
/* The owner gives back the refs of `pieces` first. */
void redio_pipeline_free(redio_pipeline *p);

/* Whether it needs a connection of its own: it may wait on the server, or leaves state behind that
 * its own commands do not undo. MULTI to EXEC awaited whole does not: it is contiguous. */
int redio_pipeline_is_private(const redio_pipeline *p);

/* Why this command cannot be queued now, or NULL. */
const char *redio_pipeline_refuses(const redio_pipeline *p, const redio_command *c);

/* Each: 0, or -1 when memory is out. */
int redio_pipeline_open(redio_pipeline *p, const redio_command *c, unsigned args);
int redio_pipeline_arg(redio_pipeline *p, const char *s, size_t len);
int redio_pipeline_piece(redio_pipeline *p, const char *s, size_t len, int ref);
/* `reply_arg`: CLIENT REPLY's only argument, else NULL. */
int redio_pipeline_close(redio_pipeline *p, const redio_command *c, unsigned char shape,
                         const char *reply_arg);

/* The same in one step for a command that is nothing special in a session that is not, as most are:
 * all its arguments, `bytes` long together, are copied. 0, -1 when memory is out, or 1: it takes
 * the usual steps. */
int redio_pipeline_plain(redio_pipeline *p, const redio_command *c, const redio_arg *args,
                         unsigned count, size_t bytes);

/* MULTI in front of what is queued, none of which belongs to a transaction yet. 0, or -1 when
 * memory is out. */
int redio_pipeline_wrap(redio_pipeline *p, const redio_command *multi);

/* Commands as they were once written, and what they expect: 0, or -1 when memory is out. */
int redio_pipeline_restore(redio_pipeline *p, const char *out, size_t len, const redio_expect *e,
                           const redio_expect *end, int readonly);

/* Whether that coroutine may go on with what is queued: it queued the first command, or none is
 * queued yet, and then the pipeline is its own from now on. */
static inline int redio_pipeline_claim(redio_pipeline *p, const void *coroutine) {
  if (p->owner == coroutine)
    return 1;
  if (p->owner && p->commands)
    return 0;
  p->owner = coroutine;
  return 1;
}

/* Forgets the queued commands, as if they had never been called. */
void redio_pipeline_clear(redio_pipeline *p);
/* They were sent and answered: starts the next chain where this one left the session. */
void redio_pipeline_settle(redio_pipeline *p);
/* Back to new; keeps small buffers. */
void redio_pipeline_reset(redio_pipeline *p);

int redio_pieces_add(redio_pieces *list, redio_piece piece);

#endif
