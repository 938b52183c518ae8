/* core/train_state.h: what a trainer is made of; for core/train*.c alone. */
#ifndef CORE_TRAIN_STATE_H
#define CORE_TRAIN_STATE_H

#include "core/train.h"

/* Numbers first .. first+n-1 of weight w. */
struct train_range { int w; size_t first, n; };

struct trainer {
    struct trainer_in in;
    const struct optimizer *optimizer;
    const struct lr_schedule *schedule;
    struct exec *exec, *eval; /* eval: NULL without early stopping */
    int batch_size;           /* samples per step */
    int chunk;                /* samples per forward and backward: batch_size, or less of a full batch */
    int64_t steps_per_epoch;
    bool fused;               /* the optimizer follows each piece of gradient at once */

    /* The state that a checkpoint holds. */
    int64_t epoch, batch;     /* steps done: epoch * steps_per_epoch + batch; batch may be steps_per_epoch: the epoch's end is still to do */
    double loss_sum;          /* over the samples of this epoch so far */
    bool finished;
    bool has_best;
    double best;              /* monitored value, finite */
    int64_t wait;             /* epochs since then */
    float **slot;             /* [n_weights * OPTIM_MAX_SLOTS], NULL where there is none */
    float **best_weight;      /* [n_weights] of the best epoch; NULL: not to be restored */
    uint32_t **place;         /* [n_weights] of sparse weights whose movement is wanted: where each kept number stands; else NULL */

    /* Scratch. */
    struct augment augment;   /* of this epoch's samples */
    int64_t order_epoch;      /* whose order it is; -1: none */
    uint32_t *order;          /* [train.n]; NULL: a full batch needs none */
    int32_t *label;           /* [chunk] */
    float *target;            /* [n_target][chunk] */
    double *sample;           /* [chunk] losses */
    uint32_t *key;            /* splicing: of the numbers of one weight; else NULL */
    int n_ranges;             /* not fused: the learned numbers in ranges of fixed length */
    struct train_range *range;
    double *partial;          /* [n_ranges] sums of squares */
    double lr;                /* of this step */
    float scale;              /* of this step's gradient */
};

/* The numbers of weight w behind its mask; NULL: masks hide nothing. */
static inline float *trainer_behind(const struct trainer *t, int w)
{
    return t->in.behind && t->in.net->weight[w].mask ? t->in.behind[w] : NULL;
}
/* core/train_state.c: makes what runs a step anew, after the net was packed. */
MUST enum err_code trainer_bind(struct trainer *t, struct err *e);
/* core/train_regrow.c: whether masks change after the step just done; and the change. */
bool trainer_regrow_due(const struct trainer *t);
MUST enum err_code trainer_regrow(struct trainer *t, const struct train_hooks *h, struct err *e);
/* Of the net's weights, at least 1. */
size_t trainer_longest(const struct net *net);
/* Bytes that an exchange needs besides the trainer. regrow NULL: none. */
uint64_t trainer_regrow_memory(const struct net *net, const struct plug_value *regrow, int chunk);

#endif
