/* SPDX-License-Identifier: MIT */
/* Compiled without instrumentation: see tools/fuzz.sh. */
#include "steps.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_A_STEP = 8, BYTES_AN_EXPONENT = 128 };

static int is_counting;
static unsigned long long taken, bytes;
static unsigned per_byte;

/* One for each number of steps for a byte. libFuzzer counts them as coverage, so it goes on from an
 * input that takes longer than all before it. */
enum { COUNTERS = 1024, COUNTERS_A_STEP = 4 };
__attribute__((used, section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

/* The most steps for a byte of one input. */
static double most;
static int is_reported;

static void report(void) {
  fprintf(stderr, "steps: at most %.0f for a byte, of %u\n", most, per_byte);
}

static void take(unsigned long long n) {
  if (!is_counting)
    return;
  taken += n;
  if (taken <= per_byte * bytes)
    return;
  fprintf(stderr, "%llu steps for %llu bytes, of which each may take %u\n", taken, bytes, per_byte);
  abort();
}

void steps_begin(unsigned allowed) {
  is_counting = 1;
  taken = 0;
  bytes = STEPS_ONCE;
  per_byte = allowed;
}

void steps_allow(size_t n) { bytes += n; }
size_t steps_bytes(const void *bytes_of, size_t n) {
  const char *p = bytes_of, *end = p + n;
  for (; p < end; p++)
    if (*p == 'e' || *p == 'E')
      n += BYTES_AN_EXPONENT;
  return n;
}

void steps_pause(void) { is_counting = 0; }
void steps_go_on(void) { is_counting = 1; }

void steps_end(void) {
  double used = (double)taken / (double)bytes;
  unsigned at = (unsigned)(used * COUNTERS_A_STEP);
  is_counting = 0;
  counters[at < COUNTERS ? at : COUNTERS - 1] = 1;
  if (used > most)
    most = used;
  if (!is_reported++)
    atexit(report);
}

/* Replaces libFuzzer's function of this name (the linker's --wrap). */
void __wrap___sanitizer_cov_trace_pc(void);
void __wrap___sanitizer_cov_trace_pc(void) { take(1); }

/* memcpy and so on of the code under test. */
void *steps_memcpy(void *to, const void *from, size_t n);
void *steps_memmove(void *to, const void *from, size_t n);
void *steps_memchr(const void *s, int c, size_t n);
void *steps_realloc(void *p, size_t n);

void *steps_memcpy(void *to, const void *from, size_t n) {
  take(n / BYTES_A_STEP);
  return memcpy(to, from, n);
}

void *steps_memmove(void *to, const void *from, size_t n) {
  take(n / BYTES_A_STEP);
  return memmove(to, from, n);
}

void *steps_memchr(const void *s, int c, size_t n) {
  char *found = memchr(s, c, n);
  take((found ? (size_t)(found - (const char *)s) : n) / BYTES_A_STEP);
  return found;
}

void *steps_realloc(void *p, size_t n) {
  take(n / BYTES_A_STEP);
  return realloc(p, n);
}
