/* core/prune.h: what goes. A criterion only scores; selection, ties, masks and counting stand once, in prune*.c and select.c.
 *
 * Units (unit.h) that are scored together go in total order (score, position): ties by lower position first (order of the weights in the net, then
 * index), what is masked already always, what is zero already first of all. A layer is never emptied: its best min_units units stay, and what is
 * short by that is taken from the layers that share the target. So how much goes is known before anything is scored: exactly the planned
 * weights where all units are of one size, else what whole units bring nearest to the plan. */
#ifndef CORE_PRUNE_H
#define CORE_PRUNE_H

#include "core/criterion.h"
#include "core/regrow.h"
#include "core/rewind.h"
#include "core/unit.h"

/* A schedule: how much of the target when. one_shot, linear, cubic, exponential. */
struct schedule {
    struct plug plug;
    /* Sparsity at t = i / iterations, 0 < t <= 1, from start to target (both 0..1): at(1) = target exactly, never falls. */
    double (*at)(const void *conf, double start, double target, double t); /* start <= target */
    bool searches; /* the targets follow from how the iterations before came out (core/job_search.c); `at` is the most they may be */
};
static inline const struct schedule *schedule_of(const struct plug *p) { return (const struct schedule *)(const void *)p; }
/* Options of "adaptive", the row that searches. */
struct adaptive_conf { double initial_step, minimal_step, step_factor, learning_rate_factor; int64_t patience; };
extern const struct plug_table schedule_table;

enum { PRUNE_MAX_RULES = 64 };
/* One per-layer rule. The first whose pattern matches the layer's name counts. */
struct prune_rule {
    char layer[64];         /* name or pattern with * and ? (fnmatch); must match a prunable layer: ERR_INVALID at "/layers/<i>/layer" */
    bool ignore;            /* never pruned */
    double target_sparsity; /* of this layer alone, by the same schedule; NAN: as the others */
    double min_sparsity;    /* at least this sparse in the end, by the same schedule; NAN: no bound */
    double max_sparsity;    /* never sparser than this; NAN: no bound */
};
enum prune_measure { MEASURE_WEIGHTS, MEASURE_UNITS, MEASURE_MACS }; /* what sparsities are shares of */
struct prune_conf {
    struct plug_value criterion, unit, scope, schedule;
    int measure;
    int64_t iterations;
    double target_sparsity; /* of all that can be pruned and that no rule takes out, 0..1 */
    int64_t min_units;      /* that every layer keeps at least */
    struct plug_value rewind, regrow; /* what retraining starts from, and how weights come back in it: the job sees to both */
    struct prune_rule layers[PRUNE_MAX_RULES];
    int n_layers;
};
extern const struct param prune_params[];

struct pruner;
/* Resolves the rules against the net, and takes the zeros that are in it now for the sparsity to start from. conf and net are not kept.
 * ERR_INVALID: a rule matches nothing or says nothing, or no weight is left to prune. */
MUST enum err_code pruner_new(struct pruner **out, const struct prune_conf *conf, const struct net *net, uint64_t seed, struct err *e);
void pruner_free(struct pruner *p);
/* What a checkpoint must remember: how much of each layer was zero at the start. New reference; NULL when memory is short. */
json_t *pruner_save(const struct pruner *p);
MUST enum err_code pruner_load(struct pruner *p, const json_t *saved, struct err *e);
/* Bytes that a step needs, at most, beside the net. */
uint64_t pruner_memory(const struct prune_conf *conf, const struct net *net);
/* Sparsity planned for iteration i (1 ..), by the measure, over all that can be pruned. */
double pruner_target(const struct pruner *p, int64_t i);
/* From now on each iteration has this share of the way from the start to the target behind it, 0..1, whatever the schedule says. */
void pruner_aim(struct pruner *p, double share);
/* What pruner_step(i) will have masked, by the measure (weights, units or multiply-adds): the nearest integer of whole units to the target,
 * less what upper bounds and last units of layers keep, and no less than what lower bounds take. */
uint64_t pruner_count(const struct pruner *p, int64_t i);
/* The plan before anything is scored: [{"name", "shape", "weights", "ignored"}] of the prunable layers, and of iteration i {"iteration",
 * "target_sparsity", "sparsity", "nonzero", "layers": [{"name", "nonzero", "sparsity"}]}; null where units compete, so that the scores decide.
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
    float *const *moved; /* by weight of the net: see crit_in; NULL: none */
};
/* Scores, selects and masks: afterwards pruner_count(i) of the net is masked, and zero; net_pack is due. Masks only grow. data may be NULL where the
 * criterion needs no samples. ERR_DIVERGED: a score is not finite. ERR_STOPPED. On error no weight has changed. */
MUST enum err_code pruner_step(struct pruner *p, struct net *net, int64_t i, const struct prune_data *data, struct err *e);
/* The most that the last step had to add to the diagonal of a layer's inputs, as a share of its mean, before there was an inverse; NAN: the criterion needs
 * none. More than its option asks for where that was not enough. */
double pruner_damping(const struct pruner *p);

#endif
