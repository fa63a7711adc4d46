/* SPDX-License-Identifier: MIT */
/* How long the code under test takes, in steps: an edge of its control flow is one, as the compiler
 * counts them (-fsanitize-coverage=trace-pc), and eight bytes that it copies, moves, searches or
 * allocates by the C library are another. A step is a few instructions, and an input takes the same
 * steps on every machine, however busy it is. Lua and the targets themselves are not counted.
 *
 * For each byte that it is given the code may take so many steps, and one more is a finding, at
 * once: no run need come to its end. The allowance grows with the bytes, so memory that doubles is
 * paid for by what was saved before. Each target says how much it allows and what is usual;
 * tools/fuzz.sh shows the most that a run has used. Work that grows faster than its input passes
 * any such bound, and work that doubles with each level of nesting after a few levels. */
#ifndef REDIO_FUZZ_STEPS_H
#define REDIO_FUZZ_STEPS_H

#include <stddef.h>

/* Counts from here on: so many steps for each byte. Work that is done once has the allowance of
 * STEPS_ONCE bytes. */
enum { STEPS_ONCE = 64 };
void steps_begin(unsigned per_byte);
void steps_allow(size_t bytes);
void steps_end(void);

/* As how many bytes those of a server count: a double with an exponent is a division of numbers of
 * some hundred digits, however few bytes it has. */
size_t steps_bytes(const void *bytes, size_t n);

/* In between, the target uses the code under test for its own purposes. */
void steps_pause(void);
void steps_go_on(void);

#endif
