#!/bin/sh
# SPDX-License-Identifier: MIT
# run_until_eof.sh DIRECTORY COMMAND...: runs a server until its own standard input ends or has a line. So the server
# ends with the process that started it, also after kill -9. Removes the directory then, but for a line "keep". Leaves
# the process id in DIRECTORY/pid and the exit status in DIRECTORY/exited.
dir=$1
shift
trap '' HUP INT TERM # Ctrl-C goes to the whole group; the end of the input follows it.
{
  "$@" </dev/null &
  echo $! >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
  wait $!
  echo $? >"$dir/exited"
} >"$dir/output" 2>&1 &
read -r word
while [ ! -e "$dir/pid" ]; do sleep 0.01; done # (on a busy machine it may be told to end what has only just begun)
[ -e "$dir/exited" ] || kill -KILL "$(cat "$dir/pid")" 2>/dev/null
wait
[ "$word" = keep ] || rm -rf "$dir"
