/* SPDX-License-Identifier: MIT */
/* oom SCENARIOS.lua [WORD ...]: runs each scenario while every allocation from the Nth on fails,
 * for N = 1, 2, ... until none fails any more. Allocations of Lua and of the library count alike:
 * the library's sources are compiled with malloc, realloc and free renamed to those below.
 *
 * OOM_STRIDE=s runs about every sth N between the first and the last ones, chosen by SEED.
 *
 * The file gets the words, and returns a list of {name=, prepare=, run=, after=}. prepare() returns
 * a state. run(state) runs while allocations fail. after(state) has memory again, and raises when
 * something is wrong. Each N runs three times: with `after`; with the Lua state closed while memory
 * is still out; and with the Nth allocation alone failing, with `after`. (In the last case Lua 5.4
 * collects garbage and tries once more. Other Luas do not.) */
#undef malloc
#undef realloc
#undef free

#include "oom.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 100000, FIRST_ONES = 50, LAST_ONES = 100 };

static long blocks;     /* alive */
static long until = -1; /* allocations left before they fail; -1: none ever does */
static int failed, alone;

static int fails(void) {
  if (until < 0)
    return 0;
  if (until > 0) {
    until--;
    return 0;
  }
  failed = 1;
  if (alone)
    until = -1;
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

long oom_pause(void) {
  long was = until;
  until = -1;
  return was;
}

void oom_resume(long was) { until = was; }

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

/* Neither Lua's nor the library's own may be left. */
static int is_any_left(void) { return blocks != oom_kept(); }

static void stop(const char *name, long n, const char *why) {
  fprintf(stderr, "%s, allocation %ld: %s\n", name, n, why);
  exit(1);
}

static int open_modules(lua_State *L) {
  const luaL_Reg *module;
  for (module = oom_modules; module->name; module++) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, module->func);
    lua_setfield(L, -2, module->name);
    lua_getglobal(L, "require");
    lua_pushstring(L, module->name);
    lua_call(L, 1, 0);
    lua_settop(L, 0);
  }
  return 0;
}

/* Lua itself opens with memory: not every Lua survives that without. */
static lua_State *open_state(long n) {
  lua_State *L = lua_newstate(lua_alloc, NULL);
  int status;
  if (!L)
    return NULL;
  luaL_openlibs(L);
  lua_pushcfunction(L, open_modules);
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
    if (is_any_left())
      stop("open", n, "blocks are left");
    if (!failed)
      return n;
    if (n > MANY)
      stop("open", n, "no end");
  }
}

static const char *text_of(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  return text ? text : "no text";
}

/* Leaves the list of scenarios on the stack. */
static lua_State *load(char **args) {
  int i;
  lua_State *L = open_state(-1);
  if (!L) {
    puts("this Lua takes no allocator of ours");
    exit(0);
  }
  if (luaL_loadfile(L, args[0]))
    stop("load", 0, text_of(L));
  for (i = 1; args[i]; i++)
    lua_pushstring(L, args[i]);
  if (lua_pcall(L, i - 1, 1, 0))
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

typedef enum how { AND_AFTER, CLOSED_EARLY, ALONE, HOWS } how;

typedef struct run {
  char **args;
  int index;
  char name[64];
  long n, used; /* allocations: before they fail; that were made */
} run;

/* Leaves the state of the scenario on top. */
static lua_State *prepare(run *r) {
  lua_State *L = load(r->args);
  lua_rawgeti(L, 1, r->index);
  lua_getfield(L, 2, "name");
  snprintf(r->name, sizeof r->name, "%s", lua_tostring(L, -1));
  lua_settop(L, 2);
  lua_checkstack(L, 20);
  call(L, "prepare", 1, r->name, r->n);
  return L;
}

/* True if an allocation failed. */
static int run_once(run *r, how h) {
  lua_State *L = prepare(r);
  int status;
  lua_getfield(L, 2, "run");
  lua_pushvalue(L, 3);
  lua_gc(L, LUA_GCCOLLECT, 0);
  failed = 0;
  alone = h == ALONE;
  until = r->n;
  status = lua_pcall(L, 1, 0, 0);
  r->used = r->n - until;
  /* (5.3's own buffers raise an ordinary error that says so) */
  if (status != 0 && status != LUA_ERRMEM && !strstr(text_of(L), "not enough memory"))
    stop(r->name, r->n, text_of(L));
  if (status != 0 && !failed)
    stop(r->name, r->n, "an error, but no allocation failed");
  if (h != CLOSED_EARLY) {
    until = -1;
    lua_settop(L, 3);
    call(L, "after", 0, r->name, r->n);
  }
#if LUA_VERSION_NUM == 503
  until = -1; /* this Lua leaves a finalizer out when there is no memory for its call */
#endif
  lua_close(L);
  until = -1;
  if (is_any_left())
    stop(r->name, r->n, "blocks are left");
  return failed;
}

/* The same; what is kept may grow, but not each time. */
static int run_well(run *r, how h) {
  int tries, fails = 0;
  for (tries = 0; tries < 4; tries++) {
    long before = oom_kept();
    fails = run_once(r, h);
    if (oom_kept() <= before)
      return fails;
  }
  stop(r->name, r->n, "more is kept each time");
  return fails;
}

/* The first ones are near the surface, and it is at the end that something is decided. */
static long next_n(long n, long end) {
  static long stride;
  long next = n + 1, last_ones = end - LAST_ONES;
  if (!stride)
    stride = getenv("OOM_STRIDE") ? atol(getenv("OOM_STRIDE")) : 1;
  if (stride < 2 || n < FIRST_ONES || n >= last_ones)
    return next;
  next += rand() % (2 * stride - 1);
  return next < last_ones ? next : last_ones;
}

static long run_scenario(run *r) {
  long end;
  r->n = MANY;
  run_well(r, AND_AFTER);
  end = r->used;
  for (r->n = 0; r->n < MANY; r->n = next_n(r->n, end)) {
    int more = 0;
    how h;
    for (h = AND_AFTER; h < HOWS; h++)
      more |= run_well(r, h);
    if (!more)
      return r->n;
  }
  stop(r->name, r->n, "no end");
  return 0;
}

static int count_scenarios(char **args) {
  lua_State *L = load(args);
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
  run r = {argv + 1, 0, "open", 0, 0};
  long total;
  int count;
  if (argc < 2)
    return 2;
  setvbuf(stdout, NULL, _IOLBF, 4096);
  if (getenv("SEED"))
    srand((unsigned)atol(getenv("SEED")));
  oom_begin();
  count = count_scenarios(r.args);
  total = run_open();
  printf("%s: %ld\n", r.name, total);
  for (r.index = 1; r.index <= count; r.index++) {
    long n = run_scenario(&r);
    printf("%s: %ld\n", r.name, n);
    total += n;
  }
  printf("%d scenarios, %ld allocations\n", count, total);
  return 0;
}
