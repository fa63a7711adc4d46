/* SPDX-License-Identifier: MIT */
/* Specs: unit/fast_paths, promises/18, fuzz/pipeline */
#include "lpipeline.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "lencode.h"

#define NAMES "redio.names" /* registry field: command id -> name */

const char redio_command_tag;
const char redio_pipeline_tag;

static const struct {
  const char *name;
  uint32_t flag;
} flag_names[] = {
    {"readonly", REDIO_READONLY}, {"blocking", REDIO_BLOCKING},      {"state", REDIO_STATE},
    {"watch", REDIO_WATCH},       {"unwatch", REDIO_UNWATCH},        {"multi", REDIO_MULTI},
    {"exec", REDIO_EXEC},         {"discard", REDIO_DISCARD},        {"nomulti", REDIO_NOMULTI},
    {"mute", REDIO_MUTE},         {"private", REDIO_PRIVATE},        {"silent", REDIO_SILENT},
    {"quit", REDIO_QUIT},         {"sets_database", REDIO_DATABASE}, {"sets_name", REDIO_NAME},
    {"auth", REDIO_AUTH}};

static unsigned char shape_field(lua_State *L, int table) {
  const char *name;
  int shape;
  lua_getfield(L, table, "reply");
  name = lua_tostring(L, -1);
  shape = name ? redio_shape_find(name) : REDIO_SHAPE_INDEX_VALUE;
  if (shape < 0)
    luaL_error(L, "unknown reply shape '%s'", name);
  lua_pop(L, 1);
  return (unsigned char)shape;
}

static unsigned char small_field(lua_State *L, int table, const char *name) {
  lua_Integer n;
  lua_getfield(L, table, name);
  n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return (unsigned char)(n > 0 && n < 255 ? n : 0);
}

static void read_option(lua_State *L, int table, redio_option *o) {
  size_t len;
  const char *word;
  lua_getfield(L, table, "token");
  word = luaL_checklstring(L, -1, &len);
  if (len >= REDIO_OPTION_MAX)
    luaL_error(L, "token '%s' is too long", word);
  memcpy(o->word, word, len);
  o->len = (unsigned char)len;
  o->takes = small_field(L, table, "takes");
  o->shape = shape_field(L, table);
  lua_pop(L, 1);
}

static void read_variants(lua_State *L, redio_command *c) {
  redio_variants *v = &c->variants;
  size_t i, n;
  int table;
  lua_getfield(L, 1, "variants");
  table = lua_gettop(L);
  if (lua_istable(L, table)) {
    v->argc = small_field(L, table, "argc");
    v->argc_shape = shape_field(L, table);
    v->from = small_field(L, table, "from");
    v->numkeys = small_field(L, table, "numkeys");
    v->leading = small_field(L, table, "leading");
    v->shaped = small_field(L, table, "shaped");
    n = lua_rawlen(L, table);
    if (n > REDIO_OPTIONS_MAX)
      luaL_error(L, "more than %d options", REDIO_OPTIONS_MAX);
    for (i = 0; i < n; i++) {
      lua_rawgeti(L, table, (int)i + 1);
      read_option(L, table + 1, v->options + i);
      lua_pop(L, 1);
    }
    v->count = (unsigned char)n;
    c->varies = 1;
  }
  lua_pop(L, 1);
}

static void read_flags(lua_State *L, redio_command *c) {
  size_t i;
  for (i = 0; i < sizeof flag_names / sizeof *flag_names; i++) {
    lua_getfield(L, 1, flag_names[i].name);
    if (lua_toboolean(L, -1))
      c->flags |= flag_names[i].flag;
    lua_pop(L, 1);
  }
}

/* Gives the name at index `name` an id. */
static uint16_t next_id(lua_State *L, int name) {
  lua_Integer id;
  name = lua_absindex(L, name);
  lua_getfield(L, LUA_REGISTRYINDEX, NAMES);
  id = (lua_Integer)lua_rawlen(L, -1) + 1;
  if (id > 0xFFFF)
    luaL_error(L, "too many different commands");
  lua_pushvalue(L, name);
  lua_rawseti(L, -2, (int)id);
  lua_pop(L, 1);
  return (uint16_t)id;
}

/* command({name=, reply=, variants=, readonly=true, ...}, like?) -> command
 * Compiles an entry of command/table.lua for the encoder. The command has an id of its own, or that
 * of `like`. */
static int lcommand(lua_State *L) {
  size_t len;
  const char *name;
  redio_command *c;
  const redio_command *like = lua_isnoneornil(L, 2) ? NULL : redio_check_command(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "name");
  name = luaL_checklstring(L, -1, &len);
  c = lua_newuserdatauv(L, sizeof *c + REDIO_COMMAND_WORDS(len), 0);
  memset(c, 0, sizeof *c);
  c->shape = shape_field(L, 1);
  read_variants(L, c);
  read_flags(L, c);
  redio_command_set_name(c, name, len);
  c->id = like ? like->id : next_id(L, -2);
  c->tag = &redio_command_tag;
  return 1;
}

void redio_push_command_name(lua_State *L, uint16_t id) {
  lua_getfield(L, LUA_REGISTRYINDEX, NAMES);
  lua_rawgeti(L, -1, id);
  lua_remove(L, -2);
}

redio_pipeline *redio_new_pipeline(lua_State *L) {
  redio_pipeline *p = lua_newuserdatauv(L, sizeof *p, 0);
  redio_pipeline_init(p, &redio_pipeline_tag);
  luaL_getmetatable(L, "redio.pipeline");
  lua_setmetatable(L, -2);
  return p;
}

/* pipeline(quiet?) -> an empty pipeline
 * Collecting one with commands in it prints a warning, unless it is quiet. */
static int lpipeline(lua_State *L) {
  int quiet = lua_toboolean(L, 1);
  redio_new_pipeline(L)->quiet = (unsigned char)quiet;
  return 1;
}

/* encode(pipeline, command, ...) -> true | false, why?
 * Queues the command: see redio_encode. */
static int lencode(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  const redio_command *c = redio_check_command(L, 2);
  if (p->submitted)
    redio_pipeline_reset(p);
  return redio_encode(L, p, c, 3);
}

/* encode_list(pipeline, command, list, count) -> true | false, why?
 * Queues the command: see redio_encode_list. */
static int lencode_list(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  const redio_command *c = redio_check_command(L, 2);
  lua_Integer count = luaL_checkinteger(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_argcheck(L, count >= 0 && count <= INT_MAX - 16, 4, "not a number of arguments");
  if (p->submitted)
    redio_pipeline_reset(p);
  return redio_encode_list(L, p, c, 3, (int)count);
}

/* pipeline:clear(): drops the queued commands */
static int lpipeline_clear(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_clear(p);
  return 0;
}

/* pipeline:settle(): drops the commands after they were answered, and keeps the session */
static int lpipeline_settle(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_settle(p);
  return 0;
}

/* pipeline:reset(): makes the pipeline as new */
static int lpipeline_reset(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_reset(p);
  return 0;
}

/* pipeline:count() -> the number of queued commands, their bytes */
static int lpipeline_count(lua_State *L) {
  const redio_pipeline *p = redio_check_pipeline(L, 1);
  lua_pushinteger(L, p->submitted ? 0 : (lua_Integer)p->commands);
  lua_pushinteger(L, (lua_Integer)(p->closed_out + p->piece_bytes));
  return 2;
}

/* pipeline:claim() -> true when the running coroutine owns the queued commands */
static int lpipeline_claim(lua_State *L) {
  lua_pushboolean(L, redio_pipeline_claim(redio_check_pipeline(L, 1), L));
  return 1;
}

/* pipeline:flags() -> private, readonly, blocking, mutes, auths
 * True when the commands need a connection of their own, may be sent twice, may wait on the server,
 * contain CLIENT REPLY, contain AUTH. */
static int lpipeline_flags(lua_State *L) {
  const redio_pipeline *p = redio_check_pipeline(L, 1);
  lua_pushboolean(L, redio_pipeline_is_private(p));
  lua_pushboolean(L, (p->all_flags & REDIO_READONLY) != 0);
  lua_pushboolean(L, (p->flags & REDIO_BLOCKING) != 0);
  lua_pushboolean(L, (p->flags & REDIO_MUTE) != 0);
  lua_pushboolean(L, (p->flags & REDIO_AUTH) != 0);
  return 5;
}

/* pipeline:session() -> in_multi, watching, dirty, quits, muted
 * The state in which the queued commands will leave the connection. */
static int lpipeline_session(lua_State *L) {
  const redio_pipeline *p = redio_check_pipeline(L, 1);
  lua_pushboolean(L, p->now.in_multi);
  lua_pushboolean(L, p->now.watching);
  lua_pushboolean(L, p->now.dirty || p->now.muted || p->now.skip);
  lua_pushboolean(L, (p->flags & REDIO_QUIT) != 0);
  lua_pushboolean(L, p->now.muted || p->now.skip);
  return 5;
}

/* pipeline:leftovers() -> database, name, other
 * The kinds of state that the commands will leave on the connection. */
static int lpipeline_leftovers(lua_State *L) {
  const redio_session *s = &redio_check_pipeline(L, 1)->now;
  lua_pushboolean(L, s->dirty & REDIO_LEFT_DATABASE);
  lua_pushboolean(L, s->dirty & REDIO_LEFT_NAME);
  lua_pushboolean(L, s->dirty & REDIO_LEFT_OTHER);
  return 3;
}

/* pipeline:wrap(multi) -> true | false, why
 * Puts MULTI in front of the queued commands. */
static int lpipeline_wrap(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  const redio_command *multi = redio_check_command(L, 2);
  const uint32_t own = REDIO_MULTI | REDIO_EXEC | REDIO_DISCARD | REDIO_WATCH | REDIO_NOMULTI |
                       REDIO_MUTE | REDIO_SILENT;
  const char *why = NULL;
  if (p->now.in_multi || p->flags & own)
    why = "these commands cannot stand inside one MULTI";
  else if (p->now.muted || p->now.skip)
    why = "CLIENT REPLY has turned the replies off, and a transaction needs them";
  else if (redio_pipeline_wrap(p, multi))
    why = "out of memory";
  lua_pushboolean(L, !why);
  lua_pushstring(L, why);
  return 2;
}

static void warn_of(lua_State *L, size_t commands, uint16_t first_id) {
  const char *name;
  redio_push_command_name(L, first_id);
  name = lua_tostring(L, -1);
  fprintf(stderr,
          "redio: warning: a handle was collected with %lu command%s never awaited (%s%s)\n",
          (unsigned long)commands, commands == 1 ? "" : "s", name ? name : "?",
          commands == 1 ? "" : ", ...");
}

static int lpipeline_gc(lua_State *L) {
  redio_pipeline *p = redio_check_pipeline(L, 1);
  size_t forgotten = p->submitted || p->quiet ? 0 : p->commands;
  uint16_t first_id = p->first_id;
  redio_unref_pieces(L, &p->pieces, 0);
  redio_pipeline_free(p);
  if (forgotten) /* comes last: it may raise when memory is out */
    warn_of(L, forgotten, first_id);
  return 0;
}

static const luaL_Reg methods[] = {{"clear", lpipeline_clear},
                                   {"settle", lpipeline_settle},
                                   {"reset", lpipeline_reset},
                                   {"count", lpipeline_count},
                                   {"flags", lpipeline_flags},
                                   {"session", lpipeline_session},
                                   {"leftovers", lpipeline_leftovers},
                                   {"wrap", lpipeline_wrap},
                                   {"claim", lpipeline_claim},
                                   {"__gc", lpipeline_gc},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {{"command", lcommand},
                                     {"pipeline", lpipeline},
                                     {"encode", lencode},
                                     {"encode_list", lencode_list},
                                     {NULL, NULL}};

void redio_open_pipeline(lua_State *L) {
  redio_new_class(L, "redio.pipeline", methods);
  redio_set_functions(L, functions);
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, NAMES);
}
