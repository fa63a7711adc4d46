/* SPDX-License-Identifier: MIT */
/* Lua values to the wire. */
#include "lvalue.h"
#include "number.h"

void redio_unref_pieces(lua_State *L, redio_pieces *pieces, size_t from) {
  while (pieces->count > from)
    luaL_unref(L, LUA_REGISTRYINDEX, pieces->list[--pieces->count].ref);
}

static int encode_string(lua_State *L, redio_pipeline *p, int i) {
  size_t len;
  const char *s = lua_tolstring(L, i, &len);
  int ref;
  if (len < REDIO_PIECE_MIN)
    return redio_pipeline_arg(p, s, len);
  lua_pushvalue(L, i);
  ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (!redio_pipeline_piece(p, s, len, ref))
    return 0;
  luaL_unref(L, LUA_REGISTRYINDEX, ref);
  return -1;
}

static int encode_number(lua_State *L, redio_pipeline *p, int i) {
  char text[REDIO_NUMBER_MAX];
  size_t len = lua_isinteger(L, i) ? redio_write_integer(text, lua_tointeger(L, i))
                                   : redio_write_double(text, lua_tonumber(L, i));
  return redio_pipeline_arg(p, text, len);
}

/* A word counts where the options are, and where it is no other option's argument: in `SET k get`
 * it is the value, in `ZUNION 1 withscores` a key, in `HSCAN k 0 MATCH novalues` a pattern. */
static int options_begin(lua_State *L, const redio_variants *v, int first, int top) {
  int begin = first + v->from - 1, numkeys = first + v->numkeys - 1;
  lua_Number keys = v->numkeys && numkeys <= top ? lua_tonumber(L, numkeys) : 0;
  return keys > 0 && keys <= top ? begin + (int)keys : begin;
}

static const redio_option *option_at(lua_State *L, const redio_variants *v, int i) {
  size_t len;
  const redio_option *o = v->options, *end = o + v->count;
  const char *s = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &len) : NULL;
  for (; s && o < end; o++)
    if (redio_is_word(o->word, o->len, s, len))
      return o;
  return NULL;
}

static unsigned char choose_shape(lua_State *L, const redio_command *c, int first, int top) {
  const redio_variants *v = &c->variants;
  unsigned decides = v->shaped;
  int i;
  if (v->argc == top - first + 2)
    return v->argc_shape;
  for (i = options_begin(L, v, first, top); i <= top; i++) {
    const redio_option *o = option_at(L, v, i);
    if (!o && v->leading)
      break;
    if (o && o < v->options + decides)
      decides = (unsigned)(o - v->options);
    if (o)
      i += o->takes;
  }
  return decides < v->shaped ? v->options[decides].shape : c->shape;
}

/* 1: all of them can be sent as they are; 0: Lua has to help; -1: one cannot be sent, a message is
 * pushed. */
static int check_arguments(lua_State *L, int first, int top) {
  int i, plain = 1;
  for (i = first; i <= top; i++) {
    int type = lua_type(L, i);
    if (type == LUA_TSTRING)
      continue;
    if (type == LUA_TNUMBER) {
      lua_Number n = lua_tonumber(L, i);
      if (n == n)
        continue;
      lua_pushfstring(L, "argument #%d is NaN, which Redis has no form for", i - first + 1);
      return -1;
    }
    if (type != LUA_TTABLE && type != LUA_TBOOLEAN) {
      lua_pushfstring(L,
                      "argument #%d is %s: an argument is a string or a number, or a table or "
                      "boolean, which become JSON",
                      i - first + 1, type == LUA_TNIL ? "nil" : lua_typename(L, type));
      return -1;
    }
    plain = 0;
  }
  return plain;
}

static const char *reply_argument(lua_State *L, const redio_command *c, int first, int top) {
  if (!(c->flags & REDIO_MUTE) || top != first || lua_type(L, first) != LUA_TSTRING)
    return NULL;
  return lua_tostring(L, first);
}

static unsigned char shape_of(lua_State *L, const redio_command *c, int first, int top) {
  return c->varies ? choose_shape(L, c, first, top) : c->shape;
}

static int encode_argument(lua_State *L, redio_pipeline *p, int i) {
  int type = lua_type(L, i);
  if (type == LUA_TSTRING)
    return encode_string(L, p, i);
  if (type == LUA_TNUMBER && lua_tonumber(L, i) == lua_tonumber(L, i))
    return encode_number(L, p, i);
  return i;
}

/* A few short strings, as most commands have: 0, -1 or 1 as redio_pipeline_plain. */
static int queue_strings(lua_State *L, redio_pipeline *p, const redio_command *c, int first,
                         int top) {
  redio_arg args[4];
  size_t bytes = 0;
  unsigned n = 0;
  if (top - first >= 4)
    return 1;
  for (; first <= top; first++, n++) {
    if (lua_type(L, first) != LUA_TSTRING)
      return 1;
    args[n].s = lua_tolstring(L, first, &args[n].len);
    if (args[n].len >= REDIO_PIECE_MIN)
      return 1;
    bytes += args[n].len;
  }
  return redio_pipeline_plain(p, c, args, n, bytes);
}

int redio_queue(lua_State *L, redio_pipeline *p, const redio_command *c, int first, int top) {
  int i, failed = p->closed_pieces == p->pieces.count ? queue_strings(L, p, c, first, top) : 1;
  if (failed <= 0)
    return failed;
  failed = 0;
  if (redio_pipeline_refuses(p, c))
    return first;
  if (p->closed_pieces < p->pieces.count)
    redio_unref_pieces(L, &p->pieces, p->closed_pieces);
  if (redio_pipeline_open(p, c, (unsigned)(top - first + 1)))
    return -1;
  for (i = first; i <= top && !failed; i++)
    failed = encode_argument(L, p, i);
  if (failed)
    return failed;
  return redio_pipeline_close(p, c, shape_of(L, c, first, top), reply_argument(L, c, first, top));
}

int redio_encode(lua_State *L, redio_pipeline *p, const redio_command *c, int first) {
  int top = lua_gettop(L), stopped = redio_queue(L, p, c, first, top);
  const char *refusal = stopped ? redio_pipeline_refuses(p, c) : NULL;
  lua_pushboolean(L, !stopped);
  if (!stopped)
    return 1;
  if (refusal || stopped < 0)
    lua_pushstring(L, refusal ? refusal : "out of memory");
  else if (check_arguments(L, first, top) == 0)
    return 1; /* nothing wrong that Lua could not help */
  return 2;
}
