/* SPDX-License-Identifier: MIT */
/* Specs: client/values */
#include "utf8.h"

#include <string.h>

static int is_tail(unsigned char c) { return (c & 0xC0) == 0x80; }

/* Returns the length of the sequence at s, or 0 when it is invalid: an overlong form, a surrogate,
 * or past U+10FFFF. */
static size_t sequence(const unsigned char *s, size_t n) {
  unsigned char c = s[0];
  if (c < 0x80)
    return 1;
  if (c < 0xC2 || c > 0xF4 || n < 2 || !is_tail(s[1]))
    return 0;
  if (c < 0xE0)
    return 2;
  if (c == 0xE0 && s[1] < 0xA0)
    return 0;
  if (c == 0xED && s[1] > 0x9F)
    return 0;
  if (n < 3 || !is_tail(s[2]))
    return 0;
  if (c < 0xF0)
    return 3;
  if (c == 0xF0 && s[1] < 0x90)
    return 0;
  if (c == 0xF4 && s[1] > 0x8F)
    return 0;
  return n >= 4 && is_tail(s[3]) ? 4 : 0;
}

size_t redio_utf8_valid(const char *s, size_t n) {
  const unsigned char *u = (const unsigned char *)s;
  size_t i = 0;
  while (i < n) {
    size_t len = sequence(u + i, n - i);
    if (!len)
      break;
    i += len;
  }
  return i;
}

size_t redio_utf8_escape(char *out, const char *s, size_t n) {
  char *to = out;
  while (n) {
    size_t valid = redio_utf8_valid(s, n);
    memcpy(to, s, valid);
    to += valid;
    s += valid;
    n -= valid;
    if (n) {
      unsigned char c = (unsigned char)*s++;
      n--;
      *to++ = (char)0xED;
      *to++ = (char)(0xB0 | (c >> 6));
      *to++ = (char)(0x80 | (c & 0x3F));
    }
  }
  return (size_t)(to - out);
}

/* U+DC80..U+DCFF are ED B2 80 .. ED B3 BF. */
static int is_escaped(const unsigned char *s, size_t n) {
  return n >= 3 && s[0] == 0xED && (s[1] == 0xB2 || s[1] == 0xB3) && is_tail(s[2]);
}

size_t redio_utf8_unescape(char *out, const char *s, size_t n) {
  const unsigned char *u = (const unsigned char *)s;
  size_t i = 0, len = 0;
  while (i < n) {
    if (is_escaped(u + i, n - i)) {
      out[len++] = (char)((u[i + 1] & 3) << 6 | (u[i + 2] & 0x3F));
      i += 3;
    } else {
      out[len++] = (char)u[i++];
    }
  }
  return len;
}
