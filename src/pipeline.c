/* SPDX-License-Identifier: MIT */
/* Specs: unit/fast_paths, promises/18, fuzz/pipeline */
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "number.h"

void redio_pipeline_init(redio_pipeline *p, const void *tag) {
  memset(p, 0, sizeof *p);
  p->tag = tag;
  p->all_flags = ~(uint32_t)0;
}

void redio_pipeline_free(redio_pipeline *p) {
  redio_buf_free(&p->out);
  redio_buf_free(&p->expects);
  redio_buf_free(&p->queued);
  free(p->pieces.list);
  redio_pipeline_init(p, p->tag);
}

int redio_pieces_add(redio_pieces *list, redio_piece piece) {
  if (list->count == list->cap) {
    size_t cap = list->cap ? list->cap * 2 : 4;
    redio_piece *grown = realloc(list->list, cap * sizeof *grown);
    if (!grown)
      return -1;
    list->list = grown;
    list->cap = cap;
  }
  list->list[list->count++] = piece;
  return 0;
}

const char *redio_pipeline_refuses(const redio_pipeline *p, const redio_command *c) {
  const redio_session *s = &p->now;
  if (c->flags & REDIO_AUTH && p->commands)
    return "begin a chain with it: when it fails behind other commands, servers of 7.2 to 8 do not "
           "answer it, and what follows would get the wrong replies";
  if (s->in_multi) {
    if (c->flags & REDIO_MULTI)
      return "MULTI inside MULTI: finish with EXEC or DISCARD first";
    if (c->flags & REDIO_WATCH)
      return "WATCH inside MULTI: watch keys before the transaction";
    if (c->flags & (REDIO_NOMULTI | REDIO_MUTE))
      return "not inside MULTI: its reply could not be told from the others";
  } else {
    if (c->flags & REDIO_EXEC)
      return "EXEC without MULTI";
    if (c->flags & REDIO_DISCARD)
      return "DISCARD without MULTI";
  }
  return NULL;
}

int redio_pipeline_is_private(const redio_pipeline *p) {
  const uint32_t flags =
      REDIO_BLOCKING | REDIO_STATE | REDIO_WATCH | REDIO_UNWATCH | REDIO_MUTE | REDIO_PRIVATE;
  return (p->flags & flags) != 0 || p->now.in_multi;
}

/* Writes "$5\r\n" or "*5\r\n"; returns its end. */
static char *write_header(char *to, char type, size_t n) {
  *to++ = type;
  if (n < 10)
    *to++ = (char)('0' + n);
  else
    to += redio_write_unsigned(to, n);
  *to++ = '\r';
  *to++ = '\n';
  return to;
}

static char *write_string(char *to, const char *s, size_t len) {
  to = write_header(to, '$', len);
  memcpy(to, s, len);
  to += len;
  *to++ = '\r';
  *to++ = '\n';
  return to;
}

int redio_pipeline_open(redio_pipeline *p, const redio_command *c, unsigned args) {
  char *to;
  p->out.tail = p->out.head + p->closed_out;
  to = redio_buf_reserve(&p->out, c->words_len + REDIO_NUMBER_MAX);
  if (!to)
    return -1;
  to = write_header(to, '*', (size_t)c->words_count + args);
  memcpy(to, c->words, c->words_len);
  p->out.tail = (size_t)(to + c->words_len - p->out.data);
  return 0;
}

int redio_pipeline_arg(redio_pipeline *p, const char *s, size_t len) {
  char *to = redio_buf_reserve(&p->out, len + REDIO_NUMBER_MAX);
  if (!to)
    return -1;
  p->out.tail = (size_t)(write_string(to, s, len) - p->out.data);
  return 0;
}

int redio_pipeline_piece(redio_pipeline *p, const char *s, size_t len, int ref) {
  redio_piece piece = {0, s, len, ref};
  char *to = redio_buf_reserve(&p->out, 2 * REDIO_NUMBER_MAX);
  if (!to)
    return -1;
  to = write_header(to, '$', len);
  piece.at = (size_t)(to - redio_buf_head(&p->out));
  if (redio_pieces_add(&p->pieces, piece))
    return -1;
  *to++ = '\r';
  *to++ = '\n';
  p->out.tail = (size_t)(to - p->out.data);
  return 0;
}

/* Follows CLIENT REPLY; returns 1 when it is answered itself. ON is, OFF and SKIP are not. Any
 * other argument is an error, which comes if replies do (`heard`). */
static int follow_reply(redio_session *s, const char *arg, int heard) {
  if (redio_is_word("OFF", 3, arg, strlen(arg))) {
    s->muted = 1;
    return 0;
  }
  if (redio_is_word("SKIP", 4, arg, strlen(arg))) {
    s->skip = !s->muted;
    return 0;
  }
  if (!redio_is_word("ON", 2, arg, strlen(arg)))
    return heard;
  s->muted = 0;
  return 1;
}

/* Follows CLIENT REPLY and its effects; returns 1 when the command is answered. */
static int is_answered(redio_session *s, const redio_command *c, const char *reply_arg) {
  int heard = !s->muted && !s->skip;
  if (c->flags & REDIO_SILENT)
    return 0;
  s->skip = 0;
  return reply_arg ? follow_reply(s, reply_arg, heard) : heard;
}

static unsigned char left_by(uint32_t flags) {
  if (flags & REDIO_DATABASE)
    return REDIO_LEFT_DATABASE;
  return flags & REDIO_NAME ? REDIO_LEFT_NAME : REDIO_LEFT_OTHER;
}

static void follow_session(redio_session *s, uint32_t flags) {
  if (flags & REDIO_MULTI) {
    s->in_multi = 1;
    s->queued_from += s->queued;
    s->queued = 0;
  }
  if (flags & REDIO_WATCH)
    s->watching = 1;
  if (flags & REDIO_STATE)
    s->dirty |= left_by(flags);
  if (flags & (REDIO_EXEC | REDIO_DISCARD))
    s->in_multi = s->watching = 0;
  if (flags & REDIO_UNWATCH && !s->in_multi)
    s->watching = 0;
}

static void count_reply(redio_pipeline *p, unsigned char shape) {
  redio_shape_kind kind = redio_shapes[shape]->kind;
  p->replies++;
  p->values += kind != REDIO_SHAPE_NOTHING && kind != REDIO_SHAPE_QUEUED;
}

static int expect(redio_pipeline *p, unsigned char shape, uint16_t id) {
  redio_expect e;
  e.count = 0;
  e.reply.shape = shape;
  e.reply.id = id;
  if (redio_buf_append(&p->expects, &e, sizeof e))
    return -1;
  count_reply(p, shape);
  return 0;
}

/* Expects a command's reply inside MULTI: +QUEUED now, and its own shape in EXEC's array. */
static int expect_queued(redio_pipeline *p, unsigned char shape, uint16_t id) {
  redio_expect e;
  e.count = 0;
  e.reply.shape = shape;
  e.reply.id = id;
  p->queued.tail = p->queued.head + (p->now.queued_from + p->now.queued) * sizeof e;
  if (redio_buf_append(&p->queued, &e, sizeof e))
    return -1;
  p->now.queued++;
  return expect(p, REDIO_SHAPE_INDEX_QUEUED, id);
}

static int expect_exec(redio_pipeline *p, unsigned char shape, uint16_t id) {
  redio_expect e;
  const char *queued = redio_buf_head(&p->queued);
  e.count = p->now.queued;
  if (expect(p, shape, id) || redio_buf_append(&p->expects, &e, sizeof e))
    return -1;
  if (!e.count)
    return 0;
  return redio_buf_append(&p->expects, queued + p->now.queued_from * sizeof e, e.count * sizeof e);
}

static int expect_command(redio_pipeline *p, const redio_command *c, unsigned char shape) {
  if (c->flags & REDIO_EXEC)
    return expect_exec(p, shape, c->id);
  if (p->now.in_multi && !(c->flags & REDIO_DISCARD))
    return expect_queued(p, shape, c->id);
  return expect(p, shape, c->id);
}

/* Returns 1 when the command changes no session and the session is as at the beginning. */
static int is_usual(const redio_pipeline *p, const redio_command *c) {
  const uint32_t flags = REDIO_MULTI | REDIO_EXEC | REDIO_DISCARD | REDIO_WATCH | REDIO_UNWATCH |
                         REDIO_STATE | REDIO_MUTE | REDIO_SILENT;
  return !(c->flags & flags) && !(p->now.in_multi | p->now.muted | p->now.skip);
}

/* Makes the session and the expected replies those after the command. Returns 0, or -1 when memory
 * is out. */
static int follow(redio_pipeline *p, const redio_command *c, unsigned char shape,
                  const char *reply_arg) {
  redio_session before = p->now;
  size_t expects = redio_buf_len(&p->expects), replies = p->replies, values = p->values;
  if (is_answered(&p->now, c, reply_arg) && expect_command(p, c, shape)) {
    p->now = before;
    p->expects.tail = p->expects.head + expects;
    p->replies = replies;
    p->values = values;
    return -1;
  }
  follow_session(&p->now, c->flags);
  return 0;
}

static void count_command(redio_pipeline *p, const redio_command *c) {
  if (!p->commands)
    p->first_id = c->id;
  p->commands++;
  p->flags |= c->flags;
  p->all_flags &= c->flags;
  p->closed_out = redio_buf_len(&p->out);
}

int redio_pipeline_plain(redio_pipeline *p, const redio_command *c, const redio_arg *args,
                         unsigned count, size_t bytes) {
  char *to;
  unsigned i;
  if (!is_usual(p, c) || c->varies)
    return 1;
  p->out.tail = p->out.head + p->closed_out;
  to = redio_buf_reserve(&p->out, c->words_len + bytes + (count + 1) * REDIO_NUMBER_MAX);
  if (!to || expect(p, c->shape, c->id))
    return -1;
  to = write_header(to, '*', (size_t)c->words_count + count);
  memcpy(to, c->words, c->words_len);
  to += c->words_len;
  for (i = 0; i < count; i++)
    to = write_string(to, args[i].s, args[i].len);
  p->out.tail = (size_t)(to - p->out.data);
  count_command(p, c);
  return 0;
}

static void count_pieces(redio_pipeline *p) {
  while (p->closed_pieces < p->pieces.count)
    p->piece_bytes += p->pieces.list[p->closed_pieces++].len;
}

int redio_pipeline_close(redio_pipeline *p, const redio_command *c, unsigned char shape,
                         const char *reply_arg) {
  if (is_usual(p, c) ? expect(p, shape, c->id) : follow(p, c, shape, reply_arg))
    return -1;
  if (p->closed_pieces < p->pieces.count)
    count_pieces(p);
  count_command(p, c);
  return 0;
}

/* Makes +QUEUED the replies of the queued commands, and puts their own shapes aside for EXEC. */
static int queue_expects(redio_pipeline *p) {
  redio_expect *e = (redio_expect *)(void *)redio_buf_head(&p->expects);
  size_t i;
  if (redio_buf_append(&p->queued, e, p->replies * sizeof *e))
    return -1;
  for (i = 0; i < p->replies; i++)
    e[i].reply.shape = REDIO_SHAPE_INDEX_QUEUED;
  return 0;
}

static void insert_front(redio_buf *b, const void *bytes, size_t n) {
  char *head = redio_buf_head(b);
  memmove(head + n, head, redio_buf_len(b));
  memcpy(head, bytes, n);
  b->tail += n;
}

int redio_pipeline_wrap(redio_pipeline *p, const redio_command *multi) {
  char words[64];
  redio_expect e;
  size_t i, n = (size_t)(write_header(words, '*', multi->words_count) - words);
  memcpy(words + n, multi->words, multi->words_len);
  n += multi->words_len;
  e.count = 0;
  e.reply.shape = multi->shape;
  e.reply.id = multi->id;
  if (!redio_buf_reserve(&p->out, n) || !redio_buf_reserve(&p->expects, sizeof e))
    return -1;
  p->queued.tail = p->queued.head;
  if (queue_expects(p))
    return -1;
  insert_front(&p->out, words, n);
  insert_front(&p->expects, &e, sizeof e);
  for (i = 0; i < p->pieces.count; i++)
    p->pieces.list[i].at += n;
  p->closed_out += n;
  p->now.in_multi = 1;
  p->now.queued_from = 0;
  p->now.queued = (uint32_t)p->replies;
  p->replies++;
  p->commands++;
  p->values = 0;
  p->flags |= multi->flags;
  p->all_flags &= multi->flags;
  return 0;
}

int redio_pipeline_restore(redio_pipeline *p, const char *out, size_t len, const redio_expect *e,
                           const redio_expect *end, int readonly) {
  if (redio_buf_append(&p->out, out, len))
    return -1;
  if (redio_buf_append(&p->expects, e, (size_t)(end - e) * sizeof *e)) {
    redio_pipeline_clear(p);
    return -1;
  }
  for (; e < end; e += redio_expect_entries(e))
    count_reply(p, e->reply.shape);
  p->closed_out = len;
  p->commands = p->replies;
  p->submitted = 1; /* once before, so there is nothing to warn of */
  p->all_flags = readonly ? REDIO_READONLY : 0;
  return 0;
}

static void forget_commands(redio_pipeline *p) {
  redio_buf_consume(&p->out, redio_buf_len(&p->out));
  redio_buf_consume(&p->expects, redio_buf_len(&p->expects));
  p->closed_out = p->closed_pieces = p->commands = p->replies = p->values = p->piece_bytes = 0;
  p->pieces.count = 0;
  p->flags = 0;
  p->all_flags = ~(uint32_t)0;
  p->submitted = 0;
  p->owner = NULL;
}

void redio_pipeline_clear(redio_pipeline *p) {
  forget_commands(p);
  p->now = p->base;
}

void redio_pipeline_settle(redio_pipeline *p) {
  size_t done = p->now.queued_from + (p->now.in_multi ? 0 : p->now.queued);
  forget_commands(p);
  redio_buf_consume(&p->queued, done * sizeof(redio_expect));
  p->now.queued_from = 0;
  if (!p->now.in_multi)
    p->now.queued = 0;
  p->base = p->now;
}

void redio_pipeline_reset(redio_pipeline *p) {
  memset(&p->base, 0, sizeof p->base);
  redio_buf_consume(&p->queued, redio_buf_len(&p->queued));
  redio_pipeline_clear(p);
}
