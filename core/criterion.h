/* core/criterion.h: what scores weights and neurons.
 *
 * A criterion is one file, core/crit_<name>.c, and one row in criteria.c. It only says what each number is worth, larger = keep; which go, ties,
 * masks and counting stand once, in prune.c. It works on a copy of the net that runs dense, so it cannot change what it scores. */
#ifndef CORE_CRITERION_H
#define CORE_CRITERION_H

#include "core/data.h"
#include "core/group.h"
#include "core/loss.h"
#include "core/unit.h"

/* For criteria that look at one kernel at a time. */
struct crit_in {
    const struct weight *w;   /* a prunable weight: shape [out][in] */
    uint64_t seed;
    uint32_t stream;          /* of the weight, for random numbers */
    uint64_t step;            /* iteration */
    const void *conf;
    const float *moved;       /* minus the sum of w dL/dw over the steps of training so far, of each number; NULL: nothing was trained */
};
/* For criteria that look at the whole net, and at samples. */
struct crit_net {
    struct net *net;                   /* a copy, dense, zeros in place of masked numbers; the criterion may write to it */
    const struct data_view *train;     /* samples to look at: a criterion draws as many as its options say, by seed and step */
    const struct loss_binding *loss;   /* its node number holds in the copy too */
    struct team *team;                 /* may be NULL */
    uint64_t seed, step;               /* step: iteration */
    const void *conf;
    bool (*stop)(void *user);          /* NULL: never; asked between batches: ERR_STOPPED */
    void *user;
    struct unit_runs runs;             /* what solve must leave */
    double *damping;                   /* may be NULL; NAN at first: becomes the most that a diagonal was damped by, as a share of its mean */
};
struct criterion {
    struct plug plug;
    bool samples; /* needs train and loss */
    bool moved;   /* wants `moved` of crit_in */
    /* May be NULL. What can be said when the job is posted: whether it can do kernel w. ERR_UNSUPPORTED and others; `at` is a pointer into its options. */
    enum err_code (*check)(const void *conf, const struct net *net, int w, struct err *e);
    /* For units of weights, at most one of the two; neither: the row is for neurons only. Writes finite scores, larger = keep; those of numbers that are zero already do not matter. Deterministic, whatever the team. */
    void (*score)(const struct crit_in *in, float *score);                                            /* w->len of them; allocates nothing */
    enum err_code (*score_net)(const struct crit_net *in, float *const *score, struct err *e);        /* score[w]: zeros, of net->weight[w]; NULL: not wanted */
    /* For unit neuron; NULL: the row is not for neurons. score[b]: one finite number per neuron of bundle b, larger = keep; NULL: not wanted, as it should be for
     * fixed bundles. Also of neurons whose numbers are all zero: the caller knows them. Deterministic, whatever the team. */
    enum err_code (*score_neurons)(const struct crit_net *in, const struct groups *g, float *const *score, struct err *e);
    /* May be NULL. Masks exactly n_masked numbers of kernel w, those that are zero already among them as far as in->runs lets them go, and changes the others so that the outputs of
     * the layer stay near what they were: writes mask and x of the copy, and the other weights of its node. Called kernel by kernel in the order
     * of the net, so that the later ones see what the earlier ones have become; score_net, which then leaves the copy as it is, says how many go
     * where kernels compete. */
    enum err_code (*solve)(const struct crit_net *in, int w, uint64_t n_masked, struct err *e);
    uint64_t (*memory)(const struct net *net, const void *conf); /* bytes that this needs, the copy counted; NULL: none but the copy */
};
extern const struct plug_table criterion_table;
static inline const struct criterion *criterion_of(const struct plug *p) { return (const struct criterion *)(const void *)p; }
static inline bool criterion_scores_weights(const struct criterion *c) { return c->score || c->score_net; }
static inline bool criterion_scores_neurons(const struct criterion *c) { return c->score_neurons; }

#endif
