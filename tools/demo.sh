#!/bin/sh
# SPDX-License-Identifier: MIT
# demo.sh EXAMPLE: starts a redis-server and runs an example against it.
cd "$(dirname "$0")/.." || exit
. tools/env.sh
exec "$LUA" tools/with_server.lua "$LUA" "$@"
