/* SPDX-License-Identifier: MIT */
/* How a chain is sent and in which form its results are wanted: bits of a number. */
#ifndef REDIO_MODE_H
#define REDIO_MODE_H

enum {
  REDIO_MODE_TEXT = 1,      /* values become text: strdecode */
  REDIO_MODE_PLACES = 2,    /* the places of values are noted, for a decoder in Lua */
  REDIO_MODE_COLLECT = 4,   /* results go into the chain's own list rather than onto the stack */
  REDIO_MODE_LIST = 8,      /* the caller gets that list: null in it is false */
  REDIO_MODE_OWN = 16,      /* the connection belongs to the caller alone */
  REDIO_MODE_HANDSHAKE = 32 /* the chain belongs to the handshake */
};

#endif
