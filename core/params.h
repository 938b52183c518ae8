/* core/params.h: field tables, and the one shape that all plug-ins share.
 *
 * One table describes one configuration struct: it parses JSON into it, names what is wrong by JSON pointer, dumps it back
 * with its defaults, and describes itself as JSON Schema for GET /v1/capabilities and openapi.json. A configuration struct is plain
 * data of fixed size: it is copied by assignment and never freed.
 *
 * A plug-in (op, criterion, schedule, optimizer, loss, file format ...) is a const struct whose first member is a struct
 * plug, plus one row in its kind's table. In JSON it is chosen by a string, or by an object with its options:
 * "adam"  or  {"type": "adam", "learning_rate": 0.01}. */
#ifndef CORE_PARAMS_H
#define CORE_PARAMS_H

#include <jansson.h>
#include <math.h>

#include "core/err.h"

struct param;

struct plug {
    const char *name;           /* as in JSON: lower case with underscores (n:m has a colon) */
    const char *help;           /* one sentence; for a formula its source */
    const struct param *params; /* the options, ends with FIELD_END; NULL: none */
    size_t conf_size;           /* of the struct that params fills; at most PLUG_CONF_MAX */
};
struct plug_table {
    const char *kind;               /* "criterion": used in messages and as the key of capabilities */
    const struct plug *const *rows; /* each the first member of the kind's own struct; ends with NULL */
};
enum { PLUG_CONF_MAX = 160, PARAM_TEXT_MAX = 256 };
/* What a FIELD_PLUG field holds: the chosen row (NULL where an optional one is absent) and its parsed options. */
struct plug_value {
    const struct plug *plug;
    _Alignas(8) unsigned char conf[PLUG_CONF_MAX];
};

enum param_type {
    PARAM_INT,    /* int64_t */
    PARAM_REAL,   /* double; NAN where an optional one is absent */
    PARAM_BOOL,   /* bool */
    PARAM_CHOICE, /* int, index into choices */
    PARAM_TEXT,   /* char[size]; valid UTF-8 without control characters, min..size-1 bytes */
    PARAM_OBJECT, /* a struct with its own table */
    PARAM_SWITCH, /* a struct with its own table, whose first member, a bool, says whether it is on: false, true, or an object of options, which means on */
    PARAM_PLUG,   /* struct plug_value */
    PARAM_LIST    /* an array of structs of `size` bytes at offset, its length (int) at n_offset; at most max elements */
};
struct param {
    const char *name; /* JSON key; NULL ends the table */
    enum param_type type;
    size_t offset;
    double min, max, def;    /* inclusive; def when the key is absent; PARAM_REQUIRED: it must be there. TEXT: min bytes */
    const char *choices;     /* CHOICE: "global|layer"; TEXT and PLUG: the default, NULL = required, "" = none */
    const struct param *sub; /* OBJECT, SWITCH and LIST: the table of the struct or element */
    const struct plug_table *plugs; /* PLUG */
    size_t size, n_offset;
    const char *help; /* one sentence, with the unit */
};
#define PARAM_REQUIRED (-HUGE_VAL)
#define PARAM_NONE ((double)NAN) /* default of an optional REAL: absent or null gives NAN */

/* offsetof that does not compile for a field of another type */
#define FIELD_AT(st, f, type) (offsetof(st, f) + 0 * sizeof(_Generic(((st *)0)->f, type: 0)))
#define FIELD_INT(st, f, lo, hi, dflt, h) \
    { .name = #f, .type = PARAM_INT, .offset = FIELD_AT(st, f, int64_t), .min = lo, .max = hi, .def = dflt, .help = h }
#define FIELD_REAL(st, f, lo, hi, dflt, h) \
    { .name = #f, .type = PARAM_REAL, .offset = FIELD_AT(st, f, double), .min = lo, .max = hi, .def = dflt, .help = h }
#define FIELD_BOOL(st, f, dflt, h) { .name = #f, .type = PARAM_BOOL, .offset = FIELD_AT(st, f, bool), .def = dflt, .help = h }
/* dflt: index of the default, or PARAM_REQUIRED */
#define FIELD_CHOICE(st, f, list, dflt, h) \
    { .name = #f, .type = PARAM_CHOICE, .offset = FIELD_AT(st, f, int), .choices = list, .def = dflt, .help = h }
#define FIELD_TEXT(st, f, dflt, h) \
    { .name = #f, .type = PARAM_TEXT, .offset = offsetof(st, f), .size = sizeof(((st *)0)->f), .choices = dflt, .help = h }
#define FIELD_OBJECT(st, f, table, h) { .name = #f, .type = PARAM_OBJECT, .offset = offsetof(st, f), .sub = table, .help = h }
/* dflt: 1: on when absent */
#define FIELD_SWITCH(st, f, dflt, table, h) \
    { .name = #f, .type = PARAM_SWITCH, .offset = offsetof(st, f) + 0 * sizeof(char[offsetof(__typeof__(((st *)0)->f), on) == 0 ? 1 : -1]), .def = dflt, \
      .sub = table, .help = h }
#define FIELD_PLUG(st, f, kinds, dflt, h) \
    { .name = #f, .type = PARAM_PLUG, .offset = FIELD_AT(st, f, struct plug_value), .plugs = kinds, .choices = dflt, .help = h }
#define FIELD_LIST(st, f, count, table, h) \
    { .name = #f, .type = PARAM_LIST, .offset = offsetof(st, f), .n_offset = FIELD_AT(st, count, int), \
      .size = sizeof(((st *)0)->f[0]), .max = sizeof(((st *)0)->f) / sizeof(((st *)0)->f[0]), .sub = table, .help = h }
#define FIELD_END { .name = NULL }

/* obj NULL: the defaults (a required field is then an error). Unknown key, wrong type, out of range: ERR_INVALID with the
 * field's pointer. conf is written only on ERR_OK. tab NULL: obj must be empty or NULL. */
MUST enum err_code params_parse(void *conf, size_t conf_size, const struct param *tab, const json_t *obj, struct err *e);
/* One plug-in from a string or an object with "type". */
MUST enum err_code plug_parse(struct plug_value *out, const struct plug_table *t, const json_t *v, struct err *e);
/* New reference, defaults included; NULL when memory is short. Absent optional fields are null. */
json_t *params_dump(const struct param *tab, const void *conf);
json_t *plug_dump(const struct plug_value *v);
/* New reference: JSON Schema (draft 2020-12) of the table. */
json_t *params_describe(const struct param *tab);
/* New reference: [{"name", "help", "options": schema}] of all rows. */
json_t *plugs_describe(const struct plug_table *t);

const struct plug *plug_find(const struct plug_table *t, const char *name); /* NULL: no such row */
/* "magnitude, random" into buf, for messages. Returns buf. */
const char *plug_names(const struct plug_table *t, char *buf, size_t n);
/* At start: every row complete, names unique and well-formed, defaults in range and parseable. ERR_INTERNAL says which is not. */
MUST enum err_code plugs_check(const struct plug_table *t, struct err *e);
MUST enum err_code params_check(const struct param *tab, struct err *e);

#endif
