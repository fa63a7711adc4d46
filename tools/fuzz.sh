#!/bin/sh
# SPDX-License-Identifier: MIT
# fuzz.sh SECONDS [TARGET...]: runs the targets of spec/fuzz, each for so many seconds, with libFuzzer and its
# sanitizers. What they learn stays in BUILD/fuzz/corpus; an input that fails is left in BUILD/fuzz.
cd "$(dirname "$0")/.." || exit
seconds=${1:-60}
[ $# = 0 ] || shift
CLANG=${CLANG:-clang}
command -v "$CLANG" >/dev/null || {
  echo "make fuzz needs clang, whose libFuzzer it uses: install it (on Debian: apt-get install clang), or name one with CLANG=." >&2
  exit 1
}
tools/setup.sh fuzz || exit
. tools/env.sh
dir=$BUILD/fuzz
flags="-std=c99 -Wall -Wextra -Wpedantic -Wshadow -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all"
pure= binding=
for file in src/*.c; do
  case $file in
  src/tls.c | src/ltls.c) ;;
  src/l*.c) binding="$binding $file" ;;
  *) pure="$pure $file" ;;
  esac
done

# build TARGET [FILE|FLAG...]
build() {
  target=$1
  shift
  "$CLANG" $flags -Isrc "$@" $pure "spec/fuzz/$target.c" -lm -o "$dir/$target"
}

# run TARGET LENGTH
run() {
  mkdir -p "$dir/corpus/$1"
  echo "== $1, $seconds seconds"
  "$dir/$1" -max_total_time="$seconds" -max_len="$2" -timeout=10 -artifact_prefix="$dir/$1-" -print_final_stats=1 \
    "$dir/corpus/$1" "$dir/seeds" >"$dir/$1.log" 2>&1 || {
    tail -40 "$dir/$1.log" >&2
    exit 1
  }
  grep -E '^Done|cov:.*DONE' "$dir/$1.log"
}

mkdir -p "$dir/seeds"
"$LUA" spec/fuzz/seeds.lua "$dir/seeds" || exit
for target in ${*:-decoder pipeline connection value}; do
  case $target in
  value) build value $(tools/lua.sh cflags) $binding $(tools/lua.sh libs) ;;
  *) build "$target" ;;
  esac || exit
  case $target in
  pipeline) run "$target" 512 ;;
  *) run "$target" 2048 ;;
  esac
done
