#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh NAME...: compiles bench/NAME.c with hiredis to $BUILD/bench/NAME.
cd "$(dirname "$0")/.." || exit
to=${BUILD:-build}/bench
mkdir -p "$to" || exit
for name; do
  "${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -O2 -o "$to/$name.$$" "bench/$name.c" -lhiredis &&
    mv -f "$to/$name.$$" "$to/$name" || exit
done
