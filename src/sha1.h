/* SPDX-License-Identifier: MIT */
/* SHA-1 (FIPS 180-4): the server's names of scripts. It protects nothing here. */
#ifndef REDIO_SHA1_H
#define REDIO_SHA1_H

#include <stddef.h>

enum { REDIO_SHA1_DIGITS = 40 };

/* Writes the digest of n bytes to out, in lower-case hexadecimal digits and without a zero. */
void redio_sha1(char out[REDIO_SHA1_DIGITS], const void *bytes, size_t n);

#endif
