/* SPDX-License-Identifier: MIT */
/* Chains over one connection to a model of a server that answers each command with its number.
 * Every chain finishes exactly once, in the order of submission and with its own replies, until the
 * connection is lost, whichever chains are dropped and however the bytes are split. A chain that is
 * dropped unsent no longer counts and leaves no trace in the output. A lost chain that was kept can
 * be recovered unchanged.
 *
 * Input: choices. */
#include "connection.h"
#include "fuzz.h"
#include "shape.h"
#include "steps.h"
#include "token.h"

/* For a byte of the input, usually 290 at most: a byte can stand for eight commands, which are
 * queued, submitted, answered and kept for another try. */
enum { STEPS = 800 };

enum { MOST_CHAINS = 2048, MOST_COMMANDS = 8 };

typedef struct expected_reply {
  uint32_t number;
  int kind; /* '$', 'E' for EXEC's array */
  uint32_t inner;
} expected_reply;

/* A part of a buffer. */
typedef struct span {
  size_t at, len;
} span;

typedef struct model_chain {
  uint32_t slot;
  span out, answers; /* in `out` and `unsent` of the model, until it is sent */
  int first_ref, refs;
  char *said;   /* its bytes, without pieces */
  size_t bytes; /* their number, with pieces */
  int kept, readonly;
  int dropped, cut, finished, turn;
  int replies;
  expected_reply reply[MOST_COMMANDS * 3];
} model_chain;

typedef struct model {
  redio_connection c;
  model_chain chains[MOST_CHAINS];
  int count;      /* submitted */
  int first;      /* not finished */
  uint32_t asked; /* commands so far */
  int turn, refs;
  int cuts;         /* chains that were dropped and are not cut out yet */
  size_t queued;    /* bytes to be sent */
  redio_buf out;    /* the expected output of the connection */
  redio_buf unsent; /* the replies to `out` */
  redio_buf wire;   /* the replies to output that was sent */
  unsigned char in_use[MOST_CHAINS];
} model;

/* Room for a command and its words, aligned. */
typedef union words {
  size_t alignment;
  char room[sizeof(redio_command) + 64];
} words;

static redio_command *command_of(words *w, uint32_t flags, const char *shape) {
  redio_command *c = (redio_command *)(void *)w->room;
  memset(w, 0, sizeof *w);
  c->flags = flags;
  c->shape = (unsigned char)redio_shape_find(shape);
  c->words_len = (size_t)sprintf(c->words, "$4\r\nECHO\r\n");
  c->words_count = 1;
  return c;
}

static void queue(redio_pipeline *p, uint32_t flags, const char *shape, uint32_t number) {
  words w;
  const redio_command *c = command_of(&w, flags, shape);
  char text[16];
  size_t len = (size_t)sprintf(text, "%u", (unsigned)number);
  REQUIRE(!redio_pipeline_refuses(p, c));
  REQUIRE(!redio_pipeline_open(p, c, 1));
  if (number % 5 == 0) /* the bytes of a piece are never read */
    REQUIRE(!redio_pipeline_piece(p, text, number % 3, 7));
  else
    REQUIRE(!redio_pipeline_arg(p, text, len));
  REQUIRE(!redio_pipeline_close(p, c, c->shape, NULL));
}

static void answer(model *m, const char *format, uint32_t number) {
  char text[64];
  REQUIRE(!redio_buf_append(&m->unsent, text, (size_t)sprintf(text, format, (unsigned)number)));
}

static void expect(model_chain *chain, int kind, uint32_t number, uint32_t inner) {
  expected_reply *r = chain->reply + chain->replies++;
  r->kind = kind;
  r->number = number;
  r->inner = inner;
}

static void add_transaction(choices *in, model *m, redio_pipeline *p, model_chain *chain) {
  uint32_t i, inner = pick(in, 4);
  queue(p, REDIO_MULTI, "nothing", ++m->asked);
  expect(chain, '+', 0, 0);
  answer(m, "+OK\r\n", 0);
  for (i = 0; i < inner; i++) {
    queue(p, 0, "name", ++m->asked);
    expect(chain, '+', 0, 0);
    answer(m, "+QUEUED\r\n", 0);
  }
  queue(p, REDIO_EXEC, "exec", ++m->asked);
  expect(chain, 'E', m->asked, inner);
  answer(m, "*%u\r\n", inner + 1);
  for (i = 0; i < inner + 1; i++)
    answer(m, ":%u\r\n", m->asked);
}

static void add_push(choices *in, model *m) {
  if (pick(in, 8) == 1)
    answer(m, ">2\r\n+invalidate\r\n:%u\r\n", 7);
}

static void add_commands(choices *in, model *m, redio_pipeline *p, model_chain *chain) {
  unsigned i, count = pick(in, MOST_COMMANDS);
  uint32_t reads = pick(in, 2) ? REDIO_READONLY : 0;
  for (i = 0; i < count; i++) {
    add_push(in, m);
    switch (pick(in, 6)) {
    case 1:
      if (chain->replies + 6 < MOST_COMMANDS * 3)
        add_transaction(in, m, p, chain);
      break;
    case 2:
      queue(p, REDIO_SILENT, "value", ++m->asked);
      break;
    case 3:
      queue(p, reads, "name", ++m->asked);
      expect(chain, '*', m->asked, 0);
      answer(m, "|1\r\n+ttl\r\n:1\r\n*2\r\n:%u\r\n*?\r\n.\r\n", m->asked);
      break;
    default:
      queue(p, reads, "value", ++m->asked);
      expect(chain, ':', m->asked, 0);
      answer(m, ":%u\r\n", m->asked);
    }
  }
}

static span append_span(redio_buf *b, const char *bytes, size_t len) {
  span added = {redio_buf_len(b), len};
  REQUIRE(!len || !redio_buf_append(b, bytes, len));
  return added;
}

static void submit(choices *in, model *m) {
  model_chain *chain = m->chains + m->count;
  redio_pipeline p;
  size_t i, pieces = m->c.pieces.count, answers = redio_buf_len(&m->unsent);
  uint32_t next;
  if (m->count == MOST_CHAINS || m->c.state != REDIO_READY)
    return;
  memset(chain, 0, sizeof *chain);
  redio_pipeline_init(&p, &p);
  add_commands(in, m, &p, chain);
  REQUIRE(redio_connection_reserve(&m->c, &p) == 0);
  next = redio_connection_next_slot(&m->c);
  for (i = 0; i < p.pieces.count; i++)
    m->c.pieces.list[pieces + i].ref = m->refs + (int)i;
  chain->first_ref = m->refs;
  chain->refs = (int)p.pieces.count;
  m->refs += chain->refs;
  chain->out = append_span(&m->out, redio_buf_head(&p.out), p.closed_out);
  chain->answers.at = answers;
  chain->answers.len = redio_buf_len(&m->unsent) - answers;
  chain->bytes = p.closed_out + p.piece_bytes;
  m->queued += chain->bytes;
  chain->kept = pick(in, 4) > 0;
  chain->readonly = (p.all_flags & REDIO_READONLY) != 0;
  chain->slot = redio_connection_submit(&m->c, &p, 0, chain->kept);
  chain->turn = m->turn;
  REQUIRE(p.submitted && m->c.pieces.count == pieces + p.pieces.count);
  for (i = 0; i < p.pieces.count; i++)
    REQUIRE(m->c.pieces.list[pieces + i].ref == chain->first_ref + (int)i);
  REQUIRE((chain->slot == REDIO_NO_CHAIN) == (chain->replies == 0));
  if (chain->slot != REDIO_NO_CHAIN) {
    REQUIRE(chain->slot == next && next < MOST_CHAINS && !m->in_use[next]);
    m->in_use[chain->slot] = 1;
    m->count++;
    chain->said = malloc(p.closed_out);
    REQUIRE(chain->said);
    memcpy(chain->said, redio_buf_head(&p.out), p.closed_out);
  }
  redio_pipeline_free(&p);
}

static void cut_span(redio_buf *b, span s) {
  char *from = b->data + b->head + s.at;
  memmove(from, from + s.len, redio_buf_len(b) - s.at - s.len);
  b->tail -= s.len;
}

/* Makes the model forget an unsent chain. */
static void forget(model *m, int which) {
  const model_chain gone = m->chains[which];
  int i;
  cut_span(&m->out, gone.out);
  cut_span(&m->unsent, gone.answers);
  free(gone.said);
  m->in_use[gone.slot] = 0;
  m->count--;
  for (i = which; i < m->count; i++) {
    m->chains[i] = m->chains[i + 1];
    m->chains[i].out.at -= gone.out.len;
    m->chains[i].answers.at -= gone.answers.len;
  }
}

/* The spare refs are those of the cut chains, each once. */
static void check_refs(model *m, size_t pieces) {
  redio_pieces *list = &m->c.pieces;
  int i, expected = 0;
  size_t n;
  REQUIRE(list->count + list->spare == pieces);
  for (i = m->first; i < m->count; i++) {
    const model_chain *chain = m->chains + i;
    int found = 0;
    for (n = 0; n < list->spare; n++)
      found += list->list[list->count + n].ref - chain->first_ref >= 0 &&
               list->list[list->count + n].ref - chain->first_ref < chain->refs;
    REQUIRE(found == (chain->cut ? chain->refs : 0));
    expected += found;
  }
  REQUIRE((size_t)expected == list->spare);
  list->spare = 0;
}

static void tidy(model *m) {
  size_t pieces = m->c.pieces.count;
  int i;
  if (!m->c.cuts)
    return;
  redio_connection_tidy(&m->c);
  check_refs(m, pieces);
  for (i = m->count - 1; i >= m->first; i--)
    if (m->chains[i].cut)
      forget(m, i);
  m->cuts = 0;
}

/* The chain behind another is found, also when that other one has gone. */
static void check_after(const model *m) {
  uint32_t slot = redio_connection_after(&m->c, m->c.last_sent, m->c.last_sent_number);
  int i = m->first;
  while (i < m->count && m->chains[i].turn != m->turn)
    i++;
  REQUIRE(slot == (i < m->count ? m->chains[i].slot : REDIO_NO_CHAIN));
}

static void send(model *m) {
  size_t i, at = 0;
  check_after(m);
  tidy(m);
  for (i = 0; i < m->c.pieces.count; i++) {
    REQUIRE(m->c.pieces.list[i].at >= at);
    at = m->c.pieces.list[i].at;
    REQUIRE(at <= redio_connection_unsent(&m->c));
  }
  REQUIRE(redio_connection_unsent(&m->c) == redio_buf_len(&m->out));
  REQUIRE(redio_connection_queued(&m->c) == m->queued);
  if (!redio_buf_len(&m->out))
    return;
  REQUIRE(!memcmp(redio_connection_output(&m->c), redio_buf_head(&m->out), redio_buf_len(&m->out)));
  redio_buf_consume(&m->out, redio_buf_len(&m->out));
  redio_connection_sent(&m->c);
  m->turn++;
  m->queued = 0;
  REQUIRE(!redio_buf_append(&m->wire, redio_buf_head(&m->unsent), redio_buf_len(&m->unsent)));
  redio_buf_consume(&m->unsent, redio_buf_len(&m->unsent));
}

static void drop(choices *in, model *m) {
  int i = m->first + (int)pick(in, 8);
  model_chain *chain = m->chains + i;
  if (i >= m->count)
    return;
  redio_connection_drop(&m->c, chain->slot);
  if (chain->turn == m->turn && !chain->dropped) {
    chain->cut = 1;
    m->cuts++;
    m->queued -= chain->bytes;
  }
  chain->dropped = 1;
  REQUIRE(m->c.chains[chain->slot].cut == chain->cut);
  REQUIRE(redio_connection_queued(&m->c) == m->queued);
}

static void check_reply(const model *m, const model_chain *chain, const redio_chain *c) {
  const expected_reply *r = chain->reply + c->done;
  const redio_expect *e = redio_connection_expected(&m->c);
  const char *p = redio_buf_head(&m->c.decoder.in);
  redio_token t;
  REQUIRE(redio_expect_entries(e) == (r->kind == 'E' ? (size_t)r->inner + 2 : 1));
  REQUIRE((redio_shapes[e->reply.shape]->kind == REDIO_SHAPE_EXEC) == (r->kind == 'E'));
  p = redio_token_next(p, &t);
  if (r->kind == 'E') {
    REQUIRE(t.type == '*' && t.count == r->inner + 1);
    redio_token_next(p, &t);
  } else {
    REQUIRE(t.type == (unsigned char)r->kind);
    if (t.type == '*')
      redio_token_next(p, &t);
  }
  REQUIRE(r->kind == '+' || (t.type == ':' && t.integer == r->number));
}

static void finish(model *m) {
  model_chain *chain = m->chains + m->first;
  free(chain->said);
  REQUIRE(redio_connection_first(&m->c) == m->c.chains + chain->slot);
  REQUIRE(!chain->finished);
  REQUIRE(m->c.chains[chain->slot].dropped == chain->dropped);
  chain->finished = 1;
  m->in_use[chain->slot] = 0;
  m->first++;
  redio_connection_pop(&m->c);
}

/* As redio_push_next does it, without Lua. */
static void take_replies(model *m) {
  while (redio_decoder_next(&m->c.decoder) == REDIO_VALUE) {
    redio_chain *c = redio_connection_first(&m->c);
    if (m->c.decoder.first != '>') {
      REQUIRE(c && m->first < m->count);
      check_reply(m, m->chains + m->first, c);
      redio_connection_took(&m->c);
      if (c->done == c->replies) {
        REQUIRE((int)c->replies == m->chains[m->first].replies);
        finish(m);
      }
    }
    redio_decoder_consume(&m->c.decoder);
  }
  REQUIRE(!redio_decoder_error(&m->c.decoder));
}

static void receive(choices *in, model *m) {
  size_t n = 1 + pick(in, 64);
  if (n > redio_buf_len(&m->wire))
    n = redio_buf_len(&m->wire);
  if (!n)
    return;
  REQUIRE(!redio_decoder_feed(&m->c.decoder, redio_buf_head(&m->wire), n));
  redio_buf_consume(&m->wire, n);
  take_replies(m);
}

/* Takes a step, and compares the table of states with a plain statement of it. */
static void happen(choices *in, model *m) {
  redio_event event = (redio_event)pick(in, REDIO_LOSE + 1);
  redio_state before = m->c.state, after = before;
  int refused;
  if (event == REDIO_LOSE)
    after = REDIO_LOST;
  else if (event == REDIO_DRAIN && (before == REDIO_READY || before == REDIO_DRAINING))
    after = REDIO_DRAINING;
  else if (event < REDIO_DRAIN && (int)before == (int)event)
    after = (redio_state)(before + 1);
  refused = redio_connection_event(&m->c, event);
  REQUIRE(m->c.state == after);
  REQUIRE(!refused == (after != before || (event == REDIO_LOSE) ||
                       (event == REDIO_DRAIN && before == REDIO_DRAINING)));
}

/* Recovers the first chain's commands, with their expected replies. */
static void recover(model *m) {
  const model_chain *chain = m->chains + m->first;
  int i, was_sent = chain->turn != m->turn;
  redio_pipeline p;
  REQUIRE(redio_connection_keeps(&m->c) ==
          (chain->kept && (!was_sent || (chain->readonly && !chain->refs))));
  if (!redio_connection_keeps(&m->c))
    return;
  redio_pipeline_init(&p, &p);
  REQUIRE(!redio_connection_recover(&m->c, &p));
  REQUIRE(p.closed_out == chain->out.len && (int)p.replies == chain->replies);
  REQUIRE(!memcmp(redio_buf_head(&p.out), chain->said, p.closed_out));
  REQUIRE((int)p.pieces.count == chain->refs && p.closed_pieces == p.pieces.count);
  for (i = 0; i < chain->refs; i++)
    REQUIRE(p.pieces.list[i].ref == chain->first_ref + i && p.pieces.list[i].at < p.closed_out);
  redio_pipeline_free(&p);
}

static void lose(model *m) {
  redio_connection_event(&m->c, REDIO_LOSE);
  while (m->first < m->count) {
    model_chain *chain = m->chains + m->first;
    REQUIRE(redio_connection_was_sent(&m->c, chain->slot) == (chain->turn != m->turn));
    if (!chain->cut)
      recover(m);
    finish(m);
  }
  REQUIRE(!redio_connection_first(&m->c) && m->c.waiting == 0);
}

static void step(choices *in, model *m) {
  switch (pick(in, 16)) {
  case 0:
  case 1:
  case 2:
  case 3:
    submit(in, m);
    break;
  case 4:
  case 5:
    drop(in, m);
    break;
  case 6:
  case 7:
  case 8:
    send(m);
    break;
  case 9:
    if (pick(in, 32) == 1)
      happen(in, m);
    break;
  default:
    receive(in, m);
  }
  REQUIRE(m->c.waiting == (uint32_t)(m->count - m->first - m->cuts));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static model m;
  choices in = {data, data + size};
  memset(&m, 0, sizeof m);
  steps_begin(STEPS);
  steps_allow(size);
  redio_connection_init(&m.c, &m, NULL);
  if (pick(&in, 8) > 0)
    for (int i = 0; i < REDIO_DRAIN; i++)
      redio_connection_event(&m.c, (redio_event)i);
  while (!is_over(&in) && m.c.state != REDIO_LOST)
    step(&in, &m);
  lose(&m);
  redio_connection_free(&m.c);
  steps_end();
  redio_buf_free(&m.out);
  redio_buf_free(&m.unsent);
  redio_buf_free(&m.wire);
  return 0;
}
