/* core/optim.h: optimizers and learning-rate schedules, each a row of a table. An optimizer updates any range of numbers by itself
 * (elementwise), so that the update may follow its gradient while both are in the cache, in any order, by any thread. */
#ifndef CORE_OPTIM_H
#define CORE_OPTIM_H

#include "core/params.h"

enum { OPTIM_MAX_SLOTS = 2 };

struct optim_call {
    size_t n;
    float *w;
    const float *g;                 /* clipped and masked already */
    float *slot[OPTIM_MAX_SLOTS];   /* the optimizer's memory, zero at first */
    double lr;                      /* of this step */
    int64_t t;                      /* steps with this optimizer state, this one included: 1, 2, ... */
    double decay;                   /* weight decay of these numbers: the optimizer says what it means by it */
    const void *conf;
};
struct optimizer {
    struct plug plug; /* every optimizer's options include learning_rate and weight_decay, the first two REALs of its conf */
    int n_slots;
    bool full_batch;  /* gradient descent: one step per epoch on the whole training set */
    /* Where g, w and all slots are 0, w stays exactly 0. */
    void (*update)(const struct optim_call *c);
};
extern const struct plug_table optimizer_table; /* gradient_descent, sgd (momentum, nesterov), rmsprop, adam, adamw */

struct optim_conf_head { double learning_rate, weight_decay; };

/* Learning-rate schedules: constant, step, cosine; warm-up (linear) is an option of each. */
struct lr_schedule {
    struct plug plug;
    /* Share of the base rate at step t of n (0 <= t < n). steps_per_epoch lets options count epochs. */
    double (*at)(const void *conf, int64_t t, int64_t n, int64_t steps_per_epoch);
};
extern const struct plug_table lr_schedule_table;

#endif
