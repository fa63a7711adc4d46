# SPDX-License-Identifier: MIT
# Sourced from the project's root: lets Lua, and what it starts, find redio as it lies here.
LUA=${LUA:-lua5.4}
_path="$PWD/lua/?.lua;$PWD/lua/?/init.lua;$PWD/?.lua"
case ${BUILD:=build} in
/*) _cpath="$BUILD/?.so" ;;
*) _cpath="$PWD/$BUILD/?.so" ;;
esac
export LUA BUILD LUA_PATH="$_path;${LUA_PATH:-;}" LUA_CPATH="$_cpath;${LUA_CPATH:-;}"
# Lua 5.4 prefers these where they are set, as `luarocks path` may have done.
[ -z "$LUA_PATH_5_4" ] || export LUA_PATH_5_4="$_path;$LUA_PATH_5_4"
[ -z "$LUA_CPATH_5_4" ] || export LUA_CPATH_5_4="$_cpath;$LUA_CPATH_5_4"
