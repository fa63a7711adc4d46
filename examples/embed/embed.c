/* SPDX-License-Identifier: MIT */
/* A program that embeds Lua and libuv, with scripts that use redio. It has two threads. Each runs a
 * loop of its own for two Lua states. `embed SCRIPT` runs the script in all four states. */
#include <stdio.h>
#include <stdlib.h>

#include <uv.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <luv/luv.h>

enum { THREADS = 2, STATES = 2 };

typedef struct worker {
  uv_thread_t thread;
  const char *script;
  int number;
  int running; /* true while the thread runs its loop */
  int failed;
} worker;

static int in_loop(lua_State *L) {
  worker *w = lua_touserdata(L, lua_upvalueindex(1));
  lua_pushboolean(L, w->running);
  return 1;
}

/* Tells redio when the loop runs, since luv knows only about loops that it runs itself. Then code
 * outside of coroutines cannot wait, and redio raises an error instead of running it again. */
static int set_in_loop(lua_State *L, worker *w) {
  int failed = luaL_loadstring(L, "require 'redio.transport.luv'.in_loop = ...");
  if (failed)
    return failed;
  lua_pushlightuserdata(L, w);
  lua_pushcclosure(L, in_loop, 1);
  return lua_pcall(L, 1, 0, 0);
}

static void run(worker *w, uv_loop_t *loop) {
  w->running = 1;
  uv_run(loop, UV_RUN_DEFAULT);
  w->running = 0;
}

static lua_State *new_state(uv_loop_t *loop) {
  lua_State *L = luaL_newstate();
  if (!L) {
    fputs("no memory for a Lua state\n", stderr);
    exit(1);
  }
  luaL_openlibs(L);
  luv_set_loop(L, loop); /* must come before luaopen_luv, which else makes a loop of its own */
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_luv); /* the linked luv, not another one on Lua's search path */
  lua_setfield(L, -2, "luv");
  lua_pop(L, 2);
  return L;
}

/* Starts the script, which goes on in the loop. Returns 0 on success. */
static int start(lua_State *L, worker *w, int state) {
  int failed = set_in_loop(L, w) || luaL_loadfile(L, w->script);
  if (!failed) {
    lua_pushfstring(L, "thread %d, state %d", w->number, state);
    failed = lua_pcall(L, 1, 0, 0);
  }
  if (failed)
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
  return failed;
}

/* Closes luv's handles, which must happen before the states are closed: their callbacks run Lua. */
static void close_handle(uv_handle_t *handle, void *arg) {
  (void)arg;
  if (!uv_is_closing(handle))
    uv_close(handle, NULL);
}

static void work(void *arg) {
  worker *w = arg;
  uv_loop_t loop;
  lua_State *states[STATES];
  uv_loop_init(&loop);
  for (int i = 0; i < STATES; i++) {
    states[i] = new_state(&loop);
    w->failed |= start(states[i], w, i + 1);
  }
  run(w, &loop); /* returns when no state has anything left to wait for */
  uv_walk(&loop, close_handle, NULL);
  run(w, &loop);
  for (int i = 0; i < STATES; i++)
    lua_close(states[i]);
  if (uv_loop_close(&loop) != 0) {
    fputs("something is still open\n", stderr);
    w->failed = 1;
  }
}

int main(int argc, char **argv) {
  worker workers[THREADS] = {0};
  int failed = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s SCRIPT\n", argv[0]);
    return 2;
  }
  for (int i = 0; i < THREADS; i++) {
    workers[i].script = argv[1];
    workers[i].number = i + 1;
    if (uv_thread_create(&workers[i].thread, work, &workers[i]) != 0) {
      fputs("no thread\n", stderr);
      return 1;
    }
  }
  for (int i = 0; i < THREADS; i++) {
    uv_thread_join(&workers[i].thread);
    failed |= workers[i].failed;
  }
  return failed != 0;
}
