/* core/regrow.h: weights that come back while the net is retrained, each way a row of regrows.c. Every `interval` steps each masked kernel drops its
 * smallest weights and takes as many others instead, so that its number of weights stays: the target of the schedule holds whatever comes back.
 *
 * Exchanging, what grows starts at 0. Splicing (dynamic network surgery), what is masked keeps its value behind the mask and is trained on, by the
 * gradient of the loss at the masked net: it comes back when it has become large. The paper's two thresholds, a = (1 - margin) t for what is kept
 * and b = (1 + margin) t for what is not, stand; but t is not mu + c sigma of the layer: it is where the layer keeps as many weights as it had.
 * Kernels run dense meanwhile. */
#ifndef CORE_REGROW_H
#define CORE_REGROW_H

#include "core/params.h"

struct regrow_conf {
    int64_t interval; /* steps */
    double until;     /* share of the phase's steps */
    double alpha;     /* exchanging: share of the weights at the beginning; falls with half a cosine */
    double gamma, power, margin; /* splicing; 0 in the others */
};
struct regrow {
    struct plug plug;
    bool exchanges;   /* false: nothing is done */
    bool by_gradient; /* what grows has the largest gradients; else it is drawn at random */
    bool splices;     /* what is masked is trained on */
};
extern const struct plug_table regrow_table;
static inline const struct regrow *regrow_of(const struct plug_value *v) { return (const struct regrow *)(const void *)v->plug; }
static inline bool regrow_changes(const struct plug_value *v) { return v && (regrow_of(v)->exchanges || regrow_of(v)->splices); }
/* How likely masks change at a step that is due. */
double regrow_chance(const struct regrow_conf *c, int64_t done);
/* Whether masks change after step `done` (1 ..) of `all`; the last step always trains what has grown. */
bool regrow_due(const struct regrow_conf *c, int64_t done, int64_t all);
/* How many of n_kept weights are exchanged then. */
uint64_t regrow_count(const struct regrow_conf *c, int64_t done, int64_t all, uint64_t n_kept);

#endif
