/* core/unit.h: what falls together, and how a target is divided among layers: two tables of plug-ins. */
#ifndef CORE_UNIT_H
#define CORE_UNIT_H

#include "core/params.h"
#include "core/tensor.h"

enum unit_pool { POOL_MEAN, POOL_SUM, POOL_MAX }; /* what the scores of its weights make of a unit's */
enum unit_cost { COST_NONE, COST_WEIGHTS, COST_MACS, COST_TIME }; /* what a neuron's score is divided by */

/* Of every len consecutive columns of a row, the last ones of it too, at most keep stay. len 0: any may go. */
struct unit_runs { int len, keep; };
enum { UNIT_RUN_MAX = 64 }; /* the longest */

/* A unit: one row of units.c. A kernel is a matrix of rows (outputs) by columns (inputs, of a convolution with their places in the window);
 * a number's place in it is row * columns + column. Functions that are NULL: every weight is a unit, and any may go. */
struct prune_unit {
    struct plug plug;
    bool implied; /* the target is what `most` leaves, whatever target_sparsity says */
    bool neurons; /* units are the neurons of bundles (group.h), whatever kernels they lie in; of the functions only pool, multiple and cost count */
    size_t (*n_units)(const void *conf, size_t rows, size_t columns);
    size_t (*unit_at)(const void *conf, size_t columns, size_t row, size_t column);
    enum unit_pool (*pool)(const void *conf);
    int64_t (*multiple)(const void *conf); /* neurons: what stays of a layer is a multiple of it, or all */
    enum unit_cost (*cost)(const void *conf);
    uint64_t (*most)(const void *conf, size_t rows, size_t columns);                       /* the most weights that may go */
    void (*protect)(const void *conf, size_t rows, size_t columns, uint32_t *key);         /* those that must stay become KEY_STAYS */
    struct unit_runs (*runs)(const void *conf);                                            /* the same for criteria that choose by themselves */
};
extern const struct plug_table unit_table;
static inline const struct prune_unit *prune_unit_of(const struct plug *p) { return (const struct prune_unit *)(const void *)p; }

/* A scope: one row of scopes.c. NULL: all units compete, whatever their layer. Else layers get densities in these proportions, those that would be
 * above 1 stay dense, and units compete within their layer. */
struct prune_scope {
    struct plug plug;
    double (*density)(const struct shape *kernel);
};
extern const struct plug_table scope_table;
static inline const struct prune_scope *prune_scope_of(const struct plug *p) { return (const struct prune_scope *)(const void *)p; }

#endif
