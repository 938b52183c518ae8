/* core/prune_impl.h: what the files of the pruner share: rules become layers and groups (prune_rules.c), these a plan (prune_plan.c), the plan and
 * scores masks (prune.c).
 *
 * Layers that share a target are a group; a layer with a target of its own is a group by itself. All that is counted is counted as amounts, by
 * the measure: a unit amounts to its weights, to 1, or to its multiply-adds. Each layer has a cap, the most that may go: its bound, and always
 * min_units units less than it has. A group's amount to go is its target times its amount, to the nearest whole units, but at most the sum of its
 * caps. In global scope it is selected over the group as one array; in the others it is divided first.
 *
 * What goes never falls from one iteration to the next, per layer too, and what is masked goes first: so masks only grow. */
#ifndef CORE_PRUNE_IMPL_H
#define CORE_PRUNE_IMPL_H

#include "core/prune.h"
#include "core/select.h"

enum { IGNORED = -1 };

struct layer {               /* a kernel; unit neuron: a bundle */
    int w;                   /* its kernel, of a bundle the first that makes it: of net->weight */
    int bundle;              /* of p->bundles */
    int group;               /* or IGNORED */
    uint64_t weights;        /* of the kernel */
    size_t rows, columns;
    size_t n_units, offset;  /* place of its keys among those of all layers */
    uint32_t *size;          /* weights of each unit, where units amount to different numbers; else NULL */
    uint64_t unit_weights;   /* of a unit, where that is one number; else 0 */
    uint64_t each;           /* amount of a unit; where size is given, of a weight */
    uint64_t amount, cap;    /* of all units; of those that may go */
    uint64_t gone_at_start;  /* amount of what was zero */
    double density;          /* as the scope wants it beside the others */
    double min;              /* lower bound of its sparsity in the end; NAN: none */
};
struct group { double target; uint64_t amount, cap, quantum; }; /* quantum: amount of a unit, where that is one number in all its layers; else 1 */

/* A prunable kernel among neurons: rows (axis 0) by columns (axis 1) of so much each. */
struct kernel { uint64_t rows, columns, each, weights; };

struct pruner {
    struct prune_conf conf;
    const struct prune_unit *unit;
    const struct prune_scope *scope;
    uint64_t seed, weights, amount; /* of all layers */
    size_t n_units;                 /* of all layers */
    size_t longest, most_units;     /* weights and units of a layer, at most */
    int n_layers, n_groups;
    double aim; /* see pruner_aim; NAN: the schedule counts */
    double damping; /* see pruner_damping */
    struct layer *layer;
    struct group *group; /* [0] is the shared one; it may have no layers */
    /* unit neuron: */
    struct groups bundles;
    struct kernel *kernel; /* by weight of the net; rows 0: not prunable */
    int n_weights;
    uint64_t whole;        /* amount of all kernels, by the measure */
};

static inline const char *layer_name(const struct net *net, const struct layer *l) { return net->node[net->weight[l->w].node].layer; }
static inline uint64_t layer_quantum(const struct layer *l) { return l->size ? 1 : l->each; }
static inline uint64_t layer_amount(const struct layer *l, size_t unit) { return l->size ? l->size[unit] * l->each : l->each; }
static inline struct span layer_span(const struct layer *l, uint32_t *keys)
{
    return (struct span){ keys + l->offset, l->n_units, l->size, l->each };
}
/* Of number k of the layer's kernel. */
static inline size_t layer_unit_at(const struct pruner *p, const struct layer *l, size_t k)
{
    return p->unit->unit_at ? p->unit->unit_at(p->conf.unit.conf, l->columns, k / l->columns, k % l->columns) : k;
}

/* prune_rules.c: fills layers and groups. */
MUST enum err_code prune_layers_find(struct pruner *p, const struct net *net, struct err *e);
/* Counts a new last layer in, whose units are known: its cap, its place. */
void prune_layer_add(struct pruner *p, const struct net *net, struct layer *l);

/* prune_plan.c */
double prune_share_at(const struct pruner *p, double start, double target, int64_t i); /* on the way from start to target */
uint64_t group_count(const struct pruner *p, int g, int64_t i);
uint64_t group_least(const struct pruner *p, int g, int64_t i);
/* The least that goes of a layer at iteration i. */
uint64_t layer_least(const struct pruner *p, const struct layer *l, int64_t i);
/* A scope without competition: how k is divided among the layers of a group at iteration i, into count[layer]. */
void group_divide(const struct pruner *p, int g, int64_t i, uint64_t k, uint64_t *count);

/* prune_neuron.c: unit neuron. Weights and multiply-adds of a neuron depend on which others stay, so the shared group's target is met by search: so
 * many neurons go that what goes of the kernels comes nearest. The other groups' targets are shares of their neurons. */
static inline bool neurons_are_searched(const struct pruner *p, int g)
{
    return p->unit->neurons && g == 0 && p->conf.measure != MEASURE_UNITS;
}
/* As many of `count` neurons of a layer as may go at iteration i, so that those that stay are a multiple of what the unit asks for, or all; more than that
 * where its lower bound wants it, and where it has no room for a multiple any number. Never falls when count grows. */
uint64_t neuron_multiple_of(const struct pruner *p, const struct layer *l, int64_t i, uint64_t count);
MUST enum err_code neuron_layers_find(struct pruner *p, const struct net *net, struct err *e);
bool neuron_layer_matches(const struct pruner *p, const struct net *net, const struct layer *l, const char *pattern);
double neuron_target(const struct pruner *p, int64_t i);
/* Amount that is gone of the kernels when count[layer] neurons are (NULL: as many as at the start); of one kernel its weights. */
uint64_t neuron_gone(const struct pruner *p, const uint64_t *count);
uint64_t neuron_kernel_gone(const struct pruner *p, int w, const uint64_t *count);
/* Fills count: as many of each layer as a scope without competition takes at iteration i. */
void neuron_divide(const struct pruner *p, int64_t i, uint64_t *count);
/* The same where neurons compete, by their keys; work: as many keys as there are units. */
void neuron_compete(const struct pruner *p, int64_t i, const uint32_t *key, uint32_t *work, uint64_t *count);
/* Keys of neurons from their scores, NULL: pooled from the scores of weights (of[w], as score_net writes them); in either case by their cost.
 * gone: [layers], is filled: how many of each are gone already. */
MUST enum err_code neuron_keys(const struct pruner *p, const struct net *net, float *const *neurons, float *const *of, uint32_t *key, uint64_t *gone,
                               struct err *e);
void neuron_mask(const struct pruner *p, struct net *net, const uint32_t *key);

#endif
