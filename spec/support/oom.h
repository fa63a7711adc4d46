/* SPDX-License-Identifier: MIT */
/* The allocator of oom.c, which runs out of memory, and the module that it runs: each program is
 * linked with one of oom_core.c and oom_tls.c. */
#ifndef OOM_H
#define OOM_H

#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>

/* These fail when their time has come. */
void *oom_malloc(size_t n);
void *oom_realloc(void *p, size_t n);
void oom_free(void *p);

/* Allocations succeed until the result is given to oom_resume. */
long oom_pause(void);
void oom_resume(long until);

/* Of the program: modules to be opened, each opened once without memory, too; and what else is to
 * be done before anything. */
extern const luaL_Reg oom_modules[];
void oom_begin(void);

/* Blocks that live and may well do so, such as a library's own; as long as running the same once
 * more does not make more of them. */
long oom_kept(void);

#endif
