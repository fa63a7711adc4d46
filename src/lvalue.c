/* SPDX-License-Identifier: MIT */
/* Specs: unit/decoder_cases, client/values, fuzz/value */
/* The aggregates: lists, lists of pairs and tables by key. */
#include "lvalue.h"

#include <string.h>

static int build_aggregate(redio_builder *b, const redio_token *t, const redio_shape *shape);

/* Pushes the value of the token t, which was read: see redio_build. */
static inline int build_token(redio_builder *b, const redio_token *t, const redio_shape *shape,
                              int inside) {
  switch (t->type) {
  case '*':
  case '%':
  case '~':
  case '>':
    return build_aggregate(b, t, shape);
  default:
    return redio_build_scalar(b, t, shape, inside);
  }
}

/* Returns the size for a table made in advance. */
static int small(unsigned long long n) { return n < 0x1000000 ? (int)n : 0x1000000; }

/* Elements ------------------------------------------------------------------------------------- */

/* Notes that the value on top is to stand in the container by the key below it. Only with
 * REDIO_MODE_PLACES. */
static void note_place(redio_builder *b, int container) {
  if (!(b->mode & REDIO_MODE_PLACES))
    return;
  lua_pushvalue(b->L, container);
  lua_rawseti(b->L, b->places, (int)++b->places_count);
  lua_pushvalue(b->L, -2); /* the key stands below the value */
  lua_rawseti(b->L, b->places, (int)++b->places_count);
}

/* Pops the value and makes it list[i]. Notes its place when it is a string that modes apply to. */
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

/* Reads the next element; returns 0 behind the last one. */
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

/* Lists ---------------------------------------------------------------------------------------- */

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
    return i < b->inner_count ? redio_shapes[b->inner[i].reply.shape] : REDIO_ANY_VALUE;
  case REDIO_SHAPE_NAME:
    return REDIO_ANY_NAME;
  default:
    return REDIO_ANY_VALUE;
  }
}

/* Makes errors name the command of the i-th element of EXEC's array. */
static void enter_queued(redio_builder *b, uint32_t exec_index, unsigned long long i) {
  if (i >= b->inner_count)
    return;
  b->id = b->inner[i].reply.id;
  b->index = exec_index > b->inner_count ? exec_index - b->inner_count + (uint32_t)i : exec_index;
}

/* Returns 1 when elements that are bulk strings are pushed unchanged. */
static int has_plain_elements(const redio_builder *b, const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_LIST)
    shape = shape->of[0];
  return shape->kind <= REDIO_SHAPE_NAME && !(b->mode & (REDIO_MODE_TEXT | REDIO_MODE_PLACES));
}

/* The fast path for elements: appends a run of bulk strings to the list on top. Returns its
 * length. */
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

/* Pushes a list; returns its length. */
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

/* Pushes the results of EXEC, true when there are none. */
static int build_exec(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  if (build_list(b, t, shape) == 0) {
    lua_pop(b->L, 1);
    lua_pushboolean(b->L, 1);
  }
  return 1;
}

/* Pairs ---------------------------------------------------------------------------------------- */

/* The form of pairs on the wire: none, k v k v, or [k v] [k v]. */
typedef enum pairing { PAIRS_NONE, PAIRS_FLAT, PAIRS_NESTED } pairing;

static pairing pairing_of(const redio_builder *b, const redio_token *t) {
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

/* Reads the key of the next pair and returns 1; returns 0 behind the last pair, and -1 when the
 * next element is not a pair and was read into `key`. */
static int next_pair(redio_builder *b, const redio_token *t, pairing how, unsigned long long *left,
                     redio_token *key) {
  if (!next_element(b, t, left, key))
    return 0;
  if (how == PAIRS_NESTED) {
    if (key->type != '*' || key->count != 2 || key->streamed)
      return -1;
    b->p = redio_token_next(b->p, key);
  }
  return 1;
}

static unsigned long long pairs_count(const redio_token *t, pairing how) {
  return t->type == '%' || how == PAIRS_NESTED ? t->count : t->count / 2;
}

/* Pushes a list of pairs. An element that is not a pair is built by its own type. */
static void build_pair_list(redio_builder *b, const redio_token *t, pairing how,
                            const redio_shape *first, const redio_shape *second) {
  unsigned long long left = pairs_count(t, how);
  int list, more, n = 0;
  redio_token key, value;
  luaL_checkstack(b->L, 8, "reply");
  lua_createtable(b->L, small(t->streamed ? 0 : left), 0);
  list = lua_gettop(b->L);
  while ((more = next_pair(b, t, how, &left, &key)) != 0) {
    int pair = list + 1;
    if (more < 0) {
      build_token(b, &key, REDIO_ANY_VALUE, 1);
      set_item(b, list, ++n);
      continue;
    }
    lua_createtable(b->L, 2, 0);
    build_token(b, &key, first, 1);
    set_item(b, pair, 1);
    b->p = redio_token_next(b->p, &value);
    build_token(b, &value, second, 1);
    set_item(b, pair, 2);
    lua_rawseti(b->L, list, ++n);
  }
}

/* Maps -----------------------------------------------------------------------------------------
 *
 * A map becomes a table by key, or a list of pairs if a table cannot have one of the keys. The
 * choice falls with the last key, and building a value a second time is not allowed: maps within
 * maps would double the work with each level. So entries are gathered in the order of the wire and
 * put into their places at the end. Simple pairs at the beginning go into the table at once, and
 * most maps consist of them. When a bad key follows, only these, which nest nothing, are read
 * again. */

/* Fields of an entry. The key is nil for one that is not a pair. IS_PLACE needs
 * REDIO_MODE_PLACES. */
enum { ENTRY_KEY = 1, ENTRY_VALUE, ENTRY_IS_PLACE };

static int entry_at(const redio_builder *b, int i, int field) {
  return i * (b->mode & REDIO_MODE_PLACES ? ENTRY_IS_PLACE : ENTRY_VALUE) + field;
}

static const redio_shape *values_shape(const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_MAP && shape->count)
    return shape->of[0];
  return shape->kind == REDIO_SHAPE_NAME ? REDIO_ANY_NAME : REDIO_ANY_VALUE;
}

/* Returns the shape of the value for the key on top. */
static const redio_shape *field_shape(lua_State *L, const redio_shape *shape) {
  const redio_shape_field *field = shape->fields;
  const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  if (key && field)
    for (; field->name; field++)
      if (!strcmp(field->name, key))
        return field->shape;
  return values_shape(shape);
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

static void push_value(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  if (!build_token(b, t, shape, 1))
    lua_pushboolean(b->L, 1);
}

/* Puts the i-th entry, with its key already read, into the list `entries`. Returns 1 when a table
 * can have the key. */
static int gather_entry(redio_builder *b, const redio_token *key, int is_pair,
                        const redio_shape *shape, int entries, int i) {
  const redio_shape *of = REDIO_ANY_VALUE;
  redio_token value = *key;
  int is_good = 0;
  if (is_pair) {
    build_token(b, key, REDIO_ANY_NAME, 1);
    is_good = key->type != '_' && is_key(b->L);
    of = field_shape(b->L, shape);
    b->p = redio_token_next(b->p, &value);
  } else {
    lua_pushnil(b->L);
  }
  push_value(b, &value, of);
  lua_rawseti(b->L, entries, entry_at(b, i, ENTRY_VALUE));
  lua_rawseti(b->L, entries, entry_at(b, i, ENTRY_KEY));
  if (b->mode & REDIO_MODE_PLACES) {
    lua_pushboolean(b->L, b->is_value);
    lua_rawseti(b->L, entries, entry_at(b, i, ENTRY_IS_PLACE));
  }
  b->is_value = 0;
  return is_good;
}

static void push_entry(redio_builder *b, int entries, int i, int field) {
  lua_rawgeti(b->L, entries, entry_at(b, i, field));
  if (field == ENTRY_VALUE && b->mode & REDIO_MODE_PLACES) {
    lua_rawgeti(b->L, entries, entry_at(b, i, ENTRY_IS_PLACE));
    b->is_value = (unsigned char)lua_toboolean(b->L, -1);
    lua_pop(b->L, 1);
  }
}

/* Puts the entries into the table. The last of equal keys wins. */
static void fill_table(redio_builder *b, int table, int entries, int count) {
  int i;
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    push_entry(b, entries, i, ENTRY_VALUE);
    lua_rawset(b->L, table);
  }
}

/* The same with REDIO_MODE_PLACES. A place is decoded once, so only the last of equal keys may
 * become one. Each key first gets the number of its last entry, and then the value of that
 * entry. */
static void fill_places(redio_builder *b, int table, int entries, int count) {
  int i, is_last;
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    lua_pushinteger(b->L, i);
    lua_rawset(b->L, table);
  }
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    lua_pushvalue(b->L, -1);
    lua_rawget(b->L, table);
    is_last = lua_tointeger(b->L, -1) == i;
    lua_pop(b->L, 1);
    if (is_last) {
      push_entry(b, entries, i, ENTRY_VALUE);
      if (b->is_value)
        note_place(b, table);
      lua_rawset(b->L, table);
    } else {
      lua_pop(b->L, 1);
    }
  }
  b->is_value = 0;
}

/* Appends the entries as pairs to the list, which has n items. */
static void fill_list(redio_builder *b, int list, int n, int entries, int count) {
  int i, pair = lua_gettop(b->L) + 1;
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    if (lua_isnil(b->L, -1)) {
      lua_pop(b->L, 1);
      push_entry(b, entries, i, ENTRY_VALUE);
      set_item(b, list, ++n);
      continue;
    }
    lua_createtable(b->L, 2, 0);
    lua_insert(b->L, pair);
    lua_rawseti(b->L, pair, 1);
    push_entry(b, entries, i, ENTRY_VALUE);
    set_item(b, pair, 2);
    lua_rawseti(b->L, list, ++n);
  }
}

/* Returns 1 when values that are bulk strings are pushed unchanged. */
static int has_plain_values(const redio_builder *b, const redio_shape *shape) {
  return !shape->fields && !(b->mode & REDIO_MODE_TEXT) &&
         values_shape(shape)->kind <= REDIO_SHAPE_NAME;
}

/* Pushes a pair of bulk strings and returns 1, or returns 0. */
static inline int push_bulk_pair(redio_builder *b) {
  size_t key_len, len;
  const char *key = redio_bulk_at(b->p, &key_len);
  const char *value = key ? redio_bulk_at(key + key_len + 2, &len) : NULL;
  if (!value)
    return 0;
  lua_pushlstring(b->L, key, key_len);
  lua_pushlstring(b->L, value, len);
  b->p = value + len + 2;
  return 1;
}

/* Returns 1 for a scalar other than an error: building it a second time has no effect elsewhere. */
static int is_leaf(const redio_token *t) {
  switch (t->type) {
  case '$':
  case '=':
  case ':':
  case '+':
  case '_':
  case '#':
  case ',':
  case '(':
    return 1;
  default:
    return 0;
  }
}

/* Pushes a pair of leaves with a good key and returns 1, or returns 0. */
static int push_leaf_pair(redio_builder *b, const redio_shape *shape) {
  const char *start = b->p;
  redio_token t;
  b->p = redio_token_next(start, &t);
  if (is_leaf(&t) && t.type != '_') {
    build_token(b, &t, REDIO_ANY_NAME, 1);
    if (is_key(b->L)) {
      b->p = redio_token_next(b->p, &t);
      if (is_leaf(&t)) {
        push_value(b, &t, field_shape(b->L, shape));
        return 1;
      }
    }
    lua_pop(b->L, 1);
  }
  b->p = start;
  return 0;
}

/* Pushes the next pair if it is simple and returns 1, or returns 0. */
static inline int push_simple_pair(redio_builder *b, const redio_shape *shape, int is_plain) {
  return (is_plain && push_bulk_pair(b)) || push_leaf_pair(b, shape);
}

/* The fast path for maps: puts a run of at most so many simple pairs into the table; returns their
 * number. */
static int fill_simple(redio_builder *b, int table, unsigned long long most,
                       const redio_shape *shape) {
  int n = 0, is_plain = has_plain_values(b, shape);
  for (; most && push_simple_pair(b, shape, is_plain); most--, n++)
    lua_rawset(b->L, table);
  return n;
}

/* Puts the same run into a list of pairs. */
static void list_simple(redio_builder *b, const char *start, int list, int count,
                        const redio_shape *shape) {
  const char *end = b->p;
  int n = 0, is_plain = has_plain_values(b, shape);
  b->p = start;
  while (n < count) {
    lua_createtable(b->L, 2, 0);
    push_simple_pair(b, shape, is_plain);
    lua_rawseti(b->L, -3, 2);
    lua_rawseti(b->L, -2, 1);
    lua_rawseti(b->L, list, ++n);
  }
  b->p = end;
}

/* Pushes a table by key, or a list of pairs. */
static void build_map(redio_builder *b, const redio_token *t, const redio_shape *shape,
                      pairing how) {
  const char *start = b->p;
  unsigned long long left = pairs_count(t, how);
  int table, list, entries, more, simple = 0, count = 0, is_table = 1;
  redio_token key;
  luaL_checkstack(b->L, 10, "reply");
  lua_createtable(b->L, 0, small(left));
  table = lua_gettop(b->L);
  if (how == PAIRS_FLAT && !t->streamed && !(b->mode & REDIO_MODE_PLACES))
    simple = fill_simple(b, table, left, shape);
  left -= (unsigned long long)simple;
  if (!left && !t->streamed)
    return;
  lua_createtable(b->L, small((unsigned long long)entry_at(b, small(left), 0)), 0);
  entries = table + 1;
  while ((more = next_pair(b, t, how, &left, &key)) != 0)
    is_table &= gather_entry(b, &key, more > 0, shape, entries, count++);
  if (is_table) {
    if (b->mode & REDIO_MODE_PLACES)
      fill_places(b, table, entries, count);
    else
      fill_table(b, table, entries, count);
  } else {
    lua_createtable(b->L, simple + count, 0);
    list = table + 2;
    list_simple(b, start, list, simple, shape);
    fill_list(b, list, simple, entries, count);
    lua_replace(b->L, table);
  }
  lua_settop(b->L, table);
}

/* Pushes pairs and returns 1; returns 0 when the aggregate does not consist of pairs. */
static int build_pairs(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  pairing how = pairing_of(b, t);
  if (how == PAIRS_NONE)
    return 0;
  if (shape->kind == REDIO_SHAPE_PAIRS && t->type != '%')
    build_pair_list(b, t, how, shape->of[0], shape->of[1]);
  else
    build_map(b, t, shape, how);
  return 1;
}

/* Values --------------------------------------------------------------------------------------- */

static int build_aggregate(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  int is_paired =
      t->type == '%' || shape->kind == REDIO_SHAPE_MAP || shape->kind == REDIO_SHAPE_PAIRS;
  b->is_value = 0;
  if (is_paired && build_pairs(b, t, shape))
    return 1;
  if (shape->kind == REDIO_SHAPE_EXEC)
    return build_exec(b, t, shape);
  build_list(b, t, shape);
  return 1;
}

int redio_build(redio_builder *b, const redio_shape *shape, int inside) {
  redio_token t;
  b->p = redio_token_next(b->p, &t);
  return build_token(b, &t, shape, inside);
}
