/* SPDX-License-Identifier: MIT */
/* A command as the encoder knows it: its name as it goes out, its flags, and the shape of its
 * reply. */
#ifndef REDIO_COMMAND_H
#define REDIO_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "number.h"

enum {
  REDIO_READONLY = 1 << 0, /* may be sent again when its reply was lost */
  REDIO_BLOCKING = 1 << 1, /* may wait on the server */
  REDIO_STATE = 1 << 2,    /* leaves state behind on its connection */
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
  REDIO_AUTH = 1 << 15      /* must come first: see redio_pipeline_refuses */
};

#define REDIO_OPTIONS_MAX 12
#define REDIO_OPTION_MAX 16

/* An option that decides the reply's shape, or that stands before an argument which could be taken
 * for such an option. */
typedef struct redio_option {
  char word[REDIO_OPTION_MAX]; /* upper case */
  unsigned char len;
  unsigned char takes; /* number of arguments behind it that are its own */
  unsigned char shape;
} redio_option;

/* The shapes of the reply that depend on the arguments. */
typedef struct redio_variants {
  unsigned char argc; /* one more than the arguments that ask for `argc_shape`; 0: none */
  unsigned char argc_shape;
  unsigned char from;    /* the argument, from 1, at which the options begin */
  unsigned char numkeys; /* the argument that counts the keys before the options; 0: none does */
  unsigned char leading; /* the options end with the first argument that is none of them */
  unsigned char shaped;  /* number of options with a shape, which come first in `options`; of those
                            among the arguments the first in `options` decides */
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

/* Bytes that `words` may take for a name of that length. */
#define REDIO_COMMAND_WORDS(len) ((len) * (REDIO_NUMBER_MAX + 8))

/* Encodes the words of the name, which stand apart by one space each, into `words`. */
void redio_command_set_name(redio_command *c, const char *name, size_t len);

/* Returns 1 when s is the upper-case word, in any case. */
int redio_is_word(const char *word, size_t word_len, const char *s, size_t len);

#endif
