/* SPDX-License-Identifier: MIT */
/* count_hiredis WHAT N: does N operations, for callgrind to count their instructions. Replies come
 * from a socket of this process. */
#define _POSIX_C_SOURCE 200809L
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHAIN 1000
#define COMMAND "*2\r\n$3\r\nGET\r\n$4\r\nv:32\r\n"
#define REPLY "$32\r\nvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n"

static const char *argv_get[] = {"GET", "v:32"};
static const size_t lengths_get[] = {3, 4};
static char replies[CHAIN * (sizeof REPLY - 1)];

static void check(int ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "count_hiredis: %s\n", what);
  exit(1);
}

static void check_reply(void *reply) {
  const redisReply *r = reply;
  check(r && r->type == REDIS_REPLY_STRING && r->len == 32, "not the value");
  freeReplyObject(reply);
}

/* Encodes a command as redisAppendCommandArgv does. */
static void encode(long n) {
  while (n--) {
    sds bytes;
    int length = redisFormatSdsCommandArgv(&bytes, 2, argv_get, lengths_get);
    check(length == sizeof COMMAND - 1, "encode");
    redisFreeSdsCommand(bytes);
  }
}

/* Makes a value of a reply. */
static void decode(long n) {
  redisReader *reader = redisReaderCreate();
  long chain;
  int i;
  for (chain = 0; chain < n / CHAIN; chain++) {
    check(redisReaderFeed(reader, replies, sizeof replies) == REDIS_OK, "feed");
    for (i = 0; i < CHAIN; i++) {
      void *reply = NULL;
      check(redisReaderGetReply(reader, &reply) == REDIS_OK, "decode");
      check_reply(reply);
    }
  }
  redisReaderFree(reader);
}

/* The server's side: takes a chain and answers it. */
static void serve(int fd) {
  static char commands[CHAIN * (sizeof COMMAND - 1)];
  check(recv(fd, commands, sizeof commands, MSG_WAITALL) == sizeof commands, "recv");
  check(send(fd, replies, sizeof replies, 0) == sizeof replies, "send");
}

/* A GET of a chain of 1000. */
static void get(long n) {
  int ends[2], i;
  redisContext *c;
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
  c = redisConnectFd(ends[0]);
  check(c && !c->err, "connect");
  for (; n; n -= CHAIN) {
    int done = 0;
    for (i = 0; i < CHAIN; i++)
      check(redisAppendCommandArgv(c, 2, argv_get, lengths_get) == REDIS_OK, "append");
    while (!done)
      check(redisBufferWrite(c, &done) == REDIS_OK, "write");
    serve(ends[1]);
    for (i = 0; i < CHAIN; i++) {
      void *reply = NULL;
      check(redisGetReply(c, &reply) == REDIS_OK, "read");
      check_reply(reply);
    }
  }
  redisFree(c);
  close(ends[1]);
}

int main(int argc, char **argv) {
  size_t at;
  long n = argc == 3 ? atol(argv[2]) / CHAIN * CHAIN : 0;
  check(n > 0, "WHAT N, please");
  for (at = 0; at < sizeof replies; at += sizeof REPLY - 1)
    memcpy(replies + at, REPLY, sizeof REPLY - 1);
  if (!strcmp(argv[1], "encode"))
    encode(n);
  else if (!strcmp(argv[1], "decode"))
    decode(n);
  else if (!strcmp(argv[1], "get"))
    get(n);
  else
    check(0, "encode, decode or get, please");
  return 0;
}
