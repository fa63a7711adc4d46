#!/bin/sh
# SPDX-License-Identifier: MIT
# bench.sh: builds the peers, then measures them all.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
bench/build.sh hiredis || echo "without hiredis there is nothing to compare with"
# ioredis comes from npm and goes into the build folder.
if command -v npm >/dev/null && [ ! -d "$BUILD/bench/node_modules/ioredis" ]; then
  npm install --silent --no-audit --no-fund --no-save --prefix "$BUILD/bench" ioredis@5 >/dev/null 2>&1 ||
    echo "npm could not install ioredis"
fi
exec "$LUA" bench/run.lua
