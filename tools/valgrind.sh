#!/bin/sh
# SPDX-License-Identifier: MIT
# valgrind.sh SPEC...: runs specs under valgrind. Fails at an error or at unreachable memory.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
exec valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect \
  --keep-debuginfo=yes --error-exitcode=99 --child-silent-after-fork=yes \
  "$LUA" -e 'require "busted.runner" { standalone = false }' /dev/null "$@"
