/* SPDX-License-Identifier: MIT */
/* Specs: unit/fast_paths, regress/option_words_as_values */
#include "command.h"

#include <string.h>

void redio_command_set_name(redio_command *c, const char *name, size_t len) {
  const char *end = name + len;
  char *to = c->words;
  while (name < end) {
    const char *space = memchr(name, ' ', (size_t)(end - name));
    size_t word = (size_t)((space ? space : end) - name);
    *to++ = '$';
    to += redio_write_unsigned(to, word);
    memcpy(to, "\r\n", 2);
    memcpy(to + 2, name, word);
    memcpy(to + 2 + word, "\r\n", 2);
    to += word + 4;
    name += word + 1;
    c->words_count++;
  }
  c->words_len = (size_t)(to - c->words);
}

int redio_is_word(const char *word, size_t word_len, const char *s, size_t len) {
  size_t i;
  if (len != word_len)
    return 0;
  for (i = 0; i < len; i++) {
    char c = s[i];
    if (c >= 'a' && c <= 'z')
      c = (char)(c - 'a' + 'A');
    if (c != word[i])
      return 0;
  }
  return 1;
}
