/* core/op_init.h: the options that say how a weight starts. Defaults differ, so each weight has a table of its own. */
#ifndef CORE_OP_INIT_H
#define CORE_OP_INIT_H

#include "core/op.h"

/* In the order of enum init_kind. */
#define INIT_CHOICES \
    "zeros|ones|constant|random_uniform|random_normal|truncated_normal|glorot_uniform|glorot_normal|he_uniform|he_normal|" \
    "lecun_uniform|lecun_normal"
#define INIT_PARAMS(name, default_kind) \
    static const struct param name[] = { \
        FIELD_CHOICE(struct init, kind, INIT_CHOICES, default_kind, "The initialiser, by Keras' name."), \
        FIELD_REAL(struct init, a, -1e30, 1e30, 0, "The constant, the low bound or the mean."), \
        FIELD_REAL(struct init, b, -1e30, 1e30, 0.05, "The high bound or the standard deviation."), \
        FIELD_END \
    }

#endif
