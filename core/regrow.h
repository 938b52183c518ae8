/* core/regrow.h: weights that come back while the net is retrained, each way a row of regrows.c. Every `interval` steps each masked kernel drops its
 * smallest weights and grows as many others, so that its number of weights stays. */
#ifndef CORE_REGROW_H
#define CORE_REGROW_H

#include "core/params.h"

struct regrow_conf {
    int64_t interval; /* steps */
    double until;     /* share of the phase's steps */
    double alpha;     /* share of the weights that is exchanged at the beginning; falls with half a cosine */
};
struct regrow {
    struct plug plug;
    bool exchanges;   /* false: nothing is done */
    bool by_gradient; /* what grows has the largest gradients; else it is drawn at random */
};
extern const struct plug_table regrow_table;
static inline const struct regrow *regrow_of(const struct plug_value *v) { return (const struct regrow *)(const void *)v->plug; }
/* Whether masks change after step `done` (1 ..) of `all`; the last step always trains what has grown. */
bool regrow_due(const struct regrow_conf *c, int64_t done, int64_t all);
/* How many of n_kept weights are exchanged then. */
uint64_t regrow_count(const struct regrow_conf *c, int64_t done, int64_t all, uint64_t n_kept);

#endif
