/* SPDX-License-Identifier: MIT */
/* Commands into a pipeline, beside a model of it. The output decodes to the same arguments, and the
 * expected replies are those of a model of the server, MULTI and CLIENT REPLY included. Some
 * commands take the fast path.
 *
 * Input: choices. */
#include "pipeline.h"
#include "decoder.h"
#include "fuzz.h"
#include "shape.h"
#include "steps.h"
#include "token.h"

enum { GET, MULTI, EXEC, DISCARD, WATCH, UNWATCH, SELECT, REPLY, PUBLISH, BLPOP, SUBSCRIBE, KINDS };

static const struct {
  const char *words[2];
  uint32_t flags;
} kinds[KINDS] = {
    {{"GET", NULL}, REDIO_READONLY},
    {{"MULTI", NULL}, REDIO_MULTI},
    {{"EXEC", NULL}, REDIO_EXEC},
    {{"DISCARD", NULL}, REDIO_DISCARD},
    {{"WATCH", NULL}, REDIO_WATCH},
    {{"UNWATCH", NULL}, REDIO_UNWATCH},
    {{"SELECT", NULL}, REDIO_STATE},
    {{"CLIENT", "REPLY"}, REDIO_MUTE | REDIO_STATE},
    {{"PUBLISH", NULL}, 0},
    {{"BLPOP", NULL}, REDIO_BLOCKING},
    {{"SSUBSCRIBE", NULL}, REDIO_SILENT | REDIO_NOMULTI},
};

static const char *const reply_words[] = {"ON", "off", "Skip", "never", NULL};

/* For a byte of the input and for eight that are copied, usually 11 at most. */
enum { STEPS = 60 };

enum { MOST = 64, MOST_ARGS = 6 };

typedef struct model_command {
  int kind, count;
  const char *args[MOST_ARGS];
  size_t lens[MOST_ARGS];
} model_command;

typedef struct session {
  int in_multi, muted, skip, watching;
  uint16_t queued[4096]; /* ids */
  int queued_count;
} session;

typedef struct model {
  model_command commands[MOST];
  int count;
  session before, after;
} model;

/* Room for a command and its words, aligned. */
typedef union words {
  size_t alignment;
  char room[sizeof(redio_command) + 64];
} words;

static char text[2 * REDIO_PIECE_MIN];

static redio_command *command_of(words *w, int kind) {
  redio_command *c = (redio_command *)(void *)w->room;
  int i;
  memset(w, 0, sizeof *w);
  c->flags = kinds[kind].flags;
  c->id = (uint16_t)(kind + 1);
  c->shape = (unsigned char)(kind == EXEC ? redio_shape_find("exec") : kind % 3 + 2);
  for (i = 0; i < 2 && kinds[kind].words[i]; i++) {
    const char *word = kinds[kind].words[i];
    c->words_len += (size_t)sprintf(c->words + c->words_len, "$%zu\r\n%s\r\n", strlen(word), word);
    c->words_count++;
  }
  return c;
}

/* The server's side: changes the session; returns 1 when the command is answered. */
static int serve(session *s, const model_command *m) {
  int answered = !s->muted && !s->skip, skipped = s->skip;
  s->skip = 0;
  if (m->kind == SUBSCRIBE) {
    s->skip = skipped; /* messages are no replies; a muted session does not subscribe */
    return 0;
  }
  if (m->kind == REPLY && m->count == 1) {
    const char *word = m->args[0];
    if (word == reply_words[0]) {
      s->muted = 0;
      return 1;
    }
    if (word == reply_words[1])
      s->muted = 1;
    if (word == reply_words[2])
      s->skip = !s->muted;
    return answered && word == reply_words[3];
  }
  if (m->kind == MULTI) {
    s->in_multi = 1;
    s->queued_count = 0;
  } else if (m->kind == EXEC || m->kind == DISCARD) {
    s->in_multi = s->watching = 0;
  } else if (m->kind == UNWATCH && !s->in_multi) {
    s->watching = 0;
  } else if (m->kind == WATCH) {
    s->watching = 1;
  } else if (s->in_multi && answered) {
    s->queued[s->queued_count++] = (uint16_t)(m->kind + 1);
  }
  return answered;
}

static int is_refused(const session *s, int kind) {
  if (s->in_multi)
    return kind == MULTI || kind == WATCH || kind == REPLY || kind == SUBSCRIBE;
  return kind == EXEC || kind == DISCARD;
}

/* Feeds all complete commands, with their pieces, to the decoder. */
static void gather(const redio_pipeline *p, redio_decoder *d) {
  size_t i, at = 0;
  for (i = 0; i < p->closed_pieces; i++) {
    const redio_piece *piece = p->pieces.list + i;
    REQUIRE(piece->at >= at && piece->at <= p->closed_out);
    redio_decoder_feed(d, redio_buf_head(&p->out) + at, piece->at - at);
    redio_decoder_feed(d, piece->data, piece->len);
    at = piece->at;
  }
  redio_decoder_feed(d, p->closed_out ? redio_buf_head(&p->out) + at : "", p->closed_out - at);
}

static const char *same_word(const char *p, const char *s, size_t len) {
  redio_token t;
  p = redio_token_next(p, &t);
  REQUIRE(t.type == '$' && t.len == len && !memcmp(t.s, s, len));
  return p;
}

static void check_output(const redio_pipeline *p, const model *m) {
  redio_decoder d;
  int i, k;
  redio_decoder_init(&d, NULL);
  gather(p, &d);
  for (i = 0; i < m->count; i++) {
    const model_command *c = m->commands + i;
    const char *const *w = kinds[c->kind].words;
    const char *at;
    redio_token t;
    REQUIRE(redio_decoder_next(&d) == REDIO_VALUE);
    at = redio_token_next(redio_buf_head(&d.in), &t);
    REQUIRE(t.type == '*' && t.count == (unsigned)c->count + (w[1] ? 2 : 1));
    for (k = 0; k < 2 && w[k]; k++)
      at = same_word(at, w[k], strlen(w[k]));
    for (k = 0; k < c->count; k++)
      at = same_word(at, c->args[k], c->lens[k]);
    redio_decoder_consume(&d);
  }
  REQUIRE(redio_decoder_next(&d) == REDIO_NEED_MORE && redio_buf_len(&d.in) == 0);
  redio_decoder_free(&d);
}

static const redio_expect *check_exec(const redio_expect *e, const session *s) {
  int i;
  REQUIRE((e++)->count == (uint32_t)s->queued_count);
  for (i = 0; i < s->queued_count; i++)
    REQUIRE((e++)->reply.id == s->queued[i]);
  return e;
}

static void check_expects(const redio_pipeline *p, const model *m) {
  session s = m->before;
  const redio_expect *e = (const redio_expect *)(const void *)redio_buf_head(&p->expects);
  size_t replies = 0;
  int i;
  for (i = 0; i < m->count; i++) {
    const model_command *c = m->commands + i;
    int in_multi = s.in_multi;
    if (!serve(&s, c))
      continue;
    replies++;
    REQUIRE(e->reply.id == c->kind + 1);
    REQUIRE((e->reply.shape == REDIO_SHAPE_INDEX_QUEUED) ==
            (in_multi && c->kind != EXEC && c->kind != DISCARD));
    e++;
    if (c->kind == EXEC)
      e = check_exec(e, &s);
  }
  REQUIRE(replies == p->replies);
  REQUIRE((size_t)((const char *)e - redio_buf_head(&p->expects)) == redio_buf_len(&p->expects));
  REQUIRE(p->commands == (size_t)m->count);
  REQUIRE(p->now.in_multi == s.in_multi && p->now.muted == s.muted);
  /* inside MULTI it does not matter: EXEC ends it */
  REQUIRE(p->now.skip == s.skip && (s.in_multi || p->now.watching == s.watching));
}

static void choose_arguments(choices *in, model_command *m) {
  int i;
  m->count = (int)pick(in, MOST_ARGS);
  if (m->kind == REPLY) {
    m->count = 1;
    m->args[0] = reply_words[pick(in, 4)];
    m->lens[0] = strlen(m->args[0]);
    return;
  }
  for (i = 0; i < m->count; i++) {
    unsigned size = pick(in, 256);
    m->args[i] = text + pick(in, 256);
    m->lens[i] = size < 252 ? size : REDIO_PIECE_MIN + size;
  }
}

/* Writes a command by the fast path, as the binding does; returns 0 when it does not take it. */
static int write_plain(redio_pipeline *p, const redio_command *c, const model_command *m) {
  redio_arg args[MOST_ARGS];
  size_t bytes = 0;
  int i, status;
  for (i = 0; i < m->count; i++) {
    if (m->lens[i] >= REDIO_PIECE_MIN)
      return 0;
    args[i].s = m->args[i];
    args[i].len = m->lens[i];
    bytes += m->lens[i];
  }
  steps_allow(bytes / 8); /* for the copy */
  status = redio_pipeline_plain(p, c, args, (unsigned)m->count, bytes);
  REQUIRE(status >= 0);
  return status == 0;
}

/* Returns 0 when the command was left unfinished, as happens at an argument that cannot be sent. */
static int write_command(choices *in, redio_pipeline *p, const redio_command *c,
                         const model_command *m) {
  int i, leave = pick(in, 16) == 1;
  if (pick(in, 2) && write_plain(p, c, m))
    return 1;
  REQUIRE(redio_pipeline_open(p, c, (unsigned)m->count) == 0);
  for (i = 0; i < m->count; i++) {
    int failed = m->lens[i] >= REDIO_PIECE_MIN || m->lens[i] == 3
                     ? redio_pipeline_piece(p, m->args[i], m->lens[i], i)
                     : redio_pipeline_arg(p, m->args[i], m->lens[i]);
    REQUIRE(failed == 0);
    steps_allow(m->lens[i] / 8); /* for the copy */
  }
  if (leave)
    return 0;
  REQUIRE(redio_pipeline_close(p, c, c->shape, m->kind == REPLY ? m->args[0] : NULL) == 0);
  return 1;
}

static void add_command(choices *in, redio_pipeline *p, model *m) {
  words w;
  model_command *mc = m->commands + m->count;
  const redio_command *c;
  mc->kind = (int)pick(in, KINDS);
  c = command_of(&w, mc->kind);
  choose_arguments(in, mc);
  REQUIRE((redio_pipeline_refuses(p, c) != NULL) == is_refused(&m->after, mc->kind));
  if (m->count == MOST - 1 || m->after.queued_count == 4096 || is_refused(&m->after, mc->kind))
    return;
  p->pieces.count = p->closed_pieces; /* as the binding does: unfinished pieces have no refs */
  if (!write_command(in, p, c, mc))
    return;
  serve(&m->after, mc);
  m->count++;
}

/* Puts MULTI in front where the binding allows it. */
static void wrap(redio_pipeline *p, model *m) {
  const uint32_t own = REDIO_MULTI | REDIO_EXEC | REDIO_DISCARD | REDIO_WATCH | REDIO_NOMULTI |
                       REDIO_MUTE | REDIO_SILENT;
  words w;
  int i;
  if (p->now.in_multi || p->flags & own || m->before.muted || m->before.skip || m->count == 0)
    return;
  p->pieces.count = p->closed_pieces;
  p->out.tail = p->out.head + p->closed_out;
  REQUIRE(redio_pipeline_wrap(p, command_of(&w, MULTI)) == 0);
  memmove(m->commands + 1, m->commands, (size_t)m->count * sizeof *m->commands);
  m->commands[0].kind = MULTI;
  m->commands[0].count = 0;
  m->count++;
  m->after = m->before;
  for (i = 0; i < m->count; i++)
    serve(&m->after, m->commands + i);
}

static void check(const redio_pipeline *p, const model *m) {
  steps_pause();
  check_output(p, m);
  check_expects(p, m);
  steps_go_on();
}

static void step(choices *in, redio_pipeline *p, model *m) {
  unsigned what = pick(in, 24);
  if (what >= 1 && what <= 4)
    check(p, m);
  switch (what) {
  case 1:
    redio_pipeline_clear(p);
    m->after = m->before;
    m->count = 0;
    break;
  case 2:
    redio_pipeline_settle(p);
    m->before = m->after;
    m->count = 0;
    break;
  case 3:
    redio_pipeline_reset(p);
    memset(&m->before, 0, sizeof m->before);
    m->after = m->before;
    m->count = 0;
    break;
  case 4:
    if (m->count < MOST - 1)
      wrap(p, m);
    break;
  default:
    add_command(in, p, m);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static model m;
  choices in = {data, data + size};
  redio_pipeline p;
  size_t i;
  for (i = text[1] ? sizeof text : 0; i < sizeof text; i++)
    text[i] = (char)(i * 31 + i / 256);
  memset(&m, 0, sizeof m);
  steps_begin(STEPS);
  steps_allow(size);
  redio_pipeline_init(&p, &p);
  while (!is_over(&in))
    step(&in, &p, &m);
  check(&p, &m);
  redio_pipeline_free(&p);
  steps_end();
  return 0;
}
