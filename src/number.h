/* SPDX-License-Identifier: MIT */
/* Numbers as text, both ways, whatever the locale. */
#ifndef REDIO_NUMBER_H
#define REDIO_NUMBER_H

#include <stddef.h>

/* Longest text either writer makes, with room to spare. Neither writes a NUL. */
#define REDIO_NUMBER_MAX 32

/* Decimal digits of n; returns the length. */
size_t redio_write_integer(char *out, long long n);
size_t redio_write_unsigned(char *out, unsigned long long n);

/* Shortest decimal that reads back as d: "0.1", "1e+100", "inf", "-inf"; an integral value within
 * 2^53 without fraction or exponent; "-0" for the negative zero. d is not NaN. Returns the length.
 */
size_t redio_write_double(char *out, double d);

/* The whole of s[0..n) as a double: optional sign, digits, optional fraction with digits, optional
 * exponent; or inf, nan in any case, with a sign. Correctly rounded. No hex, no ".5", no "5.",
 * nothing that overflows (what is too small is 0). 0, or -1. */
int redio_read_double(const char *s, size_t n, double *out);

#endif
