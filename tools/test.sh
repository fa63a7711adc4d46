#!/bin/bash
# SPDX-License-Identifier: MIT
# test.sh SPEC...: runs spec files, or all in a directory; what .busted says applies.
# Each file runs in a process of its own, as many at a time as there are processors (or JOBS=), so that neither the heap
# nor the servers of one weigh on another. One line a file; all that it printed where it failed. The last line is
# busted's, for all of them.
cd "$(dirname "$0")/.." || exit
. tools/env.sh

# Not by the command `busted`, which runs on whatever `lua` is.
busted() {
  "$LUA" -e 'require "busted.runner" { standalone = false }' /dev/null "$@"
}

if [ $# = 1 ] && [ -f "$1" ]; then
  busted "$1"
  exit
fi

SUMMARY='^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors? / [0-9]+ pending'

# run FILE: its report, in one piece, and its summary for the sum. A file that ended without one has an error.
run() {
  local file=$1 output status summary
  output=$(busted "$file" 2>&1)
  status=$?
  summary=$(grep -aE "$SUMMARY" <<<"$output" | tail -n 1)
  if [ -z "$summary" ]; then
    summary="0 successes / 0 failures / 1 error / 0 pending : 0 seconds"
    output+=$'\n'"$file ended with status $status and no summary"
  fi
  {
    flock 9
    [ $status = 0 ] || printf '%s\n' "$output"
    echo "$file: $summary"
    echo "$summary" >>"$sums"
  } 9>"$sums.lock"
}

sums=$(mktemp)
trap 'rm -f "$sums" "$sums.lock"' EXIT
export -f busted run
export sums SUMMARY LUA
find "$@" -name '*_spec.lua' | LC_ALL=C sort |
  xargs -P "${JOBS:-$(nproc)}" -I {} bash -c 'run {}'
awk -v seconds=$SECONDS '
  { successes += $1; failures += $4; errors += $7; pending += $10 }
  END {
    printf "%d successes / %d failures / %d errors / %d pending : %d seconds\n",
      successes, failures, errors, pending, seconds
    exit failures + errors > 0 || successes == 0
  }' "$sums"
