/* SPDX-License-Identifier: MIT */
/* Replies to Lua values. */
#include "lvalue.h"

#include <string.h>

#include "lbuild.h"
#include "number.h"
#include "utf8.h"

const redio_shape redio_any_value = {"", REDIO_SHAPE_VALUE, 0, NULL, NULL};
const redio_shape redio_any_name = {"", REDIO_SHAPE_NAME, 0, NULL, NULL};

void redio_push_text(lua_State *L, const char *s, size_t len) {
  if (redio_utf8_valid(s, len) == len) {
    lua_pushlstring(L, s, len);
  } else {
    char *out = lua_newuserdatauv(L, 3 * len, 0);
    lua_pushlstring(L, out, redio_utf8_escape(out, s, len));
    lua_remove(L, -2);
  }
}

static void push_string(redio_builder *b, const char *s, size_t len, const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_NAME) {
    lua_pushlstring(b->L, s, len);
  } else if (b->mode & REDIO_MODE_TEXT) {
    redio_push_text(b->L, s, len);
  } else {
    lua_pushlstring(b->L, s, len);
    b->is_value = 1;
  }
}

static int push_bulk(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  double number;
  if (shape->kind == REDIO_SHAPE_DOUBLE && !redio_read_double(t->s, t->len, &number))
    lua_pushnumber(b->L, number);
  else
    push_string(b, t->s, t->len, shape);
  return 1;
}

static int push_chunks(redio_builder *b, const redio_shape *shape) {
  const char *start = b->p;
  size_t len = 0;
  redio_token t;
  char *whole;
  do {
    b->p = redio_token_next(b->p, &t);
    len += t.len;
  } while (t.len);
  whole = lua_newuserdatauv(b->L, len ? len : 1, 0);
  for (len = 0;; len += t.len) {
    start = redio_token_next(start, &t);
    if (!t.len)
      break;
    memcpy(whole + len, t.s, t.len);
  }
  push_string(b, whole, len, shape);
  lua_remove(b->L, -2);
  return 1;
}

static int push_line(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  int is_ok = t->len == 2 && !memcmp(t->s, "OK", 2);
  switch (shape->kind) {
  case REDIO_SHAPE_NOTHING:
    if (is_ok || (t->len == 4 && !memcmp(t->s, "PONG", 4)))
      return 0;
    break;
  case REDIO_SHAPE_QUEUED:
    if (t->len == 6 && !memcmp(t->s, "QUEUED", 6))
      return 0;
    break;
  case REDIO_SHAPE_TRUE:
    if (!is_ok)
      break;
    lua_pushboolean(b->L, 1);
    return 1;
  default:
    break;
  }
  lua_pushlstring(b->L, t->s, t->len);
  return 1;
}

static int push_integer(redio_builder *b, long long n, const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_BOOLEAN) {
    lua_pushboolean(b->L, n != 0);
  } else if (shape->kind == REDIO_SHAPE_SECONDS && n >= 0) {
    lua_pushnumber(b->L, (lua_Number)n / 1000);
  } else {
    char text[REDIO_NUMBER_MAX];
    if (REDIO_IS_EXACT(n))
      lua_pushinteger(b->L, (lua_Integer)n);
    else
      lua_pushlstring(b->L, text, redio_write_integer(text, n));
  }
  return 1;
}

static int push_null(redio_builder *b, int inside) {
  if (b->null_holder)
    lua_getfield(b->L, b->null_holder, "null");
  else if (inside)
    lua_pushboolean(b->L, 0);
  else
    lua_pushnil(b->L);
  return 1;
}

static void append(lua_State *L, int list) { lua_rawseti(L, list, (int)lua_rawlen(L, list) + 1); }

static void remember_error(redio_builder *b) {
  if (!b->errors)
    return;
  if (lua_isnil(b->L, b->errors)) {
    lua_newtable(b->L);
    lua_replace(b->L, b->errors);
  }
  lua_pushvalue(b->L, -1);
  append(b->L, b->errors);
}

/* "WRONGTYPE Operation against ...": the first word is the code, the message is the rest */
static int push_error(redio_builder *b, const char *s, size_t len) {
  lua_State *L = b->L;
  const char *space = len ? memchr(s, ' ', len) : NULL;
  size_t code = space ? (size_t)(space - s) : len;
  luaL_checkstack(L, 4, "error reply");
  lua_createtable(L, 0, 8);
  lua_pushlstring(L, s, code);
  lua_setfield(L, -2, "code");
  lua_pushlstring(L, space ? space + 1 : s, space ? len - code - 1 : len);
  lua_setfield(L, -2, "message");
  if (b->index) {
    lua_pushinteger(L, (lua_Integer)b->index);
    lua_setfield(L, -2, "index");
    lua_getfield(L, LUA_REGISTRYINDEX, REDIO_NAMES);
    lua_rawgeti(L, -1, b->id);
    lua_setfield(L, -3, "command");
    lua_pop(L, 1);
  }
  luaL_getmetatable(L, REDIO_ERROR);
  lua_setmetatable(L, -2);
  remember_error(b);
  return 1;
}

void redio_note_place(redio_builder *b, int container) {
  if (!(b->mode & REDIO_MODE_PLACES))
    return;
  lua_pushvalue(b->L, container);
  lua_rawseti(b->L, b->places, (int)++b->places_count);
  lua_pushvalue(b->L, -2); /* the key stands below the value */
  lua_rawseti(b->L, b->places, (int)++b->places_count);
}

void redio_set_item(redio_builder *b, int list, int i) {
  if (b->is_value && b->mode & REDIO_MODE_PLACES) {
    lua_pushinteger(b->L, i);
    lua_insert(b->L, -2);
    redio_note_place(b, list);
    lua_rawset(b->L, list);
  } else {
    lua_rawseti(b->L, list, i);
  }
  b->is_value = 0;
}

int redio_next_element(redio_builder *b, const redio_token *t, unsigned long long *left,
                       redio_token *element) {
  if (!t->streamed) {
    if (!*left)
      return 0;
    --*left;
  }
  b->p = redio_token_next(b->p, element);
  return element->type != '.';
}

static const redio_shape *element_shape(const redio_builder *b, const redio_shape *shape,
                                        unsigned long long i) {
  switch (shape->kind) {
  case REDIO_SHAPE_LIST:
    return shape->of[0];
  case REDIO_SHAPE_TUPLE:
    return shape->of[i < shape->count ? i : shape->count - 1];
  case REDIO_SHAPE_CYCLE:
    return shape->of[i % shape->count];
  case REDIO_SHAPE_EXEC:
    return i < b->inner_count ? redio_shapes[b->inner[i].reply.shape] : &redio_any_value;
  case REDIO_SHAPE_NAME:
    return &redio_any_name;
  default:
    return &redio_any_value;
  }
}

/* An element of EXEC's array is a command's reply: an error in it names that command. */
static void enter_queued(redio_builder *b, uint32_t exec_index, unsigned long long i) {
  if (i >= b->inner_count)
    return;
  b->id = b->inner[i].reply.id;
  b->index = exec_index > b->inner_count ? exec_index - b->inner_count + (uint32_t)i : exec_index;
}

/* True when bulk strings that are elements are pushed just as they are. */
static int has_plain_elements(const redio_builder *b, const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_LIST)
    shape = shape->of[0];
  return shape->kind <= REDIO_SHAPE_NAME && !(b->mode & (REDIO_MODE_TEXT | REDIO_MODE_PLACES));
}

/* A run of bulk strings into the list that is on top; how many. */
static int build_bulks(redio_builder *b, unsigned long long left) {
  const char *s;
  size_t len;
  int n = 0;
  for (; left && (s = redio_bulk_at(b->p, &len)) != NULL; left--) {
    lua_pushlstring(b->L, s, len);
    lua_rawseti(b->L, -2, ++n);
    b->p = s + len + 2;
  }
  return n;
}

static int build_list(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  unsigned long long left = t->count, i = 0;
  uint32_t index = b->index;
  int list, n = 0;
  redio_token element;
  luaL_checkstack(b->L, 8, "reply");
  lua_createtable(b->L, redio_small(t->streamed ? 0 : left), 0);
  list = lua_gettop(b->L);
  if (!t->streamed && has_plain_elements(b, shape)) {
    i = (unsigned long long)(n = build_bulks(b, left));
    left -= i;
  }
  for (; redio_next_element(b, t, &left, &element); i++) {
    if (shape->kind == REDIO_SHAPE_EXEC)
      enter_queued(b, index, i);
    if (redio_build_token(b, &element, element_shape(b, shape, i), 1))
      redio_set_item(b, list, ++n);
  }
  b->index = index;
  return n;
}

static int build_exec(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  if (build_list(b, t, shape) == 0) {
    lua_pop(b->L, 1);
    lua_pushboolean(b->L, 1);
  }
  return 1;
}

static int build_aggregate(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  int is_paired =
      t->type == '%' || shape->kind == REDIO_SHAPE_MAP || shape->kind == REDIO_SHAPE_PAIRS;
  if (is_paired && redio_build_pairs(b, t, shape))
    return 1;
  if (shape->kind == REDIO_SHAPE_EXEC)
    return build_exec(b, t, shape);
  build_list(b, t, shape);
  return 1;
}

int redio_build_token(redio_builder *b, const redio_token *t, const redio_shape *shape,
                      int inside) {
  b->is_value = 0;
  switch (t->type) {
  case '$':
    return t->streamed ? push_chunks(b, shape) : push_bulk(b, t, shape);
  case '=':
    return push_bulk(b, t, shape);
  case ':':
    return push_integer(b, t->integer, shape);
  case '+':
    return push_line(b, t, shape);
  case '_':
    if (shape->kind == REDIO_SHAPE_EXEC) {
      lua_pushboolean(b->L, 0); /* a watched key changed */
      return 1;
    }
    return push_null(b, inside);
  case '-':
  case '!':
    return push_error(b, t->s, t->len);
  case '#':
    lua_pushboolean(b->L, t->integer != 0);
    return 1;
  case ',':
    lua_pushnumber(b->L, t->number);
    return 1;
  case '(':
    lua_pushlstring(b->L, t->s, t->len);
    return 1;
  default:
    return build_aggregate(b, t, shape);
  }
}

int redio_build(redio_builder *b, const redio_shape *shape, int inside) {
  redio_token t;
  b->p = redio_token_next(b->p, &t);
  return redio_build_token(b, &t, shape, inside);
}
