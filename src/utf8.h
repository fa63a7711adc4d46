/* SPDX-License-Identifier: MIT */
/* Bytes as text that loses nothing: what is not UTF-8 becomes U+DC80..U+DCFF, byte by byte, and
 * back. (Python calls it surrogateescape; Lua's utf8 library reads it in its lax mode.) */
#ifndef REDIO_UTF8_H
#define REDIO_UTF8_H

#include <stddef.h>

/* How many of the n bytes at s, from the first, are valid UTF-8. */
size_t redio_utf8_valid(const char *s, size_t n);

/* Each byte that is no part of valid UTF-8 as a surrogate. Needs room for 3 * n bytes; returns the
 * length. */
size_t redio_utf8_escape(char *out, const char *s, size_t n);

/* The way back. Needs room for n bytes; returns the length. */
size_t redio_utf8_unescape(char *out, const char *s, size_t n);

#endif
