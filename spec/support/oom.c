/* SPDX-License-Identifier: MIT */
/* oom SCENARIOS.lua: each scenario with every allocation from the Nth on failing, for N = 1, 2, ...
 * until none fails any more. Lua's allocations and the core's count alike; the core's sources are
 * compiled with malloc, realloc and free renamed to those below. (From the Nth on, not the Nth
 * alone: Lua 5.4 collects garbage and tries once more.)
 *
 * The file returns a list of {name=, prepare=, run=, after=}: prepare() -> state; run(state), with
 * failing allocations; after(state), with memory again, which raises when something is wrong. Every
 * N is run twice: with `after`, and with the Lua state closed while memory is still out. */
#undef malloc
#undef realloc
#undef free

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *oom_malloc(size_t n);
void *oom_realloc(void *p, size_t n);
void oom_free(void *p);
int luaopen_redio_core(lua_State *L);

static long blocks;     /* that live */
static long until = -1; /* allocations left before they fail; -1: none ever does */
static int failed;

static int fails(void) {
  if (until < 0)
    return 0;
  if (until > 0) {
    until--;
    return 0;
  }
  failed = 1;
  return 1;
}

void *oom_malloc(size_t n) {
  void *p = fails() ? NULL : malloc(n);
  blocks += p != NULL;
  return p;
}

void *oom_realloc(void *old, size_t n) {
  void *p = fails() ? NULL : realloc(old, n);
  blocks += p && !old;
  return p;
}

void oom_free(void *p) {
  blocks -= p != NULL;
  free(p);
}

static void *lua_alloc(void *ud, void *p, size_t from, size_t to) {
  (void)ud;
  if (to == 0) {
    oom_free(p);
    return NULL;
  }
  if (p && to <= from)
    return realloc(p, to); /* Lua takes for granted that this works */
  return p ? oom_realloc(p, to) : oom_malloc(to);
}

static void stop(const char *name, long n, const char *why) {
  fprintf(stderr, "%s, allocation %ld: %s\n", name, n, why);
  exit(1);
}

static int open_core(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_redio_core);
  lua_setfield(L, -2, "redio.core");
  lua_getglobal(L, "require");
  lua_pushstring(L, "redio.core");
  lua_call(L, 1, 0);
  return 0;
}

/* Lua itself opens with memory: not every Lua survives that without. */
static lua_State *open_state(long n) {
  lua_State *L = lua_newstate(lua_alloc, NULL);
  int status;
  if (!L)
    return NULL;
  luaL_openlibs(L);
  lua_pushcfunction(L, open_core);
  until = n;
  status = lua_pcall(L, 0, 0, 0);
  if (status == 0)
    return L;
  if (status != LUA_ERRMEM)
    stop("open", n, lua_tostring(L, -1));
  lua_close(L);
  return NULL;
}

static long run_open(void) {
  long n;
  for (n = 0;; n++) {
    lua_State *L;
    failed = 0;
    L = open_state(n);
    if (L)
      lua_close(L);
    until = -1;
    if (blocks)
      stop("open", n, "blocks are left");
    if (!failed)
      return n;
    if (n > 100000)
      stop("open", n, "no end");
  }
}

static const char *text_of(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  return text ? text : "no text";
}

/* Leaves the list of scenarios on the stack. */
static lua_State *load(const char *path) {
  lua_State *L = open_state(-1);
  if (!L) {
    puts("this Lua takes no allocator of ours");
    exit(0);
  }
  if (luaL_loadfile(L, path) || lua_pcall(L, 0, 1, 0))
    stop("load", 0, text_of(L));
  return L;
}

static void call(lua_State *L, const char *field, int results, const char *name, long n) {
  lua_getfield(L, 2, field);
  if (lua_gettop(L) > 3)
    lua_pushvalue(L, 3);
  if (lua_pcall(L, lua_gettop(L) > 4, results, 0))
    stop(name, n, text_of(L));
}

/* Whether an allocation failed. */
static int run_once(const char *path, int index, long n, int closes_early, char *name,
                    size_t room) {
  lua_State *L = load(path);
  int status;
  lua_rawgeti(L, 1, index);
  lua_getfield(L, 2, "name");
  snprintf(name, room, "%s", lua_tostring(L, -1));
  lua_settop(L, 2);
  lua_checkstack(L, 20);
  call(L, "prepare", 1, name, n);
  lua_getfield(L, 2, "run");
  lua_pushvalue(L, 3);
  lua_gc(L, LUA_GCCOLLECT, 0);
  failed = 0;
  until = n;
  status = lua_pcall(L, 1, 0, 0);
  if (status != 0 && status != LUA_ERRMEM)
    stop(name, n, text_of(L));
  if (status != 0 && !failed)
    stop(name, n, "an error, but no allocation failed");
  if (!closes_early) {
    until = -1;
    lua_settop(L, 3);
    call(L, "after", 0, name, n);
  }
#if LUA_VERSION_NUM == 503
  until = -1; /* this Lua leaves a finalizer out when there is no memory for its call */
#endif
  lua_close(L);
  until = -1;
  if (blocks)
    stop(name, n, "blocks are left");
  return failed;
}

static long run_scenario(const char *path, int index, char *name, size_t room) {
  long n;
  for (n = 0; n < 100000; n++) {
    int more = run_once(path, index, n, 0, name, room);
    more |= run_once(path, index, n, 1, name, room);
    if (!more)
      return n;
  }
  stop(name, n, "no end");
  return 0;
}

static int count_scenarios(const char *path) {
  lua_State *L = load(path);
  int count = 0;
  for (;; count++) {
    lua_rawgeti(L, 1, count + 1);
    if (lua_isnil(L, -1))
      break;
    lua_pop(L, 1);
  }
  lua_close(L);
  return count;
}

int main(int argc, char **argv) {
  char name[64] = "open";
  long total;
  int i, count;
  if (argc != 2)
    return 2;
  count = count_scenarios(argv[1]);
  total = run_open();
  printf("%s: %ld\n", name, total);
  for (i = 1; i <= count; i++) {
    long n = run_scenario(argv[1], i, name, sizeof name);
    printf("%s: %ld\n", name, n);
    total += n;
  }
  printf("%d scenarios, %ld allocations\n", count, total);
  return 0;
}
