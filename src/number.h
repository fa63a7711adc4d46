/* SPDX-License-Identifier: MIT */
/* Numbers to text and back, in any locale. */
#ifndef REDIO_NUMBER_H
#define REDIO_NUMBER_H

#include <stddef.h>

/* Room for the longest text that a writer makes. The writers add no NUL. */
#define REDIO_NUMBER_MAX 32

static inline int redio_is_digit(char c) { return c >= '0' && c <= '9'; }

/* Writes n in decimal digits; returns the length. */
size_t redio_write_integer(char *out, long long n);
size_t redio_write_unsigned(char *out, unsigned long long n);

/* Writes the shortest decimal that reads back as d: "0.1", "1e+100", "inf", "-inf". An integral
 * value within 2^53 has neither fraction nor exponent, and the negative zero is "-0". d must not be
 * NaN. Returns the length. */
size_t redio_write_double(char *out, double d);

/* Reads the whole of s[0..n) as a double, correctly rounded: optional sign, digits, optional
 * fraction with digits, optional exponent; or inf or nan in any case, with an optional sign. Hex,
 * ".5", "5." and an overflow are errors; an underflow is 0. Returns 0, or -1 on an error. */
int redio_read_double(const char *s, size_t n, double *out);

#endif
