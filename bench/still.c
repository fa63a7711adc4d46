/* SPDX-License-Identifier: MIT */
/* A clock that stands still, to be preloaded. Lua seeds its hashes with the time. */
#include <time.h>

time_t time(time_t *t) {
  const time_t now = 1000000000;
  if (t)
    *t = now;
  return now;
}
