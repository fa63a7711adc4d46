#!/bin/sh
# SPDX-License-Identifier: MIT
# asan.sh SPEC...: runs specs on modules built with AddressSanitizer and UndefinedBehaviorSanitizer, under the stock
# interpreter with their runtimes preloaded. A second run has a collector that never pauses. AGAIN= leaves it out.
cd "$(dirname "$0")/.." || exit
CC=${CC:-cc} LUA=${LUA:-lua5.4}
BUILD=${BUILD:-build}/asan
flags="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"

runtimes=
for name in asan ubsan; do
  file=$("$CC" -print-file-name=lib$name.so)
  [ "$file" != lib$name.so ] || { echo "$CC has no lib$name.so; it comes with gcc." >&2; exit 1; }
  runtimes="$runtimes${runtimes:+ }$file"
done

make --no-print-directory build BUILD="$BUILD" LUA="$LUA" CC="$CC" CFLAGS="$flags" || exit

# A script with the interpreter's name that preloads the runtimes. Programs that the interpreter starts do without.
dir=$(cd "$BUILD" && pwd)
cat >"$dir/${LUA##*/}.$$" <<END
#!/bin/sh
export LD_PRELOAD='$runtimes'
exec '$LUA' -e 'require "luv".os_unsetenv "LD_PRELOAD"' "\$@"
END
chmod +x "$dir/${LUA##*/}.$$" && mv "$dir/${LUA##*/}.$$" "$dir/${LUA##*/}"

export LUA="$dir/${LUA##*/}" BUILD
export ASAN_OPTIONS="abort_on_error=0:detect_leaks=1:exitcode=99:${ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS}"
export REDIO_SANITIZED=1
status=0
tools/test.sh "$@" || status=1
[ -z "${AGAIN-1}" ] || REDIO_SETPAUSE=0 tools/test.sh "$@" || status=1
exit $status
