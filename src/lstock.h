/* SPDX-License-Identifier: MIT */
/* The stock of unused pipelines: a handle borrows one, so making a handle for one command costs one
 * small table. */
#ifndef REDIO_LSTOCK_H
#define REDIO_LSTOCK_H

#include "lpipeline.h"

enum { REDIO_MOST_IN_STOCK = 1024 };

typedef struct redio_stock {
  int count;
  int cancelling; /* tasks that are to be cancelled when they next wait: see lhandle.c */
  redio_pipeline *pipelines[REDIO_MOST_IN_STOCK]; /* the list */
} redio_stock;

/* Upvalues of a function that lends or takes back pipelines. The count is not in the list, where
 * each change would be two calls. */
enum {
  REDIO_UPVALUE_STOCK = 1, /* redio_stock */
  REDIO_UPVALUE_LIST,      /* the list of pipelines, which keeps them alive */
  REDIO_UPVALUE_OWN        /* of the function itself */
};

/* Puts functions with these upvalues into the table on top of the stack. */
void redio_set_recycling(lua_State *L, const luaL_Reg *list);

/* Makes the stock, and puts the functions into the table on top of the stack. To be called before
 * any redio_set_recycling. */
void redio_open_stock(lua_State *L);

/* The others are for functions with these upvalues only. */

static inline redio_stock *redio_stock_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(REDIO_UPVALUE_STOCK));
}

/* Pushes an empty pipeline, out of the stock or new. */
redio_pipeline *redio_lend(lua_State *L);

/* Pops the pipeline and puts it into the stock. May raise when memory is out. `redio_blank` must
 * follow before the next loan. */
void redio_restock(lua_State *L, redio_stock *stock, redio_pipeline *p);

/* Makes the pipeline empty and as new. Never raises. */
void redio_blank(lua_State *L, redio_pipeline *p);

#endif
