#!/bin/bash
# SPDX-License-Identifier: MIT
# test.sh SPEC...: runs spec files, or all in a directory, with the settings of .busted.
# Each file runs in a process of its own, with a heap and servers of its own. As many run at a time as there are
# processors (or JOBS=). Prints one line for each file, after the file's output if it failed. The last line is the sum,
# in the form of busted.
cd "$(dirname "$0")/.." || exit
. tools/env.sh

# (The command `busted` runs on the installed `lua`, not on $LUA.)
busted() {
  "$LUA" -e 'require "busted.runner" { standalone = false }' /dev/null "$@"
}

if [ $# = 1 ] && [ -f "$1" ]; then
  busted "$1"
  exit
fi

SUMMARY='^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors? / [0-9]+ pending'

# run FILE: prints its report in one piece, and adds its summary to the sum. A file without a summary has an error.
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
