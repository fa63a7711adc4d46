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
  REDIO_NAME = 1 << 14,     /* the state that it leaves is the connection's name */
  REDIO_AUTH = 1 << 15 /* when it fails while other replies wait, servers of 7.2 to 8 say nothing */
};

#define REDIO_OPTIONS_MAX 12
#define REDIO_OPTION_MAX 16

/* A word among the options that says something about the reply's shape, or stands before an
 * argument that could be taken for such a word. */
typedef struct redio_option {
  char word[REDIO_OPTION_MAX]; /* upper case */
  unsigned char len;
  unsigned char takes; /* so many arguments behind it are its own */
  unsigned char shape;
} redio_option;

/* Other shapes than the usual one, when the arguments say so. */
typedef struct redio_variants {
  unsigned char argc; /* one more than how many arguments ask for `argc_shape`; 0: no number does */
  unsigned char argc_shape;
  unsigned char from;    /* the argument, from 1, at which the options begin */
  unsigned char numkeys; /* the argument that is the number of the keys, which stand before the
                            options; or 0 */
  unsigned char leading; /* the options end with the first argument that is none of them */
  unsigned char
      shaped; /* the first so many have a shape; of those that are there the first decides */
  unsigned char count;
  redio_option options[REDIO_OPTIONS_MAX];
} redio_variants;

typedef struct redio_command {
  const void *tag;
  uint32_t flags;
  uint16_t id;          /* for error texts: the name is looked up when it is needed */
  unsigned char shape;  /* index in redio_shapes */
  unsigned char varies; /* there are variants */
  unsigned char words_count;
  redio_variants variants;
  size_t words_len;
  char words[]; /* "$6\r\nCONFIG\r\n$3\r\nGET\r\n", encoded once */
} redio_command;

/* Whether s is the upper-case word, in any case. */
int redio_is_word(const char *word, size_t word_len, const char *s, size_t len);

#endif
