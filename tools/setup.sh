#!/bin/sh
# SPDX-License-Identifier: MIT
# setup.sh build|run|test|hosts|lint|fuzz|valgrind|count|bench...: finds missing requirements of these parts. On Debian
# and its relatives apt-get installs them, elsewhere they are listed. If nothing is missing, it needs no network and no
# root.
cd "$(dirname "$0")/.." || exit
LUA=${LUA:-lua5.4}
case ${LUA##*/} in
lua5.1 | lua5.2)
  echo "redio is for Lua 5.4, 5.3 and LuaJIT 2.1, and not for '$LUA'." >&2
  exit 1
  ;;
*luajit*) lua_package=luajit headers=libluajit-5.1-dev ;;
*) lua_package=${LUA##*/} headers=lib${LUA##*/}-dev ;;
esac

has() { command -v "$1" >/dev/null; }
has_module() { has "$LUA" && "$LUA" -e "require '$1'" 2>/dev/null; }
has_headers() { tools/lua.sh cflags >/dev/null 2>&1; }
has_openssl() { tools/openssl.sh cflags >/dev/null 2>&1; }
has_luv_headers() { pkg-config --exists "lua$(tools/lua.sh version)-luv" libuv 2>/dev/null; }

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

# want PACKAGE WHY PROBE...: the same for an optional package.
wanted=
want() {
  package=$1
  shift 2
  "$@" || wanted="$wanted $package"
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
  need pkg-config "finds luv and libuv for the program that embeds Lua" has pkg-config
  need lua-luv-dev "the headers of both" has_luv_headers
  need openssl "makes the certificates of the specs" has openssl
  needs_of_lint # for spec/tree/lint_spec.lua
  needs_of_count # for spec/tree/count_spec.lua
}

# Specs of missing hosts are pending.
needs_of_hosts() {
  want neovim "the spec that runs in it" has nvim
}

needs_of_lint() {
  need lua-check "checks the Lua sources (luacheck)" has luacheck
  need clang-format "checks the layout of the C sources" has clang-format
  need cppcheck "checks the C sources" has cppcheck
  need binutils "lists what the library exports (nm)" has nm
}

# The caller chooses clang. This is the runtime that belongs to it.
needs_of_fuzz() {
  version=$("${CLANG:-clang}" -dumpversion) || exit
  need "libclang-rt-${version%%.*}-dev" "libFuzzer and the sanitizers of clang" fuzzes
}

fuzzes() {
  echo 'int LLVMFuzzerTestOneInput(const char *s, unsigned long n) { return s && n ? 0 : 0; }' |
    "${CLANG:-clang}" -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null
}

needs_of_valgrind() {
  need valgrind "counts instructions, and looks for errors of memory" has valgrind
}

# Further requirements of `make count`.
needs_of_count() {
  needs_of_valgrind
  need libhiredis-dev "the C client that redio is compared with" has_library hiredis/hiredis.h hiredis
}

# Without one of these a peer or the charts are missing. The rest is measured all the same.
needs_of_bench() {
  want libhiredis-dev "the C client that redio is compared with" has_library hiredis/hiredis.h hiredis
  want lua-redis "redis-lua" has_file_of_lua redis
  want lua-socket "what redis-lua needs" has_module socket
  want python3-redis "redis-py" has_python redis
  want python3-hiredis "what makes redis-py faster" has_python hiredis
  want python3-aioredis "aioredis" has_python aioredis
  want nodejs "ioredis" has node
  want npm "installs ioredis" has npm
  want gnuplot-nox "draws the charts" has gnuplot
}

has_library() { echo "#include <$1>" | ${CC:-cc} -E - >/dev/null 2>&1; }
has_python() { python3 -c "import $1" 2>/dev/null || /usr/bin/python3 -c "import $1" 2>/dev/null; }
# Also accepts a file of Lua 5.3, as bench/redis_lua.lua does.
has_file_of_lua() { has "$LUA" && "$LUA" -e "
  local path = package.path .. ';' .. package.path:gsub('5%.4', '5.3')
  for place in path:gmatch('[^;]+') do
    local file = io.open((place:gsub('%?', '$1')))
    if file then file:close() os.exit(0) end
  end
  os.exit(1)"; }

for part; do "needs_of_$part" || exit; done
[ -n "$packages$wanted" ] || exit 0
# A package that two parts name is listed once.
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
report=$(printf '%s' "$report" | sort -u)

root=yes sudo=
if [ "$(id -u)" != 0 ]; then
  if has sudo; then sudo=sudo; else root=; fi
fi
# The timeout waits for another apt-get, or for another run of this script.
apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" </dev/null; }
known() { for package; do apt-cache show "$package" >/dev/null 2>&1 || return; done; }
install_packages() { apt install --no-install-recommends "$@"; }
# A fresh machine has no package lists, and old lists may name versions that are gone.
install_all() { known "$@" && install_packages "$@" || { apt update && install_packages "$@"; }; }

if [ -n "${packages# }" ]; then
  if ! has apt-get; then
    printf 'These are missing (by the names of their Debian packages); please install them, then run this again:\n%s\n' \
      "$report" >&2
    exit 1
  fi
  if [ -z "$root" ]; then
    printf 'These are missing, and there is neither root nor sudo. As root, run:\n  apt-get install %s\n%s\n' \
      "$packages" "$report" >&2
    exit 1
  fi
  printf 'Installing what is missing, by apt-get:\n%s\n' "$report"
  install_all $packages || {
    echo "apt-get could not install: $packages" >&2
    exit 1
  }
fi

# Installs optional packages one by one, so that one failure does not prevent the others.
for package in $wanted; do
  echo "Installing what is wanted, by apt-get: $package"
  { has apt-get && [ -n "$root" ] && install_all "$package" >/dev/null; } || echo "  it cannot be had; going on without"
done
