/* core/criteria.c: the table of criteria. To add one: a file core/crit_<name>.c, and its row here. */
#include "core/criterion.h"

extern const struct criterion crit_lamp, crit_magnitude, crit_random, crit_movement, crit_snip, crit_grasp, crit_taylor, crit_obd, crit_synflow, crit_wanda, crit_sparsegpt,
                              crit_obs;
extern const struct criterion crit_incoming_norm, crit_outgoing_norm, crit_in_times_out, crit_apoz, crit_mean_activation, crit_taylor_gate, crit_fpgm,
                              crit_batch_norm_scale; /* of neurons only */

static const struct plug *const rows[] = {
    &crit_magnitude.plug, &crit_lamp.plug, &crit_random.plug, &crit_movement.plug, &crit_snip.plug, &crit_grasp.plug, &crit_taylor.plug, &crit_obd.plug, &crit_synflow.plug,
    &crit_wanda.plug, &crit_sparsegpt.plug, &crit_obs.plug,
    &crit_incoming_norm.plug, &crit_outgoing_norm.plug, &crit_in_times_out.plug, &crit_apoz.plug, &crit_mean_activation.plug, &crit_taylor_gate.plug,
    &crit_fpgm.plug, &crit_batch_norm_scale.plug, NULL
};
const struct plug_table criterion_table = { "criterion", rows };
