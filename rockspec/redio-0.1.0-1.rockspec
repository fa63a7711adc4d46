-- SPDX-License-Identifier: MIT
rockspec_format = "3.0"
package = "redio"
version = "0.1.0-1"
source = { url = "git+https://github.com/redio/redio.git", tag = "v0.1.0" }
description = {
  summary = "Redis client: chain commands, await once, one round trip",
  detailed = "A Redis client for Lua 5.4, 5.3 and LuaJIT 2.1, with luv: chains of commands on a handle are sent\n"
    .. "when they are awaited, in one round trip. Its core is in C and does no I/O.",
  homepage = "https://github.com/redio/redio",
  license = "MIT",
}
-- 5.1 is LuaJIT's, by LUA_INCDIR. LuaRocks cannot tell it from PUC Lua's, but the build does: tools/lua.sh check.
dependencies = { "lua >= 5.1", "luv", "lua-cjson" }

-- For redio.tls. Without these lines redio is built without TLS, where there is no OpenSSL.
external_dependencies = { OPENSSL = { header = "openssl/ssl.h" } }

-- By the Makefile: the list of files and the flags (hidden symbols among them) are said once, there.
local variables = {
  BUILD = "build/rock",
  CC = "$(CC)",
  CFLAGS = "$(CFLAGS)",
  LUA = "$(LUA)",
  LUA_INCDIR = "$(LUA_INCDIR)",
  OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
  OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
  LUA_SHARE = "$(LUADIR)",
  LUA_LIB = "$(LIBDIR)",
}
build = {
  type = "make",
  build_target = "build",
  build_variables = variables,
  install_variables = variables,
}
