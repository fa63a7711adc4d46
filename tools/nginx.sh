#!/bin/sh
# SPDX-License-Identifier: MIT
# nginx.sh [fetch]: unpacks Debian's nginx with its Lua module into build/nginx, for the specs and the benchmark, and
# builds redio for it there. With `fetch` it only unpacks. It does not install nginx, since its LuaJIT would replace the
# other one. A second run does nothing but `make`. Where nginx cannot be fetched it says so, and fails.
cd "$(dirname "$0")/.." || exit
dir=$PWD/build/nginx
root=$dir/root
packages="nginx nginx-common libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache
  luajit2 libluajit2-5.1-2 libluajit2-5.1-common libluajit2-5.1-dev lua-nginx-redis libpcre3 libpcre2-8-0"

fail() {
  echo "nginx.sh: $*" >&2
  exit 1
}

fetch() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "there is no apt-get to fetch nginx with"
  rm -rf "$dir" && mkdir -p "$dir/packages" && cd "$dir/packages" || exit
  if ! apt-get -q download $packages >"$dir/log" 2>&1; then
    # (a fresh machine has no package lists)
    [ "$(id -u)" != 0 ] || apt-get -q update >"$dir/log" 2>&1
    apt-get -q download $packages >"$dir/log" 2>&1 || fail "apt-get could not fetch it: $(tail -n 1 "$dir/log")"
  fi
  for package in *.deb; do
    dpkg -x "$package" "$root" || fail "$package could not be unpacked"
  done
  cd ../../.. || exit
}

# Writes a script that runs a program with the libraries that were unpacked with it.
wrapper() {
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec "%s" "$@"\n' "$libraries" "$2" >"$1" && chmod +x "$1"
}

[ -x "$dir/nginx" ] || {
  fetch
  libraries=$(dirname "$(find "$root" -name 'libluajit-5.1.so.2' | head -n 1)")
  wrapper "$dir/luajit" "$(find "$root/usr/bin" -name 'luajit*' | head -n 1)"
  wrapper "$dir/nginx" "$root/usr/sbin/nginx"
  "$dir/nginx" -v 2>/dev/null || { rm -f "$dir/nginx"; fail "the nginx that was fetched does not run"; }
}
[ "$1" != fetch ] || exit 0
# Variables go on the command line, because those of an outer make take precedence over the environment.
${MAKE:-make} --no-print-directory build LUA="$dir/luajit" BUILD=build/nginx \
  LUA_INCDIR="$(dirname "$(find "$root/usr/include" -name lua.h | head -n 1)")"
