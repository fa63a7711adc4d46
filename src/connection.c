/* SPDX-License-Identifier: MIT */
/* Specs: unit/connection_core, fuzz/connection */
#include "connection.h"

#include <stdlib.h>
#include <string.h>

const char *const redio_state_names[] = {"closed", "connecting", "handshake",
                                         "ready",  "draining",   "lost"};
const char *const redio_event_names[] = {"connect", "connected", "established",
                                         "drain",   "lose",      NULL};

#define NO_STEP 255

/* Large replies often follow each other, and clearing fresh memory for each costs the kernel more
 * than reading them. */
enum { SHRINK_AFTER = 64 };

/* state x event -> state. Nothing else assigns a state. */
static const unsigned char steps[][REDIO_LOSE + 1] = {
    /*                  connect           connected        established  drain           lose */
    /* closed     */ {REDIO_CONNECTING, NO_STEP, NO_STEP, NO_STEP, REDIO_LOST},
    /* connecting */ {NO_STEP, REDIO_HANDSHAKE, NO_STEP, NO_STEP, REDIO_LOST},
    /* handshake  */ {NO_STEP, NO_STEP, REDIO_READY, NO_STEP, REDIO_LOST},
    /* ready      */ {NO_STEP, NO_STEP, NO_STEP, REDIO_DRAINING, REDIO_LOST},
    /* draining   */ {NO_STEP, NO_STEP, NO_STEP, REDIO_DRAINING, REDIO_LOST},
    /* lost       */ {NO_STEP, NO_STEP, NO_STEP, NO_STEP, REDIO_LOST},
};

int redio_connection_event(redio_connection *c, redio_event event) {
  unsigned char next = steps[c->state][event];
  if (next == NO_STEP)
    return -1;
  c->state = (redio_state)next;
  return 0;
}

void redio_connection_init(redio_connection *c, const void *tag, const redio_limits *limits) {
  memset(c, 0, sizeof *c);
  c->tag = tag;
  c->first = c->last = c->unused = c->last_sent = c->last_indexed = REDIO_NO_CHAIN;
  redio_decoder_init(&c->decoder, limits);
  c->decoder.in.shrink_after = c->out.shrink_after = SHRINK_AFTER;
}

void redio_connection_rest(redio_connection *c) {
  redio_buf_trim(&c->decoder.in);
  redio_buf_trim(&c->out);
}

void redio_connection_free(redio_connection *c) {
  redio_decoder_free(&c->decoder);
  redio_buf_free(&c->out);
  redio_buf_free(&c->expects);
  free(c->pieces.list);
  free(c->chains);
  c->pieces.list = NULL;
  c->chains = NULL;
  c->pieces.count = c->pieces.cap = 0;
  c->chains_cap = c->chains_used = c->waiting = 0;
  c->first = c->last = c->unused = REDIO_NO_CHAIN;
  c->state = REDIO_LOST;
}

static int reserve_chain(redio_connection *c) {
  uint32_t cap;
  redio_chain *grown;
  if (c->unused != REDIO_NO_CHAIN || c->chains_used < c->chains_cap)
    return 0;
  cap = c->chains_cap ? c->chains_cap * 2 : 8;
  grown = realloc(c->chains, cap * sizeof *grown);
  if (!grown)
    return -1;
  c->chains = grown;
  c->chains_cap = cap;
  return 0;
}

static int reserve_pieces(redio_pieces *list, size_t more) {
  redio_piece none = {0, NULL, 0, 0};
  size_t count = list->count;
  while (list->cap < count + more) {
    list->count = list->cap;
    if (redio_pieces_add(list, none)) {
      list->count = count;
      return -1;
    }
  }
  list->count = count;
  return 0;
}

int redio_connection_reserve(redio_connection *c, const redio_pipeline *p) {
  size_t expects = redio_buf_len(&p->expects);
  if (reserve_chain(c))
    return -1;
  if (!redio_buf_reserve(&c->out, p->closed_out))
    return -1;
  if (expects && !redio_buf_reserve(&c->expects, expects))
    return -1;
  return p->pieces.count ? reserve_pieces(&c->pieces, p->pieces.count) : 0;
}

uint32_t redio_connection_next_slot(const redio_connection *c) {
  return c->unused == REDIO_NO_CHAIN ? c->chains_used : c->unused;
}

static uint32_t new_chain(redio_connection *c) {
  uint32_t slot = redio_connection_next_slot(c);
  if (slot == c->chains_used)
    c->chains_used++;
  else
    c->unused = c->chains[slot].next;
  if (c->first == REDIO_NO_CHAIN)
    c->first = slot;
  else
    c->chains[c->last].next = slot;
  c->last = slot;
  c->waiting++;
  return slot;
}

static void copy_pieces(redio_connection *c, const redio_pipeline *p) {
  size_t i, base = redio_connection_unsent(c);
  for (i = 0; i < p->closed_pieces; i++) {
    redio_piece piece = p->pieces.list[i], *copy = c->pieces.list + c->pieces.count++;
    piece.at += base;
    piece.ref = copy->ref;
    *copy = piece;
  }
  c->pieces.spare = 0;
  c->piece_bytes += p->piece_bytes;
}

static void move_bytes(redio_buf *to, const redio_buf *from, size_t n) {
  if (!n)
    return;
  memcpy(to->data + to->tail, redio_buf_head(from), n);
  to->tail += n;
}

static void start_chain(redio_connection *c, const redio_pipeline *p, unsigned char mode,
                        int keep) {
  redio_chain *chain = c->chains + new_chain(c);
  memset(chain, 0, sizeof *chain);
  chain->next = REDIO_NO_CHAIN;
  chain->replies = (uint32_t)p->replies;
  chain->at = c->origin + redio_buf_len(&c->out);
  chain->number = ++c->submitted;
  chain->len = p->closed_out;
  chain->mode = mode;
  chain->kept = keep != 0;
  chain->large = p->closed_pieces > 0;
  chain->readonly = (p->all_flags & REDIO_READONLY) != 0;
  chain->lasting = chain->kept && chain->readonly && !chain->large;
  c->keeping += chain->lasting;
}

uint32_t redio_connection_submit(redio_connection *c, redio_pipeline *p, unsigned char mode,
                                 int keep) {
  if (p->replies)
    start_chain(c, p, mode, keep);
  if (p->closed_pieces)
    copy_pieces(c, p);
  move_bytes(&c->out, &p->out, p->closed_out);
  move_bytes(&c->expects, &p->expects, redio_buf_len(&p->expects));
  c->unsent_expects += redio_buf_len(&p->expects);
  p->submitted = 1;
  return p->replies ? c->last : REDIO_NO_CHAIN;
}

/* Returns the place behind the entries of so many replies. */
static const redio_expect *skip_entries(const redio_expect *e, uint32_t replies) {
  while (replies--)
    e += redio_expect_entries(e);
  return e;
}

static void free_slot(redio_connection *c, uint32_t slot) {
  redio_chain *chain = c->chains + slot;
  chain->next = c->unused;
  chain->number = 0;
  c->unused = slot;
  c->waiting -= !chain->cut;
  c->keeping -= chain->lasting;
}

static void reverse(redio_piece *from, redio_piece *end) {
  for (; from < end; from++) {
    redio_piece moved = *from;
    *from = *--end;
    *end = moved;
  }
}

/* Makes the pieces in [from, to), counted from `sent`, the spare ones. */
static void cut_pieces(redio_connection *c, size_t from, size_t to) {
  redio_pieces *p = &c->pieces;
  size_t i = 0, n = 0;
  while (i < p->count && p->list[i].at <= from)
    i++;
  for (; i < p->count && p->list[i].at < to; i++, n++)
    c->piece_bytes -= p->list[i].len;
  if (n) { /* the cut pieces change places with those behind them, all in order */
    reverse(p->list + i - n, p->list + i);
    reverse(p->list + i, p->list + p->count);
    reverse(p->list + i - n, p->list + p->count);
  }
  p->count -= n;
  p->spare = n;
}

uint32_t redio_connection_after(const redio_connection *c, uint32_t slot,
                                unsigned long long number) {
  uint32_t i;
  if (number && c->chains[slot].number == number)
    return c->chains[slot].next;
  for (i = c->first; i != REDIO_NO_CHAIN && c->chains[i].number <= number; i = c->chains[i].next)
    ;
  return i;
}

/* Returns the bytes of the pieces of an unsent chain. */
static size_t piece_bytes(const redio_connection *c, const redio_chain *chain) {
  const redio_pieces *p = &c->pieces;
  size_t from = (size_t)(chain->at - c->sent), low = 0, high = p->count, bytes = 0;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (p->list[middle].at <= from)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < p->count && p->list[low].at < from + chain->len; low++)
    bytes += p->list[low].len;
  return bytes;
}

void redio_connection_drop(redio_connection *c, uint32_t slot) {
  redio_chain *chain = c->chains + slot;
  if (chain->dropped)
    return;
  chain->dropped = 1;
  if (redio_connection_was_sent(c, slot))
    return;
  chain->cut = 1;
  c->cuts++;
  c->cut_bytes += chain->len + (chain->large ? piece_bytes(c, chain) : 0);
  c->waiting--;
}

/* A list that is filtered in place and in order: items before `to` are kept, items from `from` on
 * are still to be looked at. */
typedef struct sieve {
  char *base;
  size_t from, to;
} sieve;

static void keep_next(sieve *s, size_t n) {
  if (s->from != s->to)
    memmove(s->base + s->to, s->base + s->from, n);
  s->from += n;
  s->to += n;
}

static void cut_next(sieve *s, size_t n) { s->from += n; }

/* Filters the pieces before byte `end`, counted from `sent`. A kept piece moves `gone` bytes to the
 * front; a cut one ends up behind the kept ones. */
static void sift_pieces(redio_pieces *p, sieve *s, size_t end, size_t gone, int is_cut) {
  for (; s->from < p->count && p->list[s->from].at < end; s->from++) {
    redio_piece piece = p->list[s->from];
    if (is_cut)
      continue;
    piece.at -= gone;
    p->list[s->from] = p->list[s->to];
    p->list[s->to++] = piece;
  }
}

/* Removes the chain behind `before` from the list and frees its slot. */
static void unlink_after(redio_connection *c, uint32_t before, uint32_t slot) {
  uint32_t next = c->chains[slot].next;
  if (before == REDIO_NO_CHAIN)
    c->first = next;
  else
    c->chains[before].next = next;
  if (c->last == slot)
    c->last = before;
  if (c->last_indexed == slot && c->chains[slot].number == c->last_indexed_number &&
      before != REDIO_NO_CHAIN) {
    c->last_indexed = before;
    c->last_indexed_number = c->chains[before].number;
  }
  free_slot(c, slot);
}

static void end_sieve(redio_buf *b, sieve *s) {
  keep_next(s, redio_buf_len(b) - s->from);
  b->tail = b->head + s->to;
  if (!s->to)
    redio_buf_emptied(b);
}

void redio_connection_tidy(redio_connection *c) {
  size_t unsent = (size_t)(c->sent - c->origin), gone = 0;
  size_t known = redio_buf_len(&c->expects) - c->unsent_expects;
  sieve out = {redio_buf_head(&c->out), unsent, unsent}, pieces = {NULL, 0, 0};
  sieve expects = {redio_buf_head(&c->expects), known, known};
  uint32_t slot, next, before;
  if (!c->cuts || c->state == REDIO_LOST)
    return;
  slot = redio_connection_after(c, c->last_sent, c->last_sent_number);
  before = slot == c->first ? REDIO_NO_CHAIN : c->last_sent;
  for (; slot != REDIO_NO_CHAIN; slot = next) {
    redio_chain *chain = c->chains + slot;
    const redio_expect *e = (const redio_expect *)(const void *)(expects.base + expects.from);
    size_t entries = (size_t)(skip_entries(e, chain->replies) - e) * sizeof *e;
    size_t at = (size_t)(chain->at - c->origin), end = at + chain->len;
    next = chain->next;
    keep_next(&out, at - out.from); /* commands without a reply belong to no chain */
    sift_pieces(&c->pieces, &pieces, at - unsent, gone, 0);
    sift_pieces(&c->pieces, &pieces, end - unsent, gone, chain->cut);
    (chain->cut ? cut_next : keep_next)(&out, chain->len);
    (chain->cut ? cut_next : keep_next)(&expects, entries);
    if (chain->cut) {
      gone += chain->len;
      unlink_after(c, before, slot);
    } else {
      chain->at -= gone;
      before = slot;
    }
  }
  sift_pieces(&c->pieces, &pieces, (size_t)-1, gone, 0);
  c->pieces.spare = c->pieces.count - pieces.to;
  c->pieces.count = pieces.to;
  c->piece_bytes -= c->cut_bytes - gone;
  c->unsent_expects = expects.to - known;
  end_sieve(&c->out, &out);
  end_sieve(&c->expects, &expects);
  c->cuts = 0;
  c->cut_bytes = 0;
}

/* Drops the bytes of `out` before that place in the stream: they will not be recovered. */
static void forget_until(redio_connection *c, unsigned long long end) {
  if (end <= c->origin)
    return;
  redio_buf_consume(&c->out, (size_t)(end - c->origin));
  c->origin = end;
}

int redio_connection_was_sent(const redio_connection *c, uint32_t slot) {
  return c->chains[slot].at < c->sent;
}

void redio_connection_sent(redio_connection *c) {
  size_t arrived = redio_buf_len(&c->decoder.in);
  if (arrived && (c->first == REDIO_NO_CHAIN || !redio_connection_was_sent(c, c->first)))
    c->unasked = arrived;
  c->sent = c->origin + redio_buf_len(&c->out);
  c->last_sent = c->last;
  c->last_sent_number = c->last == REDIO_NO_CHAIN ? 0 : c->chains[c->last].number;
  c->unsent_expects = 0;
  c->pieces.count = 0;
  c->piece_bytes = 0;
  if (!c->keeping || (c->max_out && redio_buf_len(&c->out) > c->max_out))
    forget_until(c, c->sent);
}

int redio_connection_keeps(const redio_connection *c) {
  const redio_chain *chain = redio_connection_first(c);
  if (!redio_connection_was_sent(c, c->first))
    return chain->kept;
  return chain->lasting && chain->at >= c->origin;
}

/* Moves the spare pieces, which are the first chain's, to the pipeline. */
static void give_pieces(redio_connection *c, redio_pipeline *p, size_t base) {
  redio_pieces *from = &c->pieces;
  size_t i;
  for (i = 0; i < from->spare; i++) {
    redio_piece piece = from->list[from->count + i];
    piece.at -= base;
    p->pieces.list[p->pieces.count++] = piece;
    p->piece_bytes += piece.len;
  }
  p->closed_pieces = p->pieces.count;
  from->spare = 0;
}

int redio_connection_recover(redio_connection *c, redio_pipeline *p) {
  const redio_chain *chain = redio_connection_first(c);
  const redio_expect *e = redio_connection_entries(c);
  size_t base = (size_t)(chain->at - c->sent); /* of an unsent chain; a sent one has no pieces */
  if (chain->large && reserve_pieces(&p->pieces, c->pieces.count))
    return -1;
  if (redio_pipeline_restore(p, redio_buf_head(&c->out) + (chain->at - c->origin), chain->len, e,
                             skip_entries(e, chain->replies), chain->readonly))
    return -1;
  if (chain->large) {
    cut_pieces(c, base, base + chain->len);
    give_pieces(c, p, base);
  }
  return 0;
}

void redio_connection_took(redio_connection *c) {
  c->taken += redio_expect_entries(redio_connection_expected(c));
  c->chains[c->first].done++;
}

void redio_connection_pop(redio_connection *c) {
  uint32_t slot = c->first;
  const redio_chain *chain = c->chains + slot;
  const redio_expect *e = redio_connection_entries(c);
  if (chain->done < chain->replies)
    c->taken = (size_t)(skip_entries(e, chain->replies) - e);
  redio_buf_consume(&c->expects, c->taken * sizeof *e);
  c->taken = 0;
  forget_until(c, chain->at + chain->len);
  c->first = chain->next;
  if (c->first == REDIO_NO_CHAIN)
    c->last = REDIO_NO_CHAIN;
  free_slot(c, slot);
}
