#!/bin/sh
# SPDX-License-Identifier: MIT
# openssl.sh cflags | libs: the compiler's or the linker's flags for OpenSSL, 1.1.1 or later. OPENSSL_DIR names the
# directory where it is installed, OPENSSL_INCDIR and OPENSSL_LIBDIR (as in LuaRocks) those of its parts. Without its
# headers, or with TLS=no, it says so, and fails.

flags() {
  incdir=${OPENSSL_INCDIR:-${OPENSSL_DIR:+$OPENSSL_DIR/include}}
  libdir=${OPENSSL_LIBDIR:-${OPENSSL_DIR:+$OPENSSL_DIR/lib}}
  if [ -n "$incdir$libdir" ]; then
    [ "$1" = cflags ] && echo "${incdir:+-I$incdir}" || echo "${libdir:+-L$libdir }-lssl -lcrypto"
  elif ! pkg-config "--$1" openssl 2>/dev/null; then
    [ "$1" = cflags ] || echo "-lssl -lcrypto"
  fi
}

has_headers() {
  ${CC:-cc} $CPPFLAGS $(flags cflags) -E - >/dev/null 2>&1 <<EOT
#include <openssl/ssl.h>
#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "older than 1.1.1"
#endif
EOT
}

case $1 in
cflags | libs)
  [ "$TLS" != no ] || {
    echo "Without TLS, as TLS=no wants it." >&2
    exit 1
  }
  has_headers || {
    echo "Without TLS: the headers of OpenSSL (1.1.1 or later; libssl-dev on Debian) are not found; OPENSSL_DIR= names \
where they are." >&2
    exit 1
  }
  flags "$1"
  ;;
*)
  echo "usage: openssl.sh cflags | libs" >&2
  exit 2
  ;;
esac
