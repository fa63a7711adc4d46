#!/bin/sh
# SPDX-License-Identifier: MIT
# lint.sh: runs every check, also after one has failed. Fails if one did.
cd "$(dirname "$0")/.." || exit
status=0
check() {
  echo "== $1"
  shift
  "$@" || status=1
}

check luacheck luacheck --quiet --no-color .luacheckrc .busted lua spec tools examples bench rockspec/*.rockspec
check clang-format clang-format --dry-run -Werror --ferror-limit=10 src/*.[ch] spec/*/*.[ch] examples/*/*.[ch] bench/*.c
check cppcheck cppcheck --quiet --std=c99 --enable=warning,performance,portability --inline-suppr \
  --error-exitcode=1 --suppress=missingIncludeSystem src bench
check laws "${LUA:-lua5.4}" tools/laws.lua
check prose "${LUA:-lua5.4}" tools/prose.lua
[ "$status" = 0 ] && echo "lint: all is well"
exit "$status"
