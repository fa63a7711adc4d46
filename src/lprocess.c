/* SPDX-License-Identifier: MIT */
/* Specs: promises/25, promises/26 */
#define _POSIX_C_SOURCE 200809L

#include "lprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "lbind.h"

/* ignore_sigpipe(): makes a write to a peer that is gone an error code instead of the end of the
 * process. A handling other than the default is left unchanged. */
static int lignore_sigpipe(lua_State *L) {
  (void)L;
#ifdef SIGPIPE
  struct sigaction now;
  if (!sigaction(SIGPIPE, NULL, &now) && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
    signal(SIGPIPE, SIG_IGN);
#endif
  return 0;
}

/* leave_epoll(fd): replaces the inherited epoll instance of a child after fork with a new one. Else
 * everything that the child's loop does to its descriptors, closing them at its end included, would
 * happen to the parent's loop as well. */
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

/* socket_path_max: the bytes of the longest path of a unix socket, 107 on Linux and 103 on BSD and
 * macOS. libuv (1.44) silently cuts a longer one and connects to another socket. */
void redio_open_process(lua_State *L) {
  redio_set_functions(L, functions);
  lua_pushinteger(L, (lua_Integer)sizeof((struct sockaddr_un *)0)->sun_path - 1);
  lua_setfield(L, -2, "socket_path_max");
}
