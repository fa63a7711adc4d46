/* SPDX-License-Identifier: MIT */
/* Specs: promises/19 */
#include "number.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Integers to text ----------------------------------------------------------------------------- */

size_t redio_write_unsigned(char *out, unsigned long long n) {
  char digits[REDIO_NUMBER_MAX];
  char *p = digits + sizeof digits;
  size_t len;
  do
    *--p = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  len = (size_t)(digits + sizeof digits - p);
  memcpy(out, p, len);
  return len;
}

size_t redio_write_integer(char *out, long long n) {
  if (n >= 0)
    return redio_write_unsigned(out, (unsigned long long)n);
  *out = '-';
  return 1 + redio_write_unsigned(out + 1, 0 - (unsigned long long)n);
}

/* Text to double -------------------------------------------------------------------------------
 *
 * Every path is exact. The value is brought to m * 2^e with 62 bits or more in m, and a flag says
 * that something is left below them. One function then rounds to 53 bits, or to fewer below the
 * normal range. Neither the floating-point unit nor the locale plays a part. */

/* Significant digits that can matter: a value halfway between two doubles has at most 767. */
enum { MAX_DIGITS = 780, EXPONENT_LIMIT = 100000000 };

typedef struct decimal {
  int negative;
  int count;     /* significant digits, without leading zeros */
  int exponent;  /* value = digits * 10^exponent */
  uint64_t lead; /* the digits as a number, while there are 19 or fewer */
  char digits[MAX_DIGITS];
} decimal;

typedef struct binary {
  uint64_t m;
  int e;
  int more; /* something non-zero lies below m */
} binary;

static int leading_zeros(uint64_t m) {
  int n = 0, step;
  for (step = 32; step > 0; step /= 2)
    if (m >> (64 - step) == 0) {
      n += step;
      m <<= step;
    }
  return n;
}

/* Rounds m * 2^e, m not 0, to the nearest double, ties to even. Returns 0, or -1 when that is
 * infinite. */
static int round_binary(binary b, uint64_t *bits) {
  int shift = leading_zeros(b.m);
  uint64_t m = b.m << shift, kept, rest, half;
  int top = b.e - shift + 63; /* m is 2^top to 2^(top + 1) */
  int drop = 11;
  if (top < -1022)
    drop += -1022 - top;
  if (top > 1023 || drop > 64) {
    *bits = 0;
    return top > 1023 ? -1 : 0;
  }
  half = (uint64_t)1 << (drop - 1);
  kept = drop < 64 ? m >> drop : 0;
  rest = m & (half | (half - 1));
  if (rest > half || (rest == half && (b.more || (kept & 1))))
    kept++;
  /* The hidden bit adds one to the exponent field; so does a carry out of the rounding. */
  *bits = kept + (top < -1022 ? 0 : (uint64_t)(top + 1022) << 52);
  return *bits >= (uint64_t)0x7ff << 52 ? -1 : 0;
}

/* Small exponents: 19 digits and the powers of five up to 5^26 fit 64 bits each. */
enum { SMALL_EXPONENT = 26, SMALL_DIGITS = 19 };

static const uint32_t powers_of_five[] = {1,       5,        25,        125,       625,
                                          3125,    15625,    78125,     390625,    1953125,
                                          9765625, 48828125, 244140625, 1220703125};

static uint64_t power_of_five(int k) {
  return (uint64_t)powers_of_five[k / 2] * powers_of_five[(k + 1) / 2];
}

static binary multiply(uint64_t a, uint64_t b) {
  uint64_t a1 = a >> 32, a0 = a & 0xffffffff, b1 = b >> 32, b0 = b & 0xffffffff;
  uint64_t low = a0 * b0, mid = a1 * b0 + (low >> 32), mid2 = a0 * b1 + (mid & 0xffffffff);
  uint64_t high = a1 * b1 + (mid >> 32) + (mid2 >> 32);
  binary r;
  int shift;
  low = (mid2 << 32) | (low & 0xffffffff);
  r.m = low;
  r.e = r.more = 0;
  if (high == 0)
    return r;
  shift = leading_zeros(high);
  r.m = shift > 0 ? high << shift | low >> (64 - shift) : high;
  r.e = 64 - shift;
  r.more = shift > 0 ? low << shift != 0 : low != 0;
  return r;
}

/* Returns one 32-bit digit of the quotient (*n, next) : b, with b's top bit set and *n < b. *n
 * becomes the remainder. */
static uint64_t divide_step(uint64_t *n, uint32_t next, uint64_t b) {
  uint64_t b1 = b >> 32, b0 = b & 0xffffffff;
  uint64_t q = *n / b1, r = *n % b1;
  while (q >> 32 != 0 || q * b0 > (r << 32 | next)) {
    q--;
    r += b1;
    if (r >> 32 != 0)
      break;
  }
  *n = (*n << 32 | next) - q * b;
  return q;
}

static binary divide(uint64_t a, uint64_t b) {
  int shift_a = leading_zeros(a), shift_b = leading_zeros(b), half;
  uint32_t low;
  binary r;
  a <<= shift_a;
  b <<= shift_b;
  half = a >= b; /* then a / 2 is divided, and its last bit begins the digit behind it */
  low = half ? (uint32_t)(a & 1) << 31 : 0;
  a >>= half;
  r.m = divide_step(&a, low, b) << 32;
  r.m |= divide_step(&a, 0, b);
  r.e = shift_b - shift_a - 64 + half;
  r.more = a != 0;
  return r;
}

/* Other exponents: digits * 10^exponent = num / den with big numbers, then 64 bits of the quotient
 * one by one. 2,600 bits hold 780 digits, and 5^1105, the largest divisor. */
enum { LIMBS = 88 };

typedef struct big {
  int n; /* limbs, the last one not 0 */
  uint32_t limb[LIMBS];
} big;

static void big_multiply_add(big *b, uint32_t factor, uint32_t carry) {
  uint64_t sum = carry;
  int i;
  for (i = 0; i < b->n; i++) {
    sum += (uint64_t)b->limb[i] * factor;
    b->limb[i] = (uint32_t)sum;
    sum >>= 32;
  }
  if (sum > 0)
    b->limb[b->n++] = (uint32_t)sum;
}

static void big_multiply_power_of_five(big *b, int k) {
  for (; k >= 13; k -= 13)
    big_multiply_add(b, 1220703125, 0);
  big_multiply_add(b, powers_of_five[k], 0);
}

static int big_bits(const big *b) { return b->n * 32 - (leading_zeros(b->limb[b->n - 1]) - 32); }

static void big_shift_left(big *b, int bits) {
  int limbs = bits / 32;
  big_multiply_add(b, (uint32_t)1 << bits % 32, 0);
  memmove(b->limb + limbs, b->limb, (size_t)b->n * sizeof b->limb[0]);
  memset(b->limb, 0, (size_t)limbs * sizeof b->limb[0]);
  b->n += limbs;
}

static int big_less(const big *a, const big *b) {
  int i = a->n;
  if (a->n != b->n)
    return a->n < b->n;
  while (--i > 0 && a->limb[i] == b->limb[i])
    ;
  return i >= 0 && a->limb[i] < b->limb[i];
}

/* a -= b, for an a that is not less. */
static void big_subtract(big *a, const big *b) {
  int64_t rest = 0;
  int i;
  for (i = 0; i < a->n; i++) {
    rest += (int64_t)a->limb[i] - (i < b->n ? (int64_t)b->limb[i] : 0);
    a->limb[i] = (uint32_t)rest;
    rest = rest < 0 ? -1 : 0;
  }
  while (a->n > 0 && a->limb[a->n - 1] == 0)
    a->n--;
}

static binary big_divide(const decimal *d) {
  big num = {0, {0}}, den = {1, {1}};
  binary r = {0, 0, 0};
  int i, apart;
  for (i = 0; i < d->count; i++)
    big_multiply_add(&num, 10, (uint32_t)(d->digits[i] - '0'));
  if (d->exponent >= 0)
    big_multiply_power_of_five(&num, d->exponent);
  else
    big_multiply_power_of_five(&den, -d->exponent);
  apart = big_bits(&num) - big_bits(&den);
  big_shift_left(apart < 0 ? &num : &den, apart < 0 ? -apart : apart);
  for (i = 0; i < 64; i++) { /* num < 2 * den throughout */
    int one = !big_less(&num, &den);
    if (one)
      big_subtract(&num, &den);
    big_multiply_add(&num, 2, 0);
    r.m = r.m << 1 | (unsigned)one;
  }
  r.e = d->exponent + apart - 63;
  r.more = num.n > 0;
  return r;
}

static int decimal_bits(const decimal *d, uint64_t *bits) {
  int magnitude = d->count + d->exponent; /* value is less than 10^magnitude */
  binary b;
  *bits = 0;
  if (d->count == 0 || magnitude < -330)
    return 0;
  if (magnitude > 310)
    return -1;
  if (d->count <= SMALL_DIGITS && d->exponent >= -SMALL_EXPONENT && d->exponent <= SMALL_EXPONENT) {
    b = d->exponent < 0 ? divide(d->lead, power_of_five(-d->exponent))
                        : multiply(d->lead, power_of_five(d->exponent));
    b.e += d->exponent;
  } else {
    b = big_divide(d);
  }
  return round_binary(b, bits);
}

/* Reads digits into d. Behind the last one that can matter, d notes only that one is not 0. */
static const char *read_digits(const char *s, const char *end, decimal *d, int fraction) {
  for (; s < end && redio_is_digit(*s); s++) {
    if (d->exponent > -EXPONENT_LIMIT)
      d->exponent -= fraction;
    if (d->count == 0 && *s == '0')
      continue;
    if (d->count < MAX_DIGITS) {
      if (d->count < SMALL_DIGITS)
        d->lead = d->lead * 10 + (uint64_t)(*s - '0');
      d->digits[d->count++] = *s;
      continue;
    }
    if (*s != '0')
      d->digits[MAX_DIGITS - 1] |= 1; /* '0' to '9' are 0x30 to 0x39: now odd, so not a tie */
    if (d->exponent < EXPONENT_LIMIT)
      d->exponent++;
  }
  return s;
}

static const char *read_exponent(const char *s, const char *end, decimal *d) {
  int negative = 0, exponent = 0;
  if (s < end && (*s == '-' || *s == '+'))
    negative = *s++ == '-';
  if (s == end || !redio_is_digit(*s))
    return NULL;
  for (; s < end && redio_is_digit(*s); s++)
    if (exponent < EXPONENT_LIMIT)
      exponent = exponent * 10 + (*s - '0');
  d->exponent += negative ? -exponent : exponent;
  return s;
}

/* Reads the whole of [s, end): digits [. digits] [e exponent]. Returns 0, or -1. */
static int read_decimal(const char *s, const char *end, decimal *d) {
  d->count = 0;
  d->exponent = 0;
  d->lead = 0;
  if (s == end || !redio_is_digit(*s))
    return -1;
  s = read_digits(s, end, d, 0);
  if (s < end && *s == '.') {
    if (++s == end || !redio_is_digit(*s))
      return -1;
    s = read_digits(s, end, d, 1);
  }
  if (s < end && (*s == 'e' || *s == 'E'))
    s = read_exponent(s + 1, end, d);
  return s == end ? 0 : -1;
}

static int is_word(const char *s, size_t n, const char *word) {
  size_t i;
  if (n != strlen(word))
    return 0;
  for (i = 0; i < n; i++)
    if ((s[i] | 0x20) != word[i])
      return 0;
  return 1;
}

int redio_read_double(const char *s, size_t n, double *out) {
  const char *end = s + n;
  int negative = n > 0 && *s == '-';
  uint64_t bits;
  decimal d;
  if (n > 0 && (*s == '-' || *s == '+'))
    s++;
  if (is_word(s, (size_t)(end - s), "nan")) {
    *out = NAN;
    return 0;
  }
  if (is_word(s, (size_t)(end - s), "inf")) {
    *out = negative ? -HUGE_VAL : HUGE_VAL;
    return 0;
  }
  if (read_decimal(s, end, &d) != 0 || decimal_bits(&d, &bits) != 0)
    return -1;
  bits |= (uint64_t)negative << 63;
  memcpy(out, &bits, sizeof bits);
  return 0;
}

/* Double to text ------------------------------------------------------------------------------- */

static int reads_back(const char *s, size_t n, double d) {
  double again;
  return redio_read_double(s, n, &again) == 0 && again == d;
}

/* Writes d with that many significant digits, trailing zeros only when `all`. The locale's decimal
 * point becomes ".". Returns the length. */
static size_t print_digits(char *out, int precision, int all, double d) {
  char text[64];
  size_t n = 0;
  const char *p;
  snprintf(text, sizeof text, all ? "%#.*g" : "%.*g", precision, d);
  for (p = text; *p; p++) {
    if (redio_is_digit(*p) || *p == '-' || *p == '+' || *p == 'e')
      out[n++] = *p;
    else if (n > 0 && out[n - 1] != '.')
      out[n++] = '.';
  }
  return n;
}

/* Adds one to the last of a number's digits, which are not all nines. */
static void next_decimal(char *s, size_t n) {
  char *e = memchr(s, 'e', n);
  char *p = (e ? e : s + n) - 1;
  for (; *p == '9' || *p == '.'; p--)
    if (*p == '9')
      *p = '0';
  ++*p;
}

/* Below a power of two doubles lie twice as close as above it. So the nearest decimal of 16 digits
 * may miss it although the next one up does not. Returns the length, or 0 when that one misses,
 * too. */
static size_t print_power_of_two(char *out, double d) {
  size_t n = print_digits(out, 16, 1, d);
  next_decimal(out, n);
  return reads_back(out, n, d) ? n : 0;
}

static int is_power_of_two(double d) {
  int exponent;
  return fabs(frexp(d, &exponent)) == 0.5;
}

size_t redio_write_double(char *out, double d) {
  const double exact = 9007199254740992.0; /* 2^53 */
  /* Fifteen digits always survive in the normal range; below it fewer may do. */
  int precision = fabs(d) < 2.2250738585072014e-308 ? 1 : 15;
  size_t n;
  if (d >= -exact && d <= exact && d == (double)(long long)d && (d != 0 || !signbit(d)))
    return redio_write_integer(out, (long long)d);
  if (d - d != 0) {
    n = d < 0;
    memcpy(out, "-", n);
    memcpy(out + n, "inf", 3);
    return n + 3;
  }
  for (; precision < 17; precision++) {
    n = print_digits(out, precision, 0, d);
    if (reads_back(out, n, d))
      return n;
  }
  n = is_power_of_two(d) ? print_power_of_two(out, d) : 0;
  return n > 0 ? n : print_digits(out, 17, 0, d);
}
