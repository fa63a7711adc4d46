/* SPDX-License-Identifier: MIT */
/* The time of the code under test, in steps. An edge of its control flow is one step, as the
 * compiler counts them (-fsanitize-coverage=trace-pc). Eight bytes that it copies, moves, searches
 * or allocates by the C library are one more. A step is a few instructions, and an input takes the
 * same steps on every machine, however busy it is. Lua and the targets themselves are not counted.
 *
 * The code may take a number of steps for each byte of its input. One more is a finding, at once:
 * the run need not end. The allowance grows with the bytes, so memory that doubles is paid for by
 * savings before. Each target names its allowance and the usual figure, and tools/fuzz.sh shows the
 * most that a run has used. Work that grows faster than its input exceeds any such bound, and work
 * that doubles with each level of nesting does so after a few levels. */
#ifndef REDIO_FUZZ_STEPS_H
#define REDIO_FUZZ_STEPS_H

#include <stddef.h>

/* Starts counting, with so many steps for each byte. Work that is done once has the allowance of
 * STEPS_ONCE bytes. */
enum { STEPS_ONCE = 64 };
void steps_begin(unsigned per_byte);
void steps_allow(size_t bytes);
void steps_end(void);

/* Returns the bytes that the n bytes of a server count for. A double with an exponent is a division
 * of numbers of some hundred digits, however short it is. */
size_t steps_bytes(const void *bytes, size_t n);

/* Stop and restart counting, for a target that uses the code under test for its own purposes. */
void steps_pause(void);
void steps_go_on(void);

#endif
