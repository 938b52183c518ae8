/* core/thin.h: the same architecture with fewer neurons: every layer whose neurons can go keeps the same share of them, one at least, such that the net
 * comes as near as possible to a size. What a small dense net must be compared with: see core/control.h. */
#ifndef CORE_THIN_H
#define CORE_THIN_H

#include "core/model.h"

enum thin_measure { THIN_PARAMS, THIN_MACS }; /* learned numbers; multiply-adds per sample */
/* *out: a model of its own, untrained, its weights by net_init with this seed. */
MUST enum err_code model_thin(struct model *out, const struct model *in, enum thin_measure measure, uint64_t want, uint64_t seed, struct err *e);

#endif
