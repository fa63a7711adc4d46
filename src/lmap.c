/* SPDX-License-Identifier: MIT */
/* Pairs to Lua: tables by key, and lists of pairs. */
#include <string.h>

#include "lbuild.h"
#include "lvalue.h"

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

/* Reads up to the key of the next pair: 1; 0 at the end; -1 when an element is no pair: `key` is
 * that element. */
static int next_pair(redio_builder *b, const redio_token *t, redio_pairing how,
                     unsigned long long *left, redio_token *key) {
  if (!redio_next_element(b, t, left, key))
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

/* A list of pairs. An element that is none stays what it is. */
static void build_list(redio_builder *b, const redio_token *t, redio_pairing how,
                       const redio_shape *first, const redio_shape *second) {
  unsigned long long left = pairs_count(t, how);
  int list, more, n = 0;
  redio_token key, value;
  luaL_checkstack(b->L, 8, "reply");
  lua_createtable(b->L, redio_small(t->streamed ? 0 : left), 0);
  list = lua_gettop(b->L);
  while ((more = next_pair(b, t, how, &left, &key)) != 0) {
    int pair = list + 1;
    if (more < 0) {
      redio_build_token(b, &key, &redio_any_value, 1);
      redio_set_item(b, list, ++n);
      continue;
    }
    lua_createtable(b->L, 2, 0);
    redio_build_token(b, &key, first, 1);
    redio_set_item(b, pair, 1);
    b->p = redio_token_next(b->p, &value);
    redio_build_token(b, &value, second, 1);
    redio_set_item(b, pair, 2);
    lua_rawseti(b->L, list, ++n);
  }
}

/* Maps: a table by key, or, where a table cannot have one of the keys, a list of pairs. Which of
 * the two is known after the last key, and nothing may be built again by then: of maps within maps
 * each level would double the work. So entries are gathered in the order of the wire, and are put
 * into their places at the end. Simple pairs at the beginning (most maps are nothing else) go into
 * the table at once; where a bad key follows, these alone, which nest nothing, are read again. */

/* An entry that is no pair has nil for its key. PLACE is there with REDIO_MODE_PLACES only. */
enum { ENTRY_KEY = 1, ENTRY_VALUE, ENTRY_IS_PLACE };

static int entry_at(const redio_builder *b, int i, int slot) {
  return i * (b->mode & REDIO_MODE_PLACES ? ENTRY_IS_PLACE : ENTRY_VALUE) + slot;
}

static const redio_shape *values_shape(const redio_shape *shape) {
  if (shape->kind == REDIO_SHAPE_MAP && shape->count)
    return shape->of[0];
  return shape->kind == REDIO_SHAPE_NAME ? &redio_any_name : &redio_any_value;
}

/* Of the value whose key is on top. */
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
  if (!redio_build_token(b, t, shape, 1))
    lua_pushboolean(b->L, 1);
}

/* The i-th entry, whose key has been read, into the list `entries`; whether a table may have it. */
static int gather_entry(redio_builder *b, const redio_token *key, int is_pair,
                        const redio_shape *shape, int entries, int i) {
  const redio_shape *of = &redio_any_value;
  redio_token value = *key;
  int is_good = 0;
  if (is_pair) {
    redio_build_token(b, key, &redio_any_name, 1);
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

static void push_entry(redio_builder *b, int entries, int i, int slot) {
  lua_rawgeti(b->L, entries, entry_at(b, i, slot));
  if (slot == ENTRY_VALUE && b->mode & REDIO_MODE_PLACES) {
    lua_rawgeti(b->L, entries, entry_at(b, i, ENTRY_IS_PLACE));
    b->is_value = (unsigned char)lua_toboolean(b->L, -1);
    lua_pop(b->L, 1);
  }
}

/* Of equal keys the last wins. */
static void fill_table(redio_builder *b, int table, int entries, int count) {
  int i;
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    push_entry(b, entries, i, ENTRY_VALUE);
    lua_rawset(b->L, table);
  }
}

/* The same with the places noted: a place is decoded once, so of equal keys none but the last is
 * one. First each key has the number of its last entry, then that one's value. */
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
        redio_note_place(b, table);
      lua_rawset(b->L, table);
    } else {
      lua_pop(b->L, 1);
    }
  }
  b->is_value = 0;
}

static void fill_list(redio_builder *b, int list, int n, int entries, int count) {
  int i, pair = lua_gettop(b->L) + 1;
  for (i = 0; i < count; i++) {
    push_entry(b, entries, i, ENTRY_KEY);
    if (lua_isnil(b->L, -1)) {
      lua_pop(b->L, 1);
      push_entry(b, entries, i, ENTRY_VALUE);
      redio_set_item(b, list, ++n);
      continue;
    }
    lua_createtable(b->L, 2, 0);
    lua_insert(b->L, pair);
    lua_rawseti(b->L, pair, 1);
    push_entry(b, entries, i, ENTRY_VALUE);
    redio_set_item(b, pair, 2);
    lua_rawseti(b->L, list, ++n);
  }
}

/* True when bulk strings are pushed just as they are. */
static int has_plain_values(const redio_builder *b, const redio_shape *shape) {
  return !shape->fields && !(b->mode & REDIO_MODE_TEXT) &&
         values_shape(shape)->kind <= REDIO_SHAPE_NAME;
}

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

/* Holds nothing, and is no error, which would be remembered. */
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

static int push_leaf_pair(redio_builder *b, const redio_shape *shape) {
  const char *start = b->p;
  redio_token t;
  b->p = redio_token_next(start, &t);
  if (is_leaf(&t) && t.type != '_') {
    redio_build_token(b, &t, &redio_any_name, 1);
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

/* The next pair onto the stack, when neither half can hold anything and the key is good: 1, or 0.
 */
static inline int push_simple_pair(redio_builder *b, const redio_shape *shape, int is_plain) {
  return (is_plain && push_bulk_pair(b)) || push_leaf_pair(b, shape);
}

/* A run of simple pairs, at most so many, into the table; how many. */
static int fill_simple(redio_builder *b, int table, unsigned long long most,
                       const redio_shape *shape) {
  int n = 0, is_plain = has_plain_values(b, shape);
  for (; most && push_simple_pair(b, shape, is_plain); most--, n++)
    lua_rawset(b->L, table);
  return n;
}

/* The same run once more, into a list of pairs. */
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

static void build_map(redio_builder *b, const redio_token *t, const redio_shape *shape,
                      redio_pairing how) {
  const char *start = b->p;
  unsigned long long left = pairs_count(t, how);
  int table, list, entries, more, simple = 0, count = 0, is_table = 1;
  redio_token key;
  luaL_checkstack(b->L, 10, "reply");
  lua_createtable(b->L, 0, redio_small(left));
  table = lua_gettop(b->L);
  if (how == PAIRS_FLAT && !t->streamed && !(b->mode & REDIO_MODE_PLACES))
    simple = fill_simple(b, table, left, shape);
  left -= (unsigned long long)simple;
  if (!left && !t->streamed)
    return;
  lua_createtable(b->L, redio_small((unsigned long long)entry_at(b, redio_small(left), 0)), 0);
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

int redio_build_pairs(redio_builder *b, const redio_token *t, const redio_shape *shape) {
  redio_pairing how = pairing(b, t);
  if (how == PAIRS_NONE)
    return 0;
  if (shape->kind == REDIO_SHAPE_PAIRS && t->type != '%')
    build_list(b, t, how, shape->of[0], shape->of[1]);
  else
    build_map(b, t, shape, how);
  return 1;
}
