/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, client/values */
#include "lscalar.h"

#include <string.h>

#include "lpipeline.h"
#include "number.h"
#include "utf8.h"

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

static int push_null(redio_builder *b, const redio_shape *shape, int inside) {
  if (shape->kind == REDIO_SHAPE_EXEC)
    lua_pushboolean(b->L, 0); /* a watched key has changed */
  else if (b->null_holder)
    lua_getfield(b->L, b->null_holder, "null");
  else if (inside)
    lua_pushboolean(b->L, 0);
  else
    lua_pushnil(b->L);
  return 1;
}

/* Appends the error on top of the stack to the list of errors. */
static void note_error(redio_builder *b) {
  if (!b->errors)
    return;
  if (lua_isnil(b->L, b->errors)) {
    lua_newtable(b->L);
    lua_replace(b->L, b->errors);
  }
  lua_pushvalue(b->L, -1);
  lua_rawseti(b->L, b->errors, (int)lua_rawlen(b->L, b->errors) + 1);
}

/* Pushes an error reply as a table. Of "WRONGTYPE Operation against ..." the first word is the code
 * and the rest is the message. */
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
    redio_push_command_name(L, b->id);
    lua_setfield(L, -2, "command");
  }
  luaL_getmetatable(L, REDIO_ERROR);
  lua_setmetatable(L, -2);
  note_error(b);
  return 1;
}

int redio_build_scalar(redio_builder *b, const redio_token *t, const redio_shape *shape,
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
    return push_null(b, shape, inside);
  case '-':
  case '!':
    return push_error(b, t->s, t->len);
  case '#':
    lua_pushboolean(b->L, t->integer != 0);
    return 1;
  case ',':
    lua_pushnumber(b->L, t->number);
    return 1;
  default: /* '(' */
    lua_pushlstring(b->L, t->s, t->len);
    return 1;
  }
}
