#!/bin/sh
# SPDX-License-Identifier: MIT
# count.sh: counts the instructions of each operation and compares them with bench/counts.txt.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
bench/build.sh still count_hiredis || exit
exec "$LUA" bench/count.lua
