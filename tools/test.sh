#!/bin/sh
# SPDX-License-Identifier: MIT
# test.sh SPEC...: runs spec files, or all in a directory; what .busted says applies.
# Not by the command `busted`, which runs on whatever `lua` is.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
exec "$LUA" -e 'require "busted.runner" { standalone = false }' /dev/null "$@"
