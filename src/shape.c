/* SPDX-License-Identifier: MIT */
/* Specs: client/every_command, unit/command_table */
/* The named shapes. The differences between RESP2 and RESP3 were found by sending every command to
 * a server under both protocols. For commands newer than that server the reply schemas of its
 * documentation are the source. */
#include "shape.h"

#include <string.h>

#define OF(...)                                                                                    \
  sizeof((const redio_shape *const[]){__VA_ARGS__}) / sizeof(const redio_shape *),                 \
      (const redio_shape *const[]) {                                                               \
    __VA_ARGS__                                                                                    \
  }
#define OF_NOTHING 0, NULL

/* Single values. */
static const redio_shape value = {"value", REDIO_SHAPE_VALUE, OF_NOTHING, NULL};
static const redio_shape name = {"name", REDIO_SHAPE_NAME, OF_NOTHING, NULL};
static const redio_shape nothing = {"nothing", REDIO_SHAPE_NOTHING, OF_NOTHING, NULL};
static const redio_shape truth = {"true", REDIO_SHAPE_TRUE, OF_NOTHING, NULL};
static const redio_shape boolean = {"boolean", REDIO_SHAPE_BOOLEAN, OF_NOTHING, NULL};
static const redio_shape number = {"double", REDIO_SHAPE_DOUBLE, OF_NOTHING, NULL};
static const redio_shape seconds = {"seconds", REDIO_SHAPE_SECONDS, OF_NOTHING, NULL};
static const redio_shape queued = {"queued", REDIO_SHAPE_QUEUED, OF_NOTHING, NULL};
static const redio_shape exec = {"exec", REDIO_SHAPE_EXEC, OF_NOTHING, NULL};

/* Lists and tables of single values. */
static const redio_shape names = {"names", REDIO_SHAPE_LIST, OF(&name), NULL};
static const redio_shape booleans = {"booleans", REDIO_SHAPE_LIST, OF(&boolean), NULL};
static const redio_shape numbers = {"doubles", REDIO_SHAPE_LIST, OF(&number), NULL};
static const redio_shape map = {"map", REDIO_SHAPE_MAP, OF(&value), NULL};    /* HGETALL */
static const redio_shape facts = {"facts", REDIO_SHAPE_MAP, OF(&name), NULL}; /* CONFIG GET */
static const redio_shape records = {"records", REDIO_SHAPE_LIST, OF(&facts), NULL};
static const redio_shape pairs = {"pairs", REDIO_SHAPE_PAIRS, OF(&name, &value), NULL};
static const redio_shape fields = {NULL, REDIO_SHAPE_CYCLE, OF(&name, &value), NULL};
static const redio_shape found = {"found", REDIO_SHAPE_TUPLE, OF(&name, &value), NULL};
static const redio_shape fields_found = {"fields_found", REDIO_SHAPE_TUPLE, OF(&name, &fields),
                                         NULL}; /* HSCAN */

/* Sorted sets. */
static const redio_shape scored = {"scored", REDIO_SHAPE_PAIRS, OF(&value, &number), NULL};
static const redio_shape member = {"member", REDIO_SHAPE_CYCLE, OF(&value, &number), NULL};
static const redio_shape member_of = {"member_of", REDIO_SHAPE_TUPLE, OF(&name, &value, &number),
                                      NULL};
static const redio_shape members_of = {"members_of", REDIO_SHAPE_TUPLE, OF(&name, &scored), NULL};
static const redio_shape rank = {"rank", REDIO_SHAPE_TUPLE, OF(&value, &number), NULL};

/* Places. Behind the member: distance (a bulk string in RESP3 too), hash, [longitude latitude]. */
static const redio_shape places = {"places", REDIO_SHAPE_LIST, OF(&numbers), NULL};
static const redio_shape place = {NULL, REDIO_SHAPE_TUPLE, OF(&value, &numbers), NULL};
static const redio_shape places_found = {"places_found", REDIO_SHAPE_LIST, OF(&place), NULL};

/* Streams. An entry's fields stay a flat list, as in RESP3. */
static const redio_shape entry = {NULL, REDIO_SHAPE_TUPLE, OF(&name, &fields), NULL};
static const redio_shape entries = {"entries", REDIO_SHAPE_LIST, OF(&entry), NULL};
static const redio_shape streams = {"streams", REDIO_SHAPE_MAP, OF(&entries), NULL};
static const redio_shape claimed = {"claimed", REDIO_SHAPE_TUPLE, OF(&name, &entries, &name), NULL};

static const redio_shape_field group_fields[] = {{"consumers", &records}, {NULL, NULL}};
static const redio_shape group = {NULL, REDIO_SHAPE_MAP, OF(&name), group_fields};
static const redio_shape groups = {NULL, REDIO_SHAPE_LIST, OF(&group), NULL};
static const redio_shape_field stream_fields[] = {{"first-entry", &entry},
                                                  {"last-entry", &entry},
                                                  {"entries", &entries},
                                                  {"groups", &groups}, /* a number without FULL */
                                                  {NULL, NULL}};
static const redio_shape stream = {"stream", REDIO_SHAPE_MAP, OF(&name), stream_fields};

/* The server about itself. */
static const redio_shape tables = {"tables", REDIO_SHAPE_MAP, OF(&facts), NULL};

static const redio_shape_field hello_fields[] = {{"modules", &records}, {NULL, NULL}};
static const redio_shape hello = {"hello", REDIO_SHAPE_MAP, OF(&name), hello_fields};

static const redio_shape_field user_fields[] = {{"selectors", &records}, {NULL, NULL}};
static const redio_shape user = {"user", REDIO_SHAPE_MAP, OF(&name), user_fields};

static const redio_shape_field refusal_fields[] = {{"age-seconds", &number}, {NULL, NULL}};
static const redio_shape refusal = {NULL, REDIO_SHAPE_MAP, OF(&name), refusal_fields};
static const redio_shape refusals = {"refusals", REDIO_SHAPE_LIST, OF(&refusal), NULL};

static const redio_shape_field memory_fields[] = {{"peak.percentage", &number},
                                                  {"dataset.percentage", &number},
                                                  {"fragmentation", &number},
                                                  {"allocator-fragmentation.ratio", &number},
                                                  {"rss-overhead.ratio", &number},
                                                  {"allocator-rss.ratio", &number},
                                                  {NULL, NULL}};
/* Default for db.0, db.1, ...: a table each. */
static const redio_shape memory = {"memory", REDIO_SHAPE_MAP, OF(&facts), memory_fields};

static const redio_shape_field histogram_fields[] = {{"histogram_usec", &facts}, {NULL, NULL}};
static const redio_shape histogram = {NULL, REDIO_SHAPE_MAP, OF(&name), histogram_fields};
static const redio_shape histograms = {"histograms", REDIO_SHAPE_MAP, OF(&histogram), NULL};

static const redio_shape_field library_fields[] = {{"functions", &records}, {NULL, NULL}};
static const redio_shape library = {NULL, REDIO_SHAPE_MAP, OF(&name), library_fields};
static const redio_shape libraries = {"libraries", REDIO_SHAPE_LIST, OF(&library), NULL};

static const redio_shape_field running_fields[] = {
    {"running_script", &facts}, {"engines", &tables}, {NULL, NULL}};
static const redio_shape running = {"running", REDIO_SHAPE_MAP, OF(&name), running_fields};

/* COMMAND and COMMAND INFO: name arity flags first last step categories tips specs subcommands. */
static const redio_shape_field search_fields[] = {{"spec", &facts}, {NULL, NULL}};
static const redio_shape search = {NULL, REDIO_SHAPE_MAP, OF(&name), search_fields};
static const redio_shape_field key_spec_fields[] = {
    {"begin_search", &search}, {"find_keys", &search}, {NULL, NULL}};
static const redio_shape key_spec = {NULL, REDIO_SHAPE_MAP, OF(&name), key_spec_fields};
static const redio_shape key_specs = {NULL, REDIO_SHAPE_LIST, OF(&key_spec), NULL};
static const redio_shape commands; /* its subcommands are of the same kind */
static const redio_shape command = {
    NULL, REDIO_SHAPE_TUPLE,
    OF(&name, &name, &name, &name, &name, &name, &name, &name, &key_specs, &commands), NULL};
static const redio_shape commands = {"commands", REDIO_SHAPE_LIST, OF(&command), NULL};

/* COMMAND DOCS: arguments hold arguments, subcommands are documented like commands. */
static const redio_shape arguments;
static const redio_shape_field argument_fields[] = {{"arguments", &arguments}, {NULL, NULL}};
static const redio_shape argument = {NULL, REDIO_SHAPE_MAP, OF(&name), argument_fields};
static const redio_shape arguments = {NULL, REDIO_SHAPE_LIST, OF(&argument), NULL};
static const redio_shape docs;
static const redio_shape_field doc_fields[] = {
    {"arguments", &arguments}, {"subcommands", &docs}, {NULL, NULL}};
static const redio_shape doc = {NULL, REDIO_SHAPE_MAP, OF(&name), doc_fields};
static const redio_shape docs = {"docs", REDIO_SHAPE_MAP, OF(&doc), NULL};

/* CLUSTER SLOTS: from, to, then nodes of [address port id facts]. */
static const redio_shape slot_node = {NULL, REDIO_SHAPE_TUPLE, OF(&name, &name, &name, &facts),
                                      NULL};
static const redio_shape slot_range = {NULL, REDIO_SHAPE_TUPLE, OF(&name, &name, &slot_node), NULL};
static const redio_shape slots = {"slots", REDIO_SHAPE_LIST, OF(&slot_range), NULL};
static const redio_shape slot_stat = {NULL, REDIO_SHAPE_TUPLE, OF(&name, &facts), NULL};
static const redio_shape slot_stats = {"slot_stats", REDIO_SHAPE_LIST, OF(&slot_stat), NULL};
static const redio_shape_field shard_fields[] = {{"nodes", &records}, {NULL, NULL}};
static const redio_shape shard = {NULL, REDIO_SHAPE_MAP, OF(&name), shard_fields};
static const redio_shape shards = {"shards", REDIO_SHAPE_LIST, OF(&shard), NULL};

/* The first ones as in shape.h. `value` is the shape of a command without one in the table. */
const redio_shape *const redio_shapes[] = {
    &value,      &queued,  &name,     &nothing,      &truth,    &boolean,    &number,
    &seconds,    &exec,    &names,    &booleans,     &numbers,  &map,        &facts,
    &records,    &pairs,   &found,    &fields_found, &scored,   &member,     &member_of,
    &members_of, &rank,    &places,   &places_found, &entries,  &streams,    &claimed,
    &stream,     &tables,  &hello,    &user,         &refusals, &memory,     &histograms,
    &libraries,  &running, &commands, &docs,         &slots,    &slot_stats, &shards,
    NULL};

int redio_shape_find(const char *wanted) {
  int i;
  for (i = 0; redio_shapes[i]; i++)
    if (!strcmp(redio_shapes[i]->name, wanted))
      return i;
  return -1;
}
