#!/bin/sh
# SPDX-License-Identifier: MIT
# fuzz.sh SECONDS [TARGET...]: runs each target of spec/fuzz for some seconds, with libFuzzer and its sanitizers. Inputs
# that reach new code stay in BUILD/fuzz/corpus. An input that fails is written to BUILD/fuzz.
cd "$(dirname "$0")/.." || exit
seconds=${1:-60}
[ $# = 0 ] || shift
targets=${*:-decoder pipeline connection value}
CLANG=${CLANG:-clang}
command -v "$CLANG" >/dev/null || {
  echo "make fuzz needs clang, whose libFuzzer it uses: install it (on Debian: apt-get install clang), or name one with CLANG=." >&2
  exit 1
}
tools/setup.sh fuzz || exit
. tools/env.sh
case $BUILD in
/*) dir=$BUILD/fuzz ;;
*) dir=$PWD/$BUILD/fuzz ;;
esac
flags="-std=c99 -Wall -Wextra -Wpedantic -Wshadow -g -O1 -I$PWD/src"
sanitize="-fno-sanitize-recover=all -fsanitize=address,undefined"
# Steps of the code under test are counted: see spec/fuzz/steps.h.
counted="-fsanitize=fuzzer-no-link -fsanitize-coverage=trace-pc"
for name in memcpy memmove memchr realloc; do
  counted="$counted -D$name=steps_$name"
done
bound=" $(sed -n 's/^BINDING = //p' Makefile) "
pure= binding=
for file in "$PWD"/src/*.c; do
  name=$(basename "$file" .c)
  case $name:$bound in
  tls:* | ltls:*) ;;
  *" $name "*) binding="$binding $file" ;;
  *) pure="$pure $file" ;;
  esac
done

# compile PART FLAG|FILE...: compiles code under test to the objects of that part
compile() {
  part=$dir/$1
  shift
  rm -rf "$part"
  mkdir -p "$part"
  (cd "$part" && "$CLANG" $flags $sanitize $counted -c "$@")
}

# build TARGET [FILE|FLAG...]
build() {
  target=$1
  shift
  "$CLANG" $flags $sanitize -fsanitize=fuzzer -Wl,--wrap=__sanitizer_cov_trace_pc "spec/fuzz/$target.c" "$dir/steps.o" \
    "$dir"/pure/*.o "$@" -lm -o "$dir/$target"
}

# run TARGET LENGTH
run() {
  mkdir -p "$dir/corpus/$1"
  echo "== $1, $seconds seconds"
  "$dir/$1" -max_total_time="$seconds" -max_len="$2" -timeout=10 -dict=spec/fuzz/resp.dict -artifact_prefix="$dir/$1-" \
    -print_final_stats=1 "$dir/corpus/$1" "$dir/seeds" >"$dir/$1.log" 2>&1 || {
    tail -40 "$dir/$1.log" >&2
    exit 1
  }
  grep -E '^Done|cov:.*DONE|^steps:' "$dir/$1.log"
}

mkdir -p "$dir/seeds"
"$LUA" spec/fuzz/seeds.lua "$dir/seeds" || exit
"$CLANG" $flags -c spec/fuzz/steps.c -o "$dir/steps.o" || exit
compile pure $pure || exit
for target in $targets; do
  case $target in
  value) compile binding $(tools/lua.sh cflags) $binding &&
    build value $(tools/lua.sh cflags) spec/fuzz/grow.c "$dir"/binding/*.o $(tools/lua.sh libs) ;;
  decoder) build decoder spec/fuzz/grow.c ;;
  *) build "$target" ;;
  esac || exit
  case $target in
  pipeline) run "$target" 512 ;;
  *) run "$target" 2048 ;;
  esac
done
