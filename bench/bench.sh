#!/bin/sh
# SPDX-License-Identifier: MIT
# bench.sh: builds what the peers need, then measures them all.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
bench/build.sh hiredis || echo "without hiredis there is nothing to compare with"
# A module of npm's, beside what make has built.
if command -v npm >/dev/null && [ ! -d "$BUILD/bench/node_modules/ioredis" ]; then
  npm install --silent --no-audit --no-fund --no-save --prefix "$BUILD/bench" ioredis@5 >/dev/null 2>&1 ||
    echo "npm could not install ioredis"
fi
exec "$LUA" bench/run.lua
