# SPDX-License-Identifier: MIT
# `make help` lists the targets. Variables worth setting:
#   LUA=luajit                      another Lua, built beside the first in build/luajit (or BUILD=)
#   TLS=no                          without redio.tls, though OpenSSL is there
#   CI=1                            warnings are errors
#   V=1                             show the compiler's commands
#   SPEC=spec/unit/url_spec.lua     one spec file
#   SECONDS=600 SEED=7              time and seed of random checks
#   ROUNDS=5 ONLY=get,set           how often, and which workloads, for `make bench`
#   ACCEPT=1                        for `make count`: accepts the new counts
#   TLS=1                           chaos over TLS
#   PREFIX=dir DESTDIR=dir          where `make install` puts things

LUA ?= lua5.4
BUILD ?= $(if $(filter lua5.4,$(notdir $(LUA))),build,build/$(notdir $(LUA)))
PREFIX ?= /usr/local
CC ?= cc
CFLAGS ?= -O2 -g
SPEC ?= spec
export LUA BUILD CC CPPFLAGS ROUNDS ONLY ACCEPT

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow
ifneq ($(filter 1 true yes,$(CI)),)
WARNINGS += -Werror
endif
C99 = -std=c99 $(WARNINGS) -fPIC -fvisibility=hidden
Q = $(if $(V),,@)
ifeq ($(shell uname -s),Darwin)
SHARED = -bundle -undefined dynamic_lookup
else
SHARED = -shared
endif

# The files of src/ that see Lua's headers; tools/laws.lua and tools/fuzz.sh read this line.
BINDING = lbind lconnection lcore ldecoder lencode lhandle loutput lpipeline lprocess lresult lscalar lslot lstock ltls lvalue
SOURCES = $(notdir $(basename $(wildcard src/*.c)))
TLS_SOURCES = tls ltls
SHARED_SOURCES = lbind
OBJ = $(BUILD)/obj
CORE_OBJECTS = $(patsubst %,$(OBJ)/%.o,$(filter-out $(TLS_SOURCES),$(SOURCES)))
TLS_OBJECTS = $(patsubst %,$(OBJ)/%.o,$(TLS_SOURCES) $(SHARED_SOURCES))
CORE_LIBRARY = $(BUILD)/redio/core.so
TLS_LIBRARY = $(BUILD)/redio/tls.so

# The output of a script of tools/. GNU make before 4.4 passes variables of its command line to recipes, but not to
# $(shell ...). So all variables that these scripts read are named here, and spec/tree/make_spec.lua checks the list.
# The scripts run with a recipe, not before, because `make setup` may install Lua first.
TOLD = LUA LUA_INCDIR TLS OPENSSL_DIR OPENSSL_INCDIR OPENSSL_LIBDIR CC CPPFLAGS PKG_CONFIG_PATH
ask = $(shell $(foreach name,$(TOLD),$(if $($(name)),$(name)='$($(name))')) tools/$1)
LUA_CFLAGS = $(call ask,lua.sh cflags)
OPENSSL_CFLAGS = $(call ask,openssl.sh cflags 2>/dev/null)
OPENSSL_LIBS = $(call ask,openssl.sh libs 2>/dev/null)
LUA_VERSION = $(call ask,lua.sh version)
LUA_SHARE = $(DESTDIR)$(PREFIX)/share/lua/$(LUA_VERSION)
LUA_LIB = $(DESTDIR)$(PREFIX)/lib/lua/$(LUA_VERSION)

##@ Everyday

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing to build, run and test (Debian)
	@tools/setup.sh build run test
	@tools/nginx.sh fetch || echo "Its specs will be pending."

build: ## compile the C core to build/redio/core.so, and tls.so where OpenSSL is
	@tools/lua.sh check
	@tools/openssl.sh cflags >/dev/null || rm -f '$(TLS_LIBRARY)'
	@$(MAKE) --no-print-directory $(CORE_LIBRARY) \
	  $$(tools/openssl.sh cflags >/dev/null 2>&1 && echo '$(TLS_LIBRARY)')

demo: ## set up, build, start a private redis-server, run the quickstart
	@tools/setup.sh build run
	@$(MAKE) --no-print-directory build
	@tools/demo.sh examples/quickstart.lua

test: setup ## set up, build, run all specs (one: SPEC=spec/unit/url_spec.lua)
	@$(MAKE) --no-print-directory build
	@tools/test.sh $(SPEC)

lint: ## luacheck, clang-format, cppcheck, the laws of the design, the prose
	@tools/setup.sh build lint
	@$(MAKE) --no-print-directory build
	@tools/lint.sh

format: ## let clang-format lay out the C sources
	clang-format -i src/*.[ch] spec/*/*.[ch] examples/*/*.[ch] bench/*.c

annotations: setup build ## write lua/redio/meta/commands.lua anew, from the table of commands and a server's docs
	@. tools/env.sh && "$$LUA" tools/with_server.lua "$$LUA" tools/annotations.lua >'$(BUILD)/commands.lua'
	@mv -f '$(BUILD)/commands.lua' lua/redio/meta/commands.lua

install: build ## install under PREFIX (/usr/local), for a package under DESTDIR
	@tools/install.sh '$(LUA_SHARE)' '$(LUA_LIB)' '$(BUILD)'/redio/*.so

clean: ## remove what was built
	rm -rf '$(BUILD)'

##@ Checks that take longer

chaos: setup build ## random work and random faults: 60 seconds, or SECONDS= SEED= TLS=1
	@. tools/env.sh && "$$LUA" tools/chaos.lua $(or $(SECONDS),60) $(SEED) $(if $(filter-out no,$(TLS)),tls)

bench-nginx: setup build ## redio and lua-resty-redis in the same nginx, turn by turn (ROUNDS=)
	@. tools/env.sh && "$$LUA" bench/nginx.lua $(ROUNDS)

asan: setup ## the specs on modules with AddressSanitizer and UBSan, and again with a restless GC
	@tools/asan.sh $(SPEC)

valgrind: setup build ## the core's specs and some others under valgrind
	@tools/setup.sh valgrind
	@tools/valgrind.sh $(if $(filter spec,$(SPEC)),$(VALGRIND_SPECS),$(SPEC))

fuzz: build ## each target of spec/fuzz (or TARGET=) with libFuzzer: 60 seconds, or SECONDS=
	@tools/fuzz.sh $(or $(SECONDS),60) $(TARGET)

##@ How fast

bench: ## redio and its peers in turn: ROUNDS=5, ONLY=get,set (see bench/README.md)
	@tools/setup.sh build run bench
	@$(MAKE) --no-print-directory build
	@bench/bench.sh

count: ## instructions of each operation, which may not grow: ACCEPT=1 when they may
	@tools/setup.sh build run count
	@$(MAKE) --no-print-directory build
	@bench/count.sh

# Without specs that count work in a time, or measure the memory of the process.
VALGRIND_SPECS = $(patsubst %,spec/%_spec.lua,$(addprefix unit/,arguments command_table decoder_cases messages tls_socket) \
  $(addprefix client/,values error handle client transaction) $(addprefix promises/,04_fail_closed 16_tls \
  18_injection 22_callbacks 23_gc_and_exit) $(addprefix regress/,output_after_loss protocol_error_in_chain))

# ----------------------------------------------------------------------------------------------

# Every file is written beside its place and then moved there. So two makes at once, or a test during a
# make, never read a half-written file.

$(CORE_LIBRARY): $(CORE_OBJECTS)
	@mkdir -p $(@D)
	$(if $(V),,@echo '  LINK $@')
	$(Q)$(CC) $(SHARED) $(CFLAGS) $(LDFLAGS) $^ -lm -o $@.$$$$ && mv -f $@.$$$$ $@

$(TLS_LIBRARY): $(TLS_OBJECTS)
	@mkdir -p $(@D)
	$(if $(V),,@echo '  LINK $@')
	$(Q)$(CC) $(SHARED) $(CFLAGS) $(LDFLAGS) $^ $(OPENSSL_LIBS) -o $@.$$$$ && mv -f $@.$$$$ $@

$(OBJ)/%.o: src/%.c $(OBJ)/flags
	$(if $(V),,@echo '  CC   $<')
	$(Q)$(CC) $(C99) $(CFLAGS) $(CPPFLAGS) $(if $(filter $*,$(BINDING)),$(LUA_CFLAGS)) \
	  $(if $(filter $*,$(TLS_SOURCES)),$(OPENSSL_CFLAGS)) \
	  -MMD -MP -MT $@ -MF $@.$$$$.d -c $< -o $@.$$$$ && mv -f $@.$$$$.d $(@:.o=.d) && mv -f $@.$$$$ $@

# Changes with the compiler, its flags and the Lua. Then everything is compiled again.
$(OBJ)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(C99) $(CFLAGS) $(CPPFLAGS) $(LUA) $(LUA_CFLAGS) $(OPENSSL_CFLAGS)' >$@.$$$$; \
	  if cmp -s $@.$$$$ $@; then rm $@.$$$$; else mv -f $@.$$$$ $@; fi

FORCE:

-include $(wildcard $(OBJ)/*.d)

.PHONY: help setup build demo test lint format annotations install clean chaos asan valgrind fuzz bench bench-nginx count FORCE
.DELETE_ON_ERROR:
