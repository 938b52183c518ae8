/* core/control.h: controls: what the pruned model has to be better than, as options of a job: the table stands in job_control.c.
 *
 * They run after the main cycle, each to the end, and change nothing of it. What they are worth is reported beside the result, on validation and test. */
#ifndef CORE_CONTROL_H
#define CORE_CONTROL_H

#include "core/params.h"

/* Each a row of the table, of the same name. */
struct control_random { bool on; };
struct control_small_dense { bool on; int match; /* enum thin_measure */ };
struct controls_conf {
    struct control_random random;
    struct control_small_dense small_dense;
};
extern const struct param controls_params[];
extern const struct plug_table control_table; /* in order */

#endif
