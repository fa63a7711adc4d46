/* SPDX-License-Identifier: MIT */
/* The userdata command and pipeline. */
#ifndef REDIO_LPIPELINE_H
#define REDIO_LPIPELINE_H

#include "lbind.h"
#include "pipeline.h"

extern const char redio_command_tag;
extern const char redio_pipeline_tag;

/* Each returns the userdata at index i, or raises. */
static inline redio_command *redio_check_command(lua_State *L, int i) {
  return redio_check(L, i, &redio_command_tag, sizeof(redio_command), "redio.command");
}
static inline redio_pipeline *redio_check_pipeline(lua_State *L, int i) {
  return redio_check(L, i, &redio_pipeline_tag, sizeof(redio_pipeline), "redio.pipeline");
}

/* Pushes the name of the command with that id. */
void redio_push_command_name(lua_State *L, uint16_t id);

/* Pushes an empty pipeline. */
redio_pipeline *redio_new_pipeline(lua_State *L);

/* Makes the class, and puts the functions into the table on top of the stack. */
void redio_open_pipeline(lua_State *L);

#endif
