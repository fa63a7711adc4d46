#!/bin/sh
# SPDX-License-Identifier: MIT
# lua.sh version | cflags | libs | check: about the Lua named by LUA (lua5.4). Prints its version ("5.4"; "5.1" for
# LuaJIT), the compiler's flags for its headers, or the linker's flags for programs that embed it. `check` fails, with a
# reason, where redio cannot be built for it. LUA_INCDIR names the directory of the headers.
lua=${LUA:-lua5.4}

version() {
  banner=$("$lua" -v 2>&1) || {
    echo "There is no '$lua' to be run; install it, or name another with LUA=." >&2
    exit 1
  }
  case $banner in
  LuaJIT*) echo 5.1 ;;
  *) echo "$banner" | sed -n 's/^Lua \([0-9]*\.[0-9]*\).*/\1/p' ;;
  esac
}

cflags() {
  v=$(version) || exit
  [ -z "$LUA_INCDIR" ] || { echo "-I$LUA_INCDIR"; return; }
  case $lua in
  *luajit*) names="luajit" dirs="luajit-2.1 luajit-2.0" ;;
  *) names="lua$v lua-$v lua$(echo "$v" | tr -d .)" dirs="lua$v lua/$v lua-$v" ;;
  esac
  for name in $names; do
    pkg-config --cflags "$name" 2>/dev/null && return
  done
  for dir in $dirs; do
    for base in /usr/include /usr/local/include /opt/homebrew/include; do
      [ ! -f "$base/$dir/lua.h" ] || { echo "-I$base/$dir"; return; }
    done
  done
  echo "The headers of Lua $v (lua.h) are not found; install them, or name their directory with LUA_INCDIR=." >&2
  exit 1
}

libs() {
  v=$(version) || exit
  case $lua in
  *luajit*) names="luajit" library=luajit-5.1 ;;
  *) names="lua$v lua-$v" library=lua$v ;;
  esac
  for name in $names; do
    pkg-config --libs "$name" 2>/dev/null && return
  done
  echo "-l$library"
}

# Reports a wrong Lua once. Otherwise compat.h would stop the compiler at each file.
check() {
  flags=$(cflags) || exit
  preprocess() { echo "#include $1" | ${CC:-cc} $CPPFLAGS $flags -I"${0%/*}/../src" -E - >/dev/null 2>&1; }
  preprocess '<lua.h>' || return 0 # a missing compiler is reported by make
  preprocess '"compat.h"' || {
    echo "redio is for Lua 5.4, 5.3 and LuaJIT 2.1, and the headers of '$lua' (${flags% }) are those of another Lua. Make \
takes LUA=lua5.4. LuaRocks, whose default this may be, takes --lua-version=5.4; for LuaJIT --lua-version=5.1, and \
LUA_INCDIR= with the directory of LuaJIT's headers." >&2
    exit 1
  }
}

case $1 in
version | cflags | libs | check) "$1" ;;
*) echo "usage: lua.sh version | cflags | libs | check" >&2; exit 2 ;;
esac
