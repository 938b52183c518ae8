/* core/criteria.c: the table of criteria. To add one: a file core/crit_<name>.c, and its row here. */
#include "core/criterion.h"

extern const struct criterion crit_magnitude, crit_random;

static const struct plug *const rows[] = { &crit_magnitude.plug, &crit_random.plug, NULL };
const struct plug_table criterion_table = { "criterion", rows };
