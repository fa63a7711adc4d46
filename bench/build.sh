#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh NAME...: compiles bench/NAME.c to $BUILD/bench/NAME. `still` becomes a library. The others link hiredis.
cd "$(dirname "$0")/.." || exit
to=${BUILD:-build}/bench
mkdir -p "$to" || exit
for name; do
  case $name in
  still) how="-shared -fPIC" libraries= ;;
  *) how= libraries=-lhiredis ;;
  esac
  "${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -O2 $how -o "$to/$name.$$" "bench/$name.c" $libraries &&
    mv -f "$to/$name.$$" "$to/$name" || exit
done
