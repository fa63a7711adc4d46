# SPDX-License-Identifier: MIT
# Sourced from the project's root. Sets the paths by which Lua, and programs that it starts, find redio in this tree.
LUA=${LUA:-lua5.4}
_name=${LUA##*/}
[ "$_name" = lua5.4 ] && _build=build || _build=build/$_name # as the Makefile has it
_path="$PWD/lua/?.lua;$PWD/lua/?/init.lua;$PWD/?.lua"
case ${BUILD:=$_build} in
/*) _cpath="$BUILD/?.so" ;;
*) _cpath="$PWD/$BUILD/?.so" ;;
esac
export LUA BUILD LUA_PATH="$_path;${LUA_PATH:-;}" LUA_CPATH="$_cpath;${LUA_CPATH:-;}"
# Lua 5.3 and 5.4 prefer these where they are set, as `luarocks path` may have done.
[ -z "$LUA_PATH_5_3" ] || export LUA_PATH_5_3="$_path;$LUA_PATH_5_3"
[ -z "$LUA_CPATH_5_3" ] || export LUA_CPATH_5_3="$_cpath;$LUA_CPATH_5_3"
[ -z "$LUA_PATH_5_4" ] || export LUA_PATH_5_4="$_path;$LUA_PATH_5_4"
[ -z "$LUA_CPATH_5_4" ] || export LUA_CPATH_5_4="$_cpath;$LUA_CPATH_5_4"
