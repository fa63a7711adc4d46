#!/bin/sh
# SPDX-License-Identifier: MIT
# lint.sh: runs every check, also after one has failed, and fails if one did.
cd "$(dirname "$0")/.." || exit
status=0
check() {
  echo "== $1"
  shift
  "$@" || status=1
}

check luacheck luacheck --quiet --no-color .luacheckrc .busted lua spec tools $(ls -d examples bench 2>/dev/null || :) rockspec/*.rockspec
check clang-format clang-format --dry-run -Werror --ferror-limit=10 src/*.[ch] $(ls spec/*/*.[ch] 2>/dev/null || :)
check cppcheck cppcheck --quiet --std=c99 --enable=warning,performance,portability --inline-suppr \
  --error-exitcode=1 --suppress=missingIncludeSystem src
check laws "${LUA:-lua5.4}" tools/laws.lua
[ "$status" = 0 ] && echo "lint: all is well"
exit "$status"
