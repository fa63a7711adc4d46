/* SPDX-License-Identifier: MIT */
/* Bytes as text without loss: a byte that is not part of valid UTF-8 becomes one of U+DC80..U+DCFF.
 * (Python calls it surrogateescape; Lua's utf8 library reads it in its lax mode.) */
#ifndef REDIO_UTF8_H
#define REDIO_UTF8_H

#include <stddef.h>

/* Returns how many of the n bytes at s, from the first, are valid UTF-8. */
size_t redio_utf8_valid(const char *s, size_t n);

/* Writes the bytes with surrogates for those that are not part of valid UTF-8. Needs room for 3 * n
 * bytes; returns the length. */
size_t redio_utf8_escape(char *out, const char *s, size_t n);

/* Reverses `redio_utf8_escape`. Needs room for n bytes; returns the length. */
size_t redio_utf8_unescape(char *out, const char *s, size_t n);

#endif
