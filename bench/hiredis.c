/* SPDX-License-Identifier: MIT */
/* Blocking hiredis, with which all other peers are compared. measure.lua says how the program is
 * called.
 *
 * Commands are encoded by redisAppendCommandArgv, the fastest function of hiredis for this (0.94
 * million GETs a second at depth 1000, against 0.81 by "GET %b" and 0.75 by "GET v:32").
 * COMMAND DOCS is missing: hiredis 0.14 reads replies of at most seven levels. */
#define _POSIX_C_SOURCE 200809L
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static redisContext *redis;
static double seconds = 0.5;

static void fail(const char *why) {
  fprintf(stderr, "hiredis: %s\n", why);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static redisContext *connect_to(int port) {
  redisContext *c = redisConnect("127.0.0.1", port);
  if (!c || c->err)
    fail(c ? c->errstr : "out of memory");
  return c;
}

static int port(void) {
  const char *text = getenv("BENCH_PORT");
  return text ? atoi(text) : 6379;
}

/* Commands and replies ------------------------------------------------------------------------ */

#define ARGS_MAX 8

static void append_to(redisContext *c, int argc, const char **argv, const size_t *lengths) {
  if (redisAppendCommandArgv(c, argc, argv, lengths) != REDIS_OK)
    fail(c->errstr);
}

/* Queues a command of plain words, up to a NULL. */
static void append_words(redisContext *c, const char *const *words) {
  const char *argv[ARGS_MAX];
  size_t lengths[ARGS_MAX];
  int argc;
  for (argc = 0; words[argc]; argc++) {
    argv[argc] = words[argc];
    lengths[argc] = strlen(words[argc]);
  }
  append_to(c, argc, argv, lengths);
}

static redisReply *reply_of(redisContext *c) {
  void *reply;
  if (redisGetReply(c, &reply) != REDIS_OK)
    fail(c->errstr);
  if (((redisReply *)reply)->type == REDIS_REPLY_ERROR)
    fail(((redisReply *)reply)->str);
  return reply;
}

static size_t total(const redisReply *reply) {
  size_t i, sum = 0;
  if (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS)
    return reply->len;
  if (reply->type == REDIS_REPLY_ARRAY)
    for (i = 0; i < reply->elements; i++)
      sum += total(reply->element[i]);
  return sum;
}

/* The length of all strings in the next reply, which is freed. */
static size_t take_total(void) {
  redisReply *reply = reply_of(redis);
  size_t sum = total(reply);
  freeReplyObject(reply);
  return sum;
}

static void take_ok(void) {
  redisReply *reply = reply_of(redis);
  if (reply->type != REDIS_REPLY_STATUS)
    fail("no OK");
  freeReplyObject(reply);
}

/* Measuring ----------------------------------------------------------------------------------- */

typedef struct workload {
  const char *name;
  long step; /* the number of operations is a multiple of it; 0: the workload measures itself */
  double (*run)(const struct workload *w, long n);
  size_t size;                 /* of the value */
  const char *words[ARGS_MAX]; /* of the command */
} workload;

static double timed(const workload *w, long n, double *bytes) {
  double start = now();
  *bytes = w->run(w, n);
  return now() - start;
}

static void measure(const workload *w) {
  double bytes, took;
  long n = w->step;
  while ((took = timed(w, n, &bytes)) < seconds / 5)
    n *= 2;
  n = (long)((double)n * seconds / took) / w->step * w->step;
  if (n < w->step)
    n = w->step;
  took = timed(w, n, &bytes);
  printf("%s %ld %.9f %.0f\n", w->name, n, took, bytes / (double)n);
}

/* Workloads ----------------------------------------------------------------------------------- */

static double get_values(const workload *w, long n) {
  const char *argv[] = {"GET", w->words[0]};
  const size_t lengths[] = {3, strlen(argv[1])};
  double bytes = 0;
  long i, chain;
  for (chain = 0; chain < n / w->step; chain++) {
    for (i = 0; i < w->step; i++)
      append_to(redis, 2, argv, lengths);
    for (i = 0; i < w->step; i++) {
      redisReply *reply = reply_of(redis);
      bytes += (double)reply->len;
      freeReplyObject(reply);
    }
  }
  return bytes;
}

static double set_values(const workload *w, long n) {
  char *value = malloc(w->size);
  const char *argv[] = {"SET", w->words[0], value};
  const size_t lengths[] = {3, strlen(argv[1]), w->size};
  long i, chain;
  if (!value)
    fail("out of memory");
  memset(value, 'x', w->size);
  for (chain = 0; chain < n / w->step; chain++) {
    for (i = 0; i < w->step; i++)
      append_to(redis, 3, argv, lengths);
    for (i = 0; i < w->step; i++)
      take_ok();
  }
  free(value);
  return (double)n * (double)w->size;
}

static double ask(const workload *w, long n) {
  double bytes = 0;
  while (n--) {
    append_words(redis, w->words);
    bytes += (double)take_total();
  }
  return bytes;
}

static double multi(const workload *w, long n) {
  static const char *const commands[][4] = {
      {"MULTI", NULL}, {"SET", "m:1", "value", NULL}, {"GET", "m:1", NULL}, {"GET", "v:32", NULL}};
  static const char *const exec[] = {"EXEC", NULL};
  double bytes = 0;
  (void)w;
  while (n--) {
    redisReply *reply;
    int i;
    for (i = 0; i < 4; i++)
      append_words(redis, commands[i]);
    append_words(redis, exec);
    for (i = 0; i < 4; i++)
      take_ok();
    reply = reply_of(redis);
    if (reply->elements != 3)
      fail("EXEC has lost something");
    bytes += (double)(total(reply->element[1]) + total(reply->element[2]));
    freeReplyObject(reply);
  }
  return bytes;
}

static double watch(const workload *w, long n) {
  static const char *const watch_words[] = {"WATCH", "v:32", NULL},
                           *const get[] = {"GET", "v:32", NULL},
                           *const multi_words[] = {"MULTI", NULL}, *const exec[] = {"EXEC", NULL};
  double bytes = 0;
  (void)w;
  while (n--) {
    redisReply *value, *done;
    const char *set[] = {"SET", "m:2", NULL};
    size_t lengths[] = {3, 3, 0};
    append_words(redis, watch_words);
    append_words(redis, get);
    take_ok();
    value = reply_of(redis);
    set[2] = value->str;
    lengths[2] = value->len;
    append_words(redis, multi_words);
    append_to(redis, 3, set, lengths);
    append_words(redis, exec);
    take_ok();
    take_ok();
    done = reply_of(redis);
    if (done->type != REDIS_REPLY_ARRAY)
      fail("EXEC without contention was refused");
    bytes += (double)value->len;
    freeReplyObject(value);
    freeReplyObject(done);
  }
  return bytes;
}

#define MESSAGES 10000 /* published by one script */

static void publish(redisContext *c) {
  static const char script[] = "for i = 1, 10000 do redis.call('PUBLISH', 'channel', ARGV[1]) end";
  const char *argv[] = {"EVAL", script, "0", NULL};
  const size_t lengths[] = {4, sizeof script - 1, 1, 100};
  char message[100];
  int done = 0;
  memset(message, 'm', sizeof message);
  argv[3] = message;
  append_to(c, 4, argv, lengths);
  while (!done)
    if (redisBufferWrite(c, &done) != REDIS_OK)
      fail(c->errstr);
}

static double messages(const workload *w, long n) {
  static const char *const subscribe[] = {"SUBSCRIBE", "channel", NULL};
  redisContext *publisher = connect_to(port()), *receiver = connect_to(port());
  double bytes = 0;
  long left;
  (void)w;
  append_words(receiver, subscribe);
  freeReplyObject(reply_of(receiver));
  publish(publisher);
  for (left = n; left;) {
    redisReply *message = reply_of(receiver);
    bytes += (double)message->element[2]->len;
    freeReplyObject(message);
    left--;
    if (left % MESSAGES == MESSAGES - 1 && left > MESSAGES)
      publish(publisher);
  }
  redisFree(publisher);
  redisFree(receiver);
  return bytes;
}

#define SAMPLES 10000

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double latency(const workload *w, long n) {
  static double list[SAMPLES];
  int i;
  static const workload get = {"get-1", 1, get_values, 0, {"v:32"}};
  (void)w, (void)n;
  get_values(&get, 2000);
  for (i = 0; i < SAMPLES; i++) {
    double start = now();
    if (get_values(&get, 1) != 32)
      fail("a short value");
    list[i] = now() - start;
  }
  qsort(list, SAMPLES, sizeof *list, compare);
  printf("latency-p50 1 %.9f -\n", list[SAMPLES / 2 - 1]);
  printf("latency-p99 1 %.9f -\n", list[SAMPLES / 100 * 99 - 1]);
  printf("latency-p999 1 %.9f -\n", list[SAMPLES / 1000 * 999 - 1]);
  return 0;
}

static const workload workloads[] = {
    {"get-1", 1, get_values, 0, {"v:32"}},
    {"get-10", 10, get_values, 0, {"v:32"}},
    {"get-100", 100, get_values, 0, {"v:32"}},
    {"get-1000", 1000, get_values, 0, {"v:32"}},
    {"set-1", 1, set_values, 32, {"w:32"}},
    {"set-10", 10, set_values, 32, {"w:32"}},
    {"set-100", 100, set_values, 32, {"w:32"}},
    {"set-1000", 1000, set_values, 32, {"w:32"}},
    {"get-4k", 1, get_values, 0, {"v:4096"}},
    {"get-64k", 1, get_values, 0, {"v:65536"}},
    {"get-1m", 1, get_values, 0, {"v:1048576"}},
    {"get-64m", 1, get_values, 0, {"v:67108864"}},
    {"set-4k", 1, set_values, 4096, {"w:4096"}},
    {"set-64k", 1, set_values, 65536, {"w:65536"}},
    {"set-1m", 1, set_values, 1048576, {"w:1048576"}},
    {"set-64m", 1, set_values, 67108864, {"w:67108864"}},
    {"list", 1, ask, 0, {"LRANGE", "list", "0", "-1"}},
    {"hash", 1, ask, 0, {"HGETALL", "hash"}},
    {"xrange", 1, ask, 0, {"XRANGE", "stream", "-", "+"}},
    {"messages", MESSAGES, messages, 0, {NULL}},
    {"multi", 1, multi, 0, {NULL}},
    {"watch", 1, watch, 0, {NULL}},
    {"latency", 0, latency, 0, {NULL}},
};

int main(int argc, char **argv) {
  size_t w, count = sizeof workloads / sizeof *workloads;
  int i, list = argc > 1 && !strcmp(argv[1], "--list");
  if (getenv("BENCH_SECONDS"))
    seconds = atof(getenv("BENCH_SECONDS"));
  if (!list)
    redis = connect_to(port());
  for (i = 1; i < argc; i++)
    for (w = 0; w < count; w++) {
      if (list)
        printf("%s\n", workloads[w].name);
      else if (strcmp(workloads[w].name, argv[i]))
        continue;
      else if (!workloads[w].step)
        workloads[w].run(workloads + w, 0);
      else
        measure(workloads + w);
    }
  if (redis)
    redisFree(redis);
  return 0;
}
