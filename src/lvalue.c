/* SPDX-License-Identifier: MIT */
/* Replies to Lua values. */
#include "lvalue.h"

#include <string.h>

#include "number.h"
#include "token.h"
#include "utf8.h"

static int build_token(redio_builder *b, const redio_token *t, const redio_shape *shape,
                       int inside);

static const redio_shape any_value = {"", REDIO_SHAPE_VALUE, 0, NULL, NULL};
static const redio_shape any_name = {"", REDIO_SHAPE_NAME, 0, NULL, NULL};

static int is_aggregate(const redio_token *t) { return t->type && strchr("*~>%", t->type) != NULL; }

static const char *skip_token(const char *p, const redio_token *t) {
  unsigned long long left;
  redio_token next;
  if (t->streamed) {
    do {
      p = redio_token_next(p, &next);
      if (t->type != '$' && next.type != '.')
        p = skip_token(p, &next);
    } while (t->type == '$' ? next.len != 0 : next.type != '.');
    return p;
  }
  if (!is_aggregate(t))
    return p;
  for (left = t->type == '%' ? t->count * 2 : t->count; left; left--)
    p = redio_skip(p);
  return p;
}

const char *redio_skip(const char *p) {
  redio_token t;
  p = redio_token_next(p, &t);
  return skip_token(p, &t);
}

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

static void note_place(redio_builder *b, int container) {
  if (!(b->mode & REDIO_MODE_PLACES))
    return;
  lua_pushvalue(b->L, container);
  lua_rawseti(b->L, b->places, (int)++b->places_count);
  lua_pushvalue(b->L, -2); /* the key stands below the value */
  lua_rawseti(b->L, b->places, (int)++b->places_count);
}

/* list[i] = value on top; the value is a place when it is a string that modes apply to */
static void set_item(redio_builder *b, int list, int i) {
  if (b->is_value && b->mode & REDIO_MODE_PLACES) {
    lua_pushinteger(b->L, i);
    lua_insert(b->L, -2);
    note_place(b, list);
    lua_rawset(b->L, list);
  } else {
    lua_rawseti(b->L, list, i);
  }
  b->is_value = 0;
}

/* Reads one element; 0 at the end of a streamed aggregate. */
static int next_element(redio_builder *b, const redio_token *t, unsigned long long *left,
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
    return i < b->inner_count ? redio_shapes[b->inner[i].reply.shape] : &any_value;
  case REDIO_SHAPE_NAME:
    return &any_name;
  default:
    return &any_value;
  }
}

static int small(unsigned long long n) { return n < 0x1000000 ? (int)n : 0x1000000; }

/* An element of EXEC's array is a command's reply: an error in it names that command. */
static void enter_queued(redio_builder *b, uint32_t exec_index, unsigned long long i) {
  if (i >= b->inner_count)
    return;
  b->id = b->inner[i].reply.id;
  b->index = exec_index > b->inner_count ? exec_index - b->inner_count + (uint32_t)i : exec_index;
}

/* Whether bulk strings that are elements are pushed just as they are. */
static int has_plain_elements(const redio_builder *b, const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_LIST)
    shape = shape->of[0];
  return shape->kind <= REDIO_SHAPE_NAME && !(b->mode & (REDIO_MODE_TEXT | REDIO_MODE_PLACES));
}

/* The bytes of the bulk string at p, and where they end; NULL when something else is there. */
static const char *bulk_at(const char *p, size_t *len) {
  if (*p != '$' || p[1] < '0' || p[1] > '9')
    return NULL;
  for (*len = 0, p++; *p != '\r'; p++)
    *len = *len * 10 + (size_t)(*p - '0');
  return p + 2;
}

/* A run of bulk strings into the list that is on top; how many. */
static int build_bulks(redio_builder *b, unsigned long long left) {
  const char *s;
  size_t len;
  int n = 0;
  for (; left && (s = bulk_at(b->p, &len)) != NULL; left--) {
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
  lua_createtable(b->L, small(t->streamed ? 0 : left), 0);
  list = lua_gettop(b->L);
  if (!t->streamed && has_plain_elements(b, shape)) {
    i = (unsigned long long)(n = build_bulks(b, left));
    left -= i;
  }
  for (; next_element(b, t, &left, &element); i++) {
    if (shape->kind == REDIO_SHAPE_EXEC)
      enter_queued(b, index, i);
    if (build_token(b, &element, element_shape(b, shape, i), 1))
      set_item(b, list, ++n);
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

static const redio_shape *field_shape(lua_State *L, const redio_shape *shape) {
  const redio_shape_field *field = shape->fields;
  const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  if (key && field)
    for (; field->name; field++)
      if (!strcmp(field->name, key))
        return field->shape;
  if (shape->kind == REDIO_SHAPE_MAP && shape->count)
    return shape->of[0];
  return shape->kind == REDIO_SHAPE_NAME ? &any_name : &any_value;
}

static int is_key(lua_State *L) {
  lua_Number n;
  switch (lua_type(L, -1)) {
  case LUA_TSTRING:
  case LUA_TBOOLEAN:
    return 1;
  case LUA_TNUMBER:
    n = lua_tonumber(L, -1);
    return n == n;
  default:
    return 0;
  }
}

/* How the pairs of a map stand on the wire. */
typedef enum redio_pairing { PAIRS_NONE, PAIRS_FLAT, PAIRS_NESTED } redio_pairing;

static redio_pairing pairing(const redio_builder *b, const redio_token *t) {
  redio_token first;
  if (t->type == '%')
    return PAIRS_FLAT;
  if (t->streamed)
    return PAIRS_NONE;
  if (!t->count)
    return PAIRS_FLAT;
  redio_token_next(b->p, &first);
  if (first.type == '*' && first.count == 2 && !first.streamed)
    return PAIRS_NESTED;
  return t->count % 2 ? PAIRS_NONE : PAIRS_FLAT;
}

/* Reads up to the key of the next pair: 1, 0 at the end, -1 when there is no pair. */
static int next_pair(redio_builder *b, const redio_token *t, redio_pairing how,
                     unsigned long long *left, redio_token *key) {
  if (!next_element(b, t, left, key))
    return 0;
  if (how == PAIRS_NESTED) {
    if (key->type != '*' || key->count != 2 || key->streamed)
      return -1;
    b->p = redio_token_next(b->p, key);
  }
  return 1;
}

static unsigned long long pairs_count(const redio_token *t, redio_pairing how) {
  return t->type == '%' || how == PAIRS_NESTED ? t->count : t->count / 2;
}

/* One pair into the table; 0 when its key is none that a table can have. */
static int build_entry(redio_builder *b, const redio_token *key_token, const redio_shape *shape,
                       int table) {
  redio_token t;
  const redio_shape *value;
  build_token(b, key_token, &any_name, 1);
  b->is_value = 0;
  if (key_token->type == '_' || !is_key(b->L))
    return 0;
  value = field_shape(b->L, shape);
  b->p = redio_token_next(b->p, &t);
  if (!build_token(b, &t, value, 1))
    lua_pushboolean(b->L, 1);
  if (b->is_value)
    note_place(b, table);
  b->is_value = 0;
  lua_rawset(b->L, table);
  return 1;
}

/* Not what the shape expects: the bytes are walked again as a plain list. */
static int build_again(redio_builder *b, const redio_token *t, const char *start, uint32_t places,
                       int top) {
  lua_settop(b->L, top);
  b->p = start;
  b->places_count = places;
  build_list(b, t, &any_value);
  return 1;
}

static int build_pairs(redio_builder *b, const redio_token *t, redio_pairing how,
                       const redio_shape *first, const redio_shape *second) {
  const char *start = b->p;
  uint32_t places = b->places_count;
  unsigned long long left = pairs_count(t, how);
  int list, more, n = 0;
  redio_token key, value;
  luaL_checkstack(b->L, 8, "reply");
  lua_createtable(b->L, small(t->streamed ? 0 : left), 0);
  list = lua_gettop(b->L);
  while ((more = next_pair(b, t, how, &left, &key)) == 1) {
    int pair = list + 1;
    lua_createtable(b->L, 2, 0);
    build_token(b, &key, first, 1);
    set_item(b, pair, 1);
    b->p = redio_token_next(b->p, &value);
    build_token(b, &value, second, 1);
    set_item(b, pair, 2);
    lua_rawseti(b->L, list, ++n);
  }
  return more ? build_again(b, t, start, places, list - 1) : 1;
}

/* A table by key. Where a key is none that a table can have, a list of pairs instead. */
/* The same for a map: whether bulk strings that are values are pushed just as they are. */
static int has_plain_values(const redio_builder *b, const redio_shape *shape) {
  if (shape->fields || b->mode & (REDIO_MODE_TEXT | REDIO_MODE_PLACES))
    return 0;
  if (shape->kind == REDIO_SHAPE_MAP)
    return !shape->count || shape->of[0]->kind <= REDIO_SHAPE_NAME;
  return shape->kind <= REDIO_SHAPE_NAME;
}

/* A run of pairs of bulk strings into the table that is on top; how many. */
static unsigned long long build_bulk_pairs(redio_builder *b, unsigned long long left) {
  unsigned long long n = 0;
  const char *key, *value;
  size_t key_len, len;
  for (; n < left && (key = bulk_at(b->p, &key_len)) != NULL; n++) {
    value = bulk_at(key + key_len + 2, &len);
    if (!value)
      break;
    lua_pushlstring(b->L, key, key_len);
    lua_pushlstring(b->L, value, len);
    lua_rawset(b->L, -3);
    b->p = value + len + 2;
  }
  return n;
}

static int build_map(redio_builder *b, const redio_token *t, const redio_shape *shape,
                     redio_pairing how) {
  const char *start = b->p;
  uint32_t places = b->places_count;
  unsigned long long left = pairs_count(t, how);
  int table, more;
  redio_token key;
  luaL_checkstack(b->L, 8, "reply");
  lua_createtable(b->L, 0, small(t->streamed ? 0 : left));
  table = lua_gettop(b->L);
  if (how == PAIRS_FLAT && !t->streamed && has_plain_values(b, shape))
    left -= build_bulk_pairs(b, left);
  while ((more = next_pair(b, t, how, &left, &key)) == 1)
    if (!build_entry(b, &key, shape, table))
      break;
  if (!more)
    return 1;
  if (more < 0)
    return build_again(b, t, start, places, table - 1);
  lua_settop(b->L, table - 1);
  b->p = start;
  b->places_count = places;
  return build_pairs(b, t, how, &any_name, &any_value);
}

static int build_aggregate(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  redio_pairing how = PAIRS_NONE;
  if (t->type == '%' || shape->kind == REDIO_SHAPE_MAP || shape->kind == REDIO_SHAPE_PAIRS)
    how = pairing(b, t);
  if (how == PAIRS_NONE) {
    if (shape->kind == REDIO_SHAPE_EXEC)
      return build_exec(b, t, shape);
    build_list(b, t, shape);
    return 1;
  }
  if (shape->kind == REDIO_SHAPE_PAIRS && t->type != '%')
    return build_pairs(b, t, how, shape->of[0], shape->of[1]);
  return build_map(b, t, shape, how);
}

static int build_token(redio_builder *b, const redio_token *t, const redio_shape *shape,
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
  return build_token(b, &t, shape, inside);
}
