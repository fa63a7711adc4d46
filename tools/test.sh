#!/bin/bash
# SPDX-License-Identifier: MIT
# test.sh [SPEC...]: runs spec files, and all in directories (without arguments: in spec), with the settings of .busted.
# A single file prints as it runs. Of several, each runs in a process of its own, with a heap and servers of its own. As
# many run at a time as there are processors (or JOBS=). Prints one line for each file, after the file's output if it
# failed. The last line is the sum, in the form of busted.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
[ $# != 0 ] || set -- spec

fail() {
  echo "test.sh: $1" >&2
  exit 2
}

# The files of the arguments, one a line.
list() {
  local path files
  for path; do
    files=$path
    [ -e "$path" ] || fail "there is no $path"
    [ ! -d "$path" ] || files=$(find "$path" -name '*_spec.lua' | LC_ALL=C sort)
    [ -n "$files" ] || fail "there is no spec file in $path"
    echo "$files"
  done
}

# (The command `busted` runs on the installed `lua`, not on $LUA.)
busted() {
  "$LUA" -e 'require "busted.runner" { standalone = false }' /dev/null "$@"
}

SUMMARY='^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors? / [0-9]+ pending'

# run FILE: prints its report in one piece, and adds its summary to the sum. A file without a summary has an error, and
# so has one that fails after its last test, as by a sanitizer's report.
run() {
  local file=$1 output status summary
  output=$(busted "$file" 2>&1)
  status=$?
  summary=$(grep -aE "$SUMMARY" <<<"$output" | tail -n 1)
  if [ -z "$summary" ] || { [ $status != 0 ] && [[ $summary = *" 0 failures / 0 errors "* ]]; }; then
    output+=$'\n'"$file ended with status $status${summary:+ after its last test}"
    summary=${summary:-0 successes / 0 failures / 0 errors / 0 pending : 0 seconds}
    summary=${summary/0 errors/1 error}
  fi
  {
    flock 9
    [ $status = 0 ] || printf '%s\n' "$output"
    awk -v file="$file" '{
      line = file ": " $1 " " $2
      for (i = 4; i < 12; i += 3) if ($i > 0) line = line ", " $i " " $(i + 1)
      printf "%s, %.1f s\n", line, $13
    }' <<<"$summary"
    echo "$summary $file" >>"$sums"
  } 9>"$sums.lock"
}

# The children are a process group of their own. Ctrl-C reaches this script alone, which ends them.
set -m
in_group() {
  "$@" &
  group=$!
  wait $group
}
trap 'trap "" INT TERM HUP; { [ -z "$group" ] || kill -- -$group; wait; } 2>/dev/null; exit 130' INT TERM HUP

files=$(list "$@") || exit
# Files with a line "-- Slow" start first, so that the last to end are short.
files=$({ xargs grep -l '^-- Slow' <<<"$files"; echo "$files"; } | awk '!seen[$0]++')
count=$(wc -l <<<"$files")
if [ "$count" = 1 ]; then
  in_group busted "$files" </dev/null
  exit
fi

sums=$(mktemp)
trap 'rm -f "$sums" "$sums.lock"' EXIT
export -f busted run
export sums SUMMARY LUA
in_group xargs -P "${JOBS:-$(nproc)}" -I {} bash -c 'run {}' <<<"$files"
awk -v seconds=$SECONDS -v count="$count" '
  { successes += $1; failures += $4; errors += $7; pending += $10 }
  $4 + $7 > 0 { print "failed: " $NF }
  END {
    if (NR != count) print "not every file has reported: " count - NR " are missing"
    printf "%d successes / %d failures / %d errors / %d pending : %d seconds\n",
      successes, failures, errors + count - NR, pending, seconds
    exit failures + errors > 0 || NR != count || successes == 0
  }' "$sums"
