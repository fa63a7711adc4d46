#!/bin/sh
# SPDX-License-Identifier: MIT
# demo.sh EXAMPLE: runs an example against a redis-server of its own.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
exec "$LUA" tools/with_server.lua "$LUA" "$@"
