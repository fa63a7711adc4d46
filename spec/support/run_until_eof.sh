#!/bin/sh
# SPDX-License-Identifier: MIT
# guard.sh DIRECTORY COMMAND...: runs a server and sees to its end. The process id is left in
# DIRECTORY/pid, the exit status in DIRECTORY/exited. Standard input is the leash: a line "keep" ends
# the server and leaves the directory; any other line, or the end of the input, which comes by itself
# when whoever started this is gone (by kill -9, too), removes the directory as well.
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
