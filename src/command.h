/* SPDX-License-Identifier: MIT */
/* What the encoder knows of one command: its words as they go out, and what may come back. */
#ifndef REDIO_COMMAND_H
#define REDIO_COMMAND_H

#include <stddef.h>
#include <stdint.h>

enum {
  REDIO_READONLY = 1 << 0, /* may be sent again when its reply was lost */
  REDIO_BLOCKING = 1 << 1, /* may wait on the server */
  REDIO_STATE = 1 << 2,    /* leaves something behind on its connection */
  REDIO_WATCH = 1 << 3,
  REDIO_UNWATCH = 1 << 4,
  REDIO_MULTI = 1 << 5,
  REDIO_EXEC = 1 << 6,
  REDIO_DISCARD = 1 << 7,
  REDIO_NOMULTI = 1 << 8,   /* cannot be queued: its reply would not be +QUEUED */
  REDIO_MUTE = 1 << 9,      /* CLIENT REPLY: decides whether replies come at all */
  REDIO_PRIVATE = 1 << 10,  /* must not stand behind the commands of others */
  REDIO_SILENT = 1 << 11,   /* answered by messages, if at all */
  REDIO_QUIT = 1 << 12,     /* the server hangs up after it */
  REDIO_DATABASE = 1 << 13, /* the state that it leaves is the database */
  REDIO_NAME = 1 << 14      /* the state that it leaves is the connection's name */
};

#define REDIO_VARIANTS_MAX 8
#define REDIO_TOKEN_MAX 16

/* Another shape, when an argument says so. */
typedef struct redio_variant {
  char token[REDIO_TOKEN_MAX]; /* upper case; empty: `argc` decides */
  unsigned char token_len;
  unsigned char from; /* first argument, from 1, that may be the token */
  unsigned char argc; /* exactly so many arguments */
  unsigned char shape;
} redio_variant;

typedef struct redio_command {
  const void *tag;
  uint32_t flags;
  uint16_t id;         /* for error texts: the name is looked up when it is needed */
  unsigned char shape; /* index in redio_shapes */
  unsigned char variants_count;
  unsigned char words_count;
  redio_variant variants[REDIO_VARIANTS_MAX];
  size_t words_len;
  char words[]; /* "$6\r\nCONFIG\r\n$3\r\nGET\r\n", encoded once */
} redio_command;

/* Whether s is the upper-case word, in any case. */
int redio_is_word(const char *word, size_t word_len, const char *s, size_t len);

#endif
