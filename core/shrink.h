/* core/shrink.h: a smaller model that computes the same: what zeros have made dead is taken out for real, from net and architecture.
 *
 * A number of a value is known when it is the same for every sample: a unit without live inputs, and what activations, batch norm and sums make of it.
 * It is needed when the output depends on it through weights that are not zero, and it is not known where it is read: what is known goes into the
 * reader's bias. A neuron goes when no reader needs it, in all the places where it is added or concatenated: bundles (group.h) fall as a whole. The one
 * pass forward and the one backward that say so leave nothing for a second time. Every layer keeps one neuron at least; inputs of the model stay, the
 * report counts the dead ones. What stays, but is not needed, has zeros for weights. */
#ifndef CORE_SHRINK_H
#define CORE_SHRINK_H

#include "core/data.h"
#include "core/model.h"

#define SHRINK_TOLERANCE 1e-4   /* the largest difference of outputs, as a share of the largest output; none where constants were folded approximately */

/* *out: a model of its own, its weights unpacked; in is not changed. A masked weight's mask comes along. A reader without bias gets one when it needs
 * it. approximate: what is known, but no constant at the edges of an image, where a kernel sees zeros beside it, goes into biases too, as what it is in
 * the middle. samples: what both models are run on; NULL: normal random numbers. report (may be NULL): a new reference to
 *   {"layers": [{"name", "shape_before", "shape_after"}],       kernels, [out, in]
 *    "before", "after": {"weights", "nonzero", "params", "macs"},
 *    "neurons_removed", "constants_folded", "constants_approximate" (of those), "biases_added", "inputs", "dead_inputs",
 *    "max_difference", "max_relative_difference", "samples"}.
 * ERR_INTERNAL: the two differ by more than the tolerance, or not by a number. ERR_STOPPED never: it takes two evaluations of the samples. */
MUST enum err_code shrink_model(struct model *out, json_t **report, const struct model *in, bool approximate, const struct data_view *samples,
                                struct team *team, struct err *e);
/* Bytes beside the copy and the new model, at most. */
uint64_t shrink_memory(const struct net *net);

#endif
