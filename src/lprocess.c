/* SPDX-License-Identifier: MIT */
/* What a transport that lives in a process has to arrange with it. The core itself does none of
 * this: it is here because Lua cannot. */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "lbind.h"

/* ignore_sigpipe(): a write to a peer that is gone becomes an error code instead of the end of the
 * process. Leaves any handling that somebody has chosen alone. */
static int lignore_sigpipe(lua_State *L) {
  (void)L;
#ifdef SIGPIPE
  struct sigaction now;
  if (!sigaction(SIGPIPE, NULL, &now) && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
    signal(SIGPIPE, SIG_IGN);
#endif
  return 0;
}

/* leave_epoll(fd): in a child after fork, puts a new epoll instance in the place of the inherited
 * one. What the child's loop then does to its descriptors, closing them at its end among it, is not
 * done to the parent's loop as well. */
static int lleave_epoll(lua_State *L) {
#ifdef __linux__
  int inherited = (int)luaL_checkinteger(L, 1), own = epoll_create1(EPOLL_CLOEXEC);
  if (own >= 0) {
    dup2(own, inherited);
    fcntl(inherited, F_SETFD, FD_CLOEXEC);
    close(own);
  }
#else
  (void)L; /* a kqueue is not inherited */
#endif
  return 0;
}

static const luaL_Reg functions[] = {
    {"ignore_sigpipe", lignore_sigpipe}, {"leave_epoll", lleave_epoll}, {NULL, NULL}};

/* socket_path_max: the bytes of the longest path that a unix socket can have, 107 on Linux and 103
 * on BSD and macOS. libuv (1.44) cuts a longer one without a word, and connects to another socket.
 */
void redio_open_process(lua_State *L) {
  redio_set_functions(L, functions);
  lua_pushinteger(L, (lua_Integer)sizeof((struct sockaddr_un *)0)->sun_path - 1);
  lua_setfield(L, -2, "socket_path_max");
}
