/* SPDX-License-Identifier: MIT */
/* Specs: client/values, promises/18, promises/19 */
#include "lencode.h"

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

/* The arguments of a command: the values from index `first` of the stack on, or the items of the
 * list at index `list`, which may be more than a stack holds. */
typedef struct arguments {
  lua_State *L;
  int list, first, count;
} arguments;

/* Returns argument i, from 1, if it is a string, or NULL. */
static const char *string_at(const arguments *a, int i, size_t *len) {
  const char *s;
  if (!a->list)
    return lua_type(a->L, a->first + i - 1) == LUA_TSTRING
               ? lua_tolstring(a->L, a->first + i - 1, len)
               : NULL;
  lua_rawgeti(a->L, a->list, i);
  s = lua_type(a->L, -1) == LUA_TSTRING ? lua_tolstring(a->L, -1, len) : NULL;
  lua_pop(a->L, 1); /* the list holds it */
  return s;
}

/* Returns argument i as a number, 0 if it is none. */
static lua_Number number_at(const arguments *a, int i) {
  lua_Number n;
  if (!a->list)
    return lua_tonumber(a->L, a->first + i - 1);
  lua_rawgeti(a->L, a->list, i);
  n = lua_tonumber(a->L, -1);
  lua_pop(a->L, 1);
  return n;
}

/* Returns the argument at which the options begin. A word counts among the options only, and not as
 * the argument of one: in `SET k get` it is the value, in `ZUNION 1 withscores` a key, in `HSCAN k
 * 0 MATCH novalues` a pattern. */
static int options_begin(const arguments *a, const redio_variants *v) {
  lua_Number keys = v->numkeys && v->numkeys <= a->count ? number_at(a, v->numkeys) : 0;
  return keys > 0 && keys <= a->count ? v->from + (int)keys : v->from;
}

static const redio_option *option_at(const arguments *a, const redio_variants *v, int i) {
  size_t len;
  const redio_option *o = v->options, *end = o + v->count;
  const char *s = string_at(a, i, &len);
  for (; s && o < end; o++)
    if (redio_is_word(o->word, o->len, s, len))
      return o;
  return NULL;
}

static unsigned char choose_shape(const arguments *a, const redio_command *c) {
  const redio_variants *v = &c->variants;
  unsigned decides = v->shaped;
  int i;
  if (v->argc == a->count + 1)
    return v->argc_shape;
  for (i = options_begin(a, v); i <= a->count; i++) {
    const redio_option *o = option_at(a, v, i);
    if (!o && v->leading)
      break;
    if (o && o < v->options + decides)
      decides = (unsigned)(o - v->options);
    if (o)
      i += o->takes;
  }
  return decides < v->shaped ? v->options[decides].shape : c->shape;
}

/* Returns 1 when all of the arguments can be sent unchanged; 0 when Lua has to convert one; or -1
 * when one cannot be sent, with a message pushed. */
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

/* Returns CLIENT REPLY's only argument, or NULL. */
static const char *reply_argument(const arguments *a, const redio_command *c) {
  size_t len;
  return c->flags & REDIO_MUTE && a->count == 1 ? string_at(a, 1, &len) : NULL;
}

static unsigned char shape_of(const arguments *a, const redio_command *c) {
  return c->varies ? choose_shape(a, c) : c->shape;
}

/* Returns 0; -1 when memory is out; or i when the value is neither a string nor a number. */
static int encode_argument(lua_State *L, redio_pipeline *p, int i) {
  int type = lua_type(L, i);
  if (type == LUA_TSTRING)
    return encode_string(L, p, i);
  if (type == LUA_TNUMBER && lua_tonumber(L, i) == lua_tonumber(L, i))
    return encode_number(L, p, i);
  return i;
}

/* The fast path for a few short strings, as most commands have. Returns 0, -1 or 1 as
 * redio_pipeline_plain. */
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

/* Encodes all arguments in order. Returns 0, or the result of encode_argument for the one at which
 * it stopped. */
static int encode_all(const arguments *a, redio_pipeline *p) {
  int i, failed = 0;
  for (i = 1; i <= a->count && !failed; i++) {
    if (!a->list) {
      failed = encode_argument(a->L, p, a->first + i - 1);
      continue;
    }
    lua_rawgeti(a->L, a->list, i);
    failed = encode_argument(a->L, p, lua_gettop(a->L));
    lua_pop(a->L, 1);
  }
  return failed;
}

/* The slow path: takes any command and any string or number. Returns as redio_queue. */
static int queue_any(const arguments *a, redio_pipeline *p, const redio_command *c) {
  int failed;
  if (redio_pipeline_refuses(p, c))
    return a->first;
  if (p->closed_pieces < p->pieces.count)
    redio_unref_pieces(a->L, &p->pieces, p->closed_pieces);
  if (redio_pipeline_open(p, c, (unsigned)a->count))
    return -1;
  failed = encode_all(a, p);
  return failed ? failed : redio_pipeline_close(p, c, shape_of(a, c), reply_argument(a, c));
}

int redio_queue(lua_State *L, redio_pipeline *p, const redio_command *c, int first, int top) {
  int failed = p->closed_pieces == p->pieces.count ? queue_strings(L, p, c, first, top) : 1;
  arguments a;
  if (failed <= 0)
    return failed;
  a.L = L;
  a.list = 0;
  a.first = first;
  a.count = top - first + 1;
  return queue_any(&a, p, c);
}

/* Pushes the results of encode, without a reason when the arguments are to blame. Returns their
 * number. */
static int push_outcome(lua_State *L, const redio_pipeline *p, const redio_command *c,
                        int stopped) {
  const char *refusal = stopped ? redio_pipeline_refuses(p, c) : NULL;
  lua_pushboolean(L, !stopped);
  if (!refusal && stopped >= 0)
    return 1;
  lua_pushstring(L, refusal ? refusal : "out of memory");
  return 2;
}

int redio_encode(lua_State *L, redio_pipeline *p, const redio_command *c, int first) {
  int top = lua_gettop(L), stopped = redio_queue(L, p, c, first, top);
  int n = push_outcome(L, p, c, stopped);
  if (n == 1 && stopped && check_arguments(L, first, top))
    return 2; /* with the message of check_arguments */
  return n;
}

int redio_encode_list(lua_State *L, redio_pipeline *p, const redio_command *c, int list,
                      int count) {
  arguments a;
  a.L = L;
  a.list = list;
  a.first = 1;
  a.count = count;
  luaL_checkstack(L, 4, "arguments");
  return push_outcome(L, p, c, queue_any(&a, p, c));
}
