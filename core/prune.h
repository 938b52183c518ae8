/* core/prune.h: which weights go. A criterion only scores; selection, ties, masks and counting stand once, in prune.c.
 *
 * Selection is by total order (score, position): exactly k weights go, ties by lower position first (order of the weights in the net, then
 * index), weights that are zero already (masked ones are) first of all. A layer is never emptied: its largest score stays, and what is
 * short by that is taken from the layers that share the target. So the number of weights that go is known before anything is scored. */
#ifndef CORE_PRUNE_H
#define CORE_PRUNE_H

#include "core/criterion.h"
#include "core/rewind.h"

/* A schedule: how much of the target when. one_shot, linear, cubic, exponential. */
struct schedule {
    struct plug plug;
    /* Sparsity at t = i / iterations, 0 < t <= 1, from start to target (both 0..1): at(1) = target exactly, never falls. */
    double (*at)(const void *conf, double start, double target, double t); /* start <= target */
    bool searches; /* the targets follow from how the iterations before came out (core/job_search.c); `at` is the most they may be */
};
/* Options of "adaptive", the row that searches. */
struct adaptive_conf { double initial_step, minimal_step, step_factor, learning_rate_factor; int64_t patience; };
extern const struct plug_table schedule_table;

enum { PRUNE_MAX_RULES = 64 };
/* One per-layer rule. The first whose pattern matches the layer's name counts. */
struct prune_rule {
    char layer[64];         /* name or pattern with * and ? (fnmatch); must match a prunable layer: ERR_INVALID at "/layers/<i>/layer" */
    bool ignore;            /* never pruned */
    double target_sparsity; /* of this layer alone, by the same schedule; NAN: as the others */
    double max_sparsity;    /* never sparser than this; NAN: no bound */
};
struct prune_conf {
    struct plug_value criterion;
    int unit;  /* "weight" */
    int scope; /* "global|layer" */
    struct plug_value schedule;
    int64_t iterations;
    double target_sparsity; /* of all prunable weights that no rule takes out, 0..1 */
    struct plug_value rewind; /* what retraining starts from; for the job */
    struct prune_rule layers[PRUNE_MAX_RULES];
    int n_layers;
};
extern const struct param prune_params[];

struct pruner;
/* Resolves the rules against the net, and takes the zeros that are in it now for the sparsity to start from. conf and net are not kept.
 * ERR_INVALID: a rule matches nothing or says nothing, or no weight is left to prune. */
MUST enum err_code pruner_new(struct pruner **out, const struct prune_conf *conf, const struct net *net, uint64_t seed, struct err *e);
void pruner_free(struct pruner *p);
/* What a checkpoint must remember: the zeros of each layer at the start. New reference; NULL when memory is short. */
json_t *pruner_save(const struct pruner *p);
MUST enum err_code pruner_load(struct pruner *p, const json_t *saved, struct err *e);
/* Bytes that a step needs, at most, beside the net. */
uint64_t pruner_memory(const struct prune_conf *conf, const struct net *net);
/* Sparsity planned for iteration i (1 ..), over all prunable weights of the net. */
double pruner_target(const struct pruner *p, int64_t i);
/* From now on each iteration has this share of the way from the start to the target behind it, 0..1, whatever the schedule says. */
void pruner_aim(struct pruner *p, double share);
/* Weights that pruner_step(i) will have masked: the nearest integer to the target, less what bounds and last weights of layers keep. */
uint64_t pruner_count(const struct pruner *p, int64_t i);
/* The plan before anything is scored: [{"name", "shape", "weights", "ignored"}] of the prunable layers, and of iteration i {"iteration",
 * "target_sparsity", "sparsity", "nonzero", "layers": [{"name", "nonzero", "sparsity"}]}; null for layers whose weights compete with those of others.
 * New references; NULL when memory is short. */
json_t *pruner_describe_layers(const struct pruner *p, const struct net *net);
json_t *pruner_plan(const struct pruner *p, const struct net *net, int64_t i);
/* What criteria may look at; NULL train: nothing but the weights. */
struct prune_data {
    const struct data_view *train;
    const struct loss_binding *loss;
    struct team *team;
    bool (*stop)(void *user);
    void *user;
};
/* Scores, selects and masks: afterwards exactly pruner_count(i) weights are masked, and zero; net_pack is due. data may be NULL where the criterion needs
 * no samples. ERR_DIVERGED: a score is not finite, the message names the criterion. ERR_STOPPED. On error no weight has changed. */
MUST enum err_code pruner_step(struct pruner *p, struct net *net, int64_t i, const struct prune_data *data, struct err *e);

#endif
