/* SPDX-License-Identifier: MIT */
/* Userdata, their classes, and tables of functions and numbers. Linked into both libraries. */
#ifndef REDIO_LBIND_H
#define REDIO_LBIND_H

#include "compat.h"

/* Marks the only function that a library exports. */
#if defined(__GNUC__)
#define REDIO_MODULE __attribute__((visibility("default")))
#else
#define REDIO_MODULE
#endif

/* A userdata starts with the address of its tag. So its class is checked at the price of two
 * loads. */

/* Returns the userdata at index i; raises when it is not of that class. */
void *redio_check(lua_State *L, int i, const void *tag, size_t size, const char *name);

/* Returns the userdata at index i, or NULL when it is not of that class. The index must hold a
 * userdata that starts with an address, or no userdata. */
static inline void *redio_own(lua_State *L, int i, const void *tag) {
  const void *const *p = lua_touserdata(L, i);
  return p && *p == tag ? (void *)(size_t)p : NULL;
}

/* Makes a metatable that is its own __index. */
void redio_new_class(lua_State *L, const char *name, const luaL_Reg *methods);

/* Puts the functions into the table on top of the stack. */
void redio_set_functions(lua_State *L, const luaL_Reg *list);

typedef struct redio_number {
  const char *name; /* NULL ends a list */
  int n;
} redio_number;

/* Puts the numbers into the table on top of the stack. */
void redio_set_numbers(lua_State *L, const redio_number *list);

#endif
