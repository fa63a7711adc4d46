/* SPDX-License-Identifier: MIT */
/* Specs: regress/script_round_trips */
#include "sha1.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 64, WORDS = 5, ROUNDS = 80 };

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* Fills w with the 16 words of the block and the 64 that follow from them. */
static void expand(uint32_t w[ROUNDS], const unsigned char *block) {
  int i;
  for (i = 0; i < 16; i++, block += 4)
    w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
  for (; i < ROUNDS; i++)
    w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
}

static uint32_t mix(int round, uint32_t b, uint32_t c, uint32_t d) {
  switch (round / 20) {
  case 0:
    return ((b & c) | (~b & d)) + 0x5a827999u;
  case 1:
    return (b ^ c ^ d) + 0x6ed9eba1u;
  case 2:
    return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
  default:
    return (b ^ c ^ d) + 0xca62c1d6u;
  }
}

static void take_block(uint32_t state[WORDS], const unsigned char *block) {
  uint32_t w[ROUNDS], s[WORDS];
  int i;
  expand(w, block);
  memcpy(s, state, sizeof s);
  for (i = 0; i < ROUNDS; i++) {
    uint32_t next = rotate(s[0], 5) + mix(i, s[1], s[2], s[3]) + s[4] + w[i];
    s[4] = s[3];
    s[3] = s[2];
    s[2] = rotate(s[1], 30);
    s[1] = s[0];
    s[0] = next;
  }
  for (i = 0; i < WORDS; i++)
    state[i] += s[i];
}

/* Takes the n bytes behind the last whole block, with a one, zeros and the length in bits. */
static void take_rest(uint32_t state[WORDS], const unsigned char *rest, size_t n,
                      unsigned long long bits) {
  unsigned char last[2 * BLOCK] = {0};
  size_t i, size = n < BLOCK - 8 ? BLOCK : 2 * BLOCK;
  memcpy(last, rest, n);
  last[n] = 0x80;
  for (i = 0; i < 8; i++)
    last[size - 1 - i] = (unsigned char)(bits >> 8 * i);
  for (i = 0; i < size; i += BLOCK)
    take_block(state, last + i);
}

void redio_sha1(char out[REDIO_SHA1_DIGITS], const void *bytes, size_t n) {
  static const char digits[] = "0123456789abcdef";
  uint32_t state[WORDS] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
  const unsigned char *p = bytes;
  size_t left = n;
  int i;
  for (; left >= BLOCK; left -= BLOCK, p += BLOCK)
    take_block(state, p);
  take_rest(state, p, left, (unsigned long long)n * 8);
  for (i = 0; i < REDIO_SHA1_DIGITS; i++)
    out[i] = digits[state[i / 8] >> (28 - i % 8 * 4) & 15];
}
