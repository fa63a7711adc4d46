/* SPDX-License-Identifier: MIT */
/* The Lua values of a connection's chains. They stand in a table that the caller owns and passes to
 * the functions, `slots`: two cells for the slot of each chain, and fields.
 *
 *   errors   the errors of the first chain, when its replies come in several reads
 *   null     the value for null, after connection:null()
 *   index    coroutine -> slot, see redio_find_slot */
#ifndef REDIO_LSLOT_H
#define REDIO_LSLOT_H

#include "compat.h"
#include "connection.h"

typedef enum redio_cell {
  REDIO_CELL_WAITER = 1, /* the coroutine that waits for the chain; false: none does */
  REDIO_CELL_RESULTS     /* {results, places} with REDIO_MODE_COLLECT, else the results so far when
                            they came in several reads */
} redio_cell;

static inline int redio_cell_index(uint32_t slot, redio_cell cell) {
  return (int)slot * 2 + (int)cell;
}

/* Pushes the cell. */
static inline void redio_get_cell(lua_State *L, int slots, uint32_t slot, redio_cell cell) {
  lua_rawgeti(L, slots, redio_cell_index(slot, cell));
}

/* Pops a value and puts it into the cell. */
static inline void redio_set_cell(lua_State *L, int slots, uint32_t slot, redio_cell cell) {
  lua_rawseti(L, slots, redio_cell_index(slot, cell));
}

static inline void redio_clear_cell(lua_State *L, int slots, uint32_t slot, redio_cell cell) {
  lua_pushboolean(L, 0);
  redio_set_cell(L, slots, slot, cell);
}

/* Returns the slot of the chain for which the waiter at index `waiter` waits, or REDIO_NO_CHAIN.
 * Each chain is looked at once, however many searches there are. */
uint32_t redio_find_slot(lua_State *L, redio_connection *c, int slots, int waiter);

/* Makes the metatable of the index. */
void redio_open_slots(lua_State *L);

#endif
