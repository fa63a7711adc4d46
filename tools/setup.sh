#!/bin/sh
# SPDX-License-Identifier: MIT
# setup.sh build|run|test|lint|fuzz|valgrind...: makes sure that what these need is there. On Debian and its like,
# what is missing is installed by apt-get; elsewhere it is listed. Nothing missing: no network, no root.
cd "$(dirname "$0")/.." || exit
LUA=${LUA:-lua5.4}
case $LUA in
*luajit*) lua_package=luajit headers=libluajit-5.1-dev ;;
*) lua_package=${LUA##*/} headers=lib${LUA##*/}-dev ;;
esac

has() { command -v "$1" >/dev/null; }
has_module() { has "$LUA" && "$LUA" -e "require '$1'" 2>/dev/null; }
has_headers() { tools/lua.sh cflags >/dev/null 2>&1; }
has_openssl() { tools/openssl.sh cflags >/dev/null 2>&1; }

# need PACKAGE WHY PROBE...: notes PACKAGE as missing when PROBE fails.
packages=
report=
need() {
  package=$1 why=$2
  shift 2
  "$@" && return
  packages="$packages $package"
  report="$report  $(printf '%-18s' "$package") $why
"
}

needs_of_build() {
  need gcc "the C compiler" has "${CC:-cc}"
  need libc6-dev "the headers of the C library" sh -c "echo '#include <stdlib.h>' | ${CC:-cc} -E - >/dev/null 2>&1"
  need "$lua_package" "the Lua that redio is built for" has "$LUA"
  need "$headers" "Lua's headers, for the C core" has_headers
  need libssl-dev "OpenSSL's headers, for TLS" has_openssl
}

needs_of_run() {
  need lua-luv "sockets and timers (luv, libuv for Lua)" has_module luv
  need lua-cjson "JSON for tables and booleans" has_module cjson
  need redis-server "the server that the demo and the specs start" has redis-server
  need redis-tools "redis-cli, to ask that server" has redis-cli
}

needs_of_test() {
  need lua-busted "runs the specs" has_module busted
  need luarocks "the spec that installs the rock" has luarocks
  need openssl "makes the certificates of the specs" has openssl
  needs_of_lint # spec/lint_spec.lua shows that lint notices
}

needs_of_lint() {
  need lua-check "checks the Lua sources (luacheck)" has luacheck
  need clang-format "checks the layout of the C sources" has clang-format
  need cppcheck "checks the C sources" has cppcheck
  need binutils "lists what the library exports (nm)" has nm
}

# clang itself is the caller's choice; this is the runtime that belongs to it.
needs_of_fuzz() {
  version=$("${CLANG:-clang}" -dumpversion) || exit
  need "libclang-rt-${version%%.*}-dev" "libFuzzer and the sanitizers of clang" fuzzes
}

fuzzes() {
  echo 'int LLVMFuzzerTestOneInput(const char *s, unsigned long n) { return s && n ? 0 : 0; }' |
    "${CLANG:-clang}" -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null
}

needs_of_valgrind() {
  need valgrind "looks for errors of memory" has valgrind
}

for part; do "needs_of_$part" || exit; done
[ -n "$packages" ] || exit 0
# A package that two parts name is listed once.
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
report=$(printf '%s' "$report" | sort -u)

if ! has apt-get; then
  printf 'These are missing (by the names of their Debian packages); please install them, then run this again:\n%s\n' \
    "$report" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  sudo=
elif has sudo; then
  sudo=sudo
else
  printf 'These are missing, and there is neither root nor sudo. As root, run:\n  apt-get install %s\n%s\n' \
    "$packages" "$report" >&2
  exit 1
fi

printf 'Installing what is missing, by apt-get:\n%s\n' "$report"
# Another apt-get may be at work, also another run of this: wait for it.
apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" </dev/null; }
install_packages() { apt install --no-install-recommends $packages; }
known() { for package in $packages; do apt-cache show "$package" >/dev/null 2>&1 || return; done; }

# The lists of a fresh machine are empty, those of an old one may name versions that are gone.
if ! known || ! install_packages; then
  apt update && install_packages || {
    echo "apt-get could not install: $packages" >&2
    exit 1
  }
fi
