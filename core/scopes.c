/* core/scopes.c: whether layers compete, or how a target is divided among them (see unit.h). */
#include "core/unit.h"

static double uniform(const struct shape *kernel)
{
    (void)kernel;
    return 1;
}

static double sum_by_product(const struct shape *s, int n_d)
{
    double sum = 0, product = 1;

    for (int d = 0; d < n_d; d++) {
        sum += s->d[d];
        product *= s->d[d];
    }
    return n_d > 0 ? sum / product : 1;
}

static double erdos_renyi(const struct shape *kernel) { return sum_by_product(kernel, kernel->n_d < 2 ? kernel->n_d : 2); }
static double erdos_renyi_kernel(const struct shape *kernel) { return sum_by_product(kernel, kernel->n_d); }

static const struct prune_scope global_row = { { "global", "Units compete over all layers.", NULL, 0 }, NULL };
static const struct prune_scope layer_row = { { "layer", "Each layer gets the target.", NULL, 0 }, uniform };
static const struct prune_scope er_row = {
    { "er", "Erdos-Renyi: density of a layer by (inputs + outputs) / (inputs outputs), so small layers stay denser (Mocanu et al. 2018).", NULL, 0 },
    erdos_renyi
};
static const struct prune_scope erk_row = {
    { "erk", "Erdos-Renyi kernel: as er, with a convolution's height and width in sum and product (Evci et al. 2020).", NULL, 0 }, erdos_renyi_kernel
};

static const struct plug *const rows[] = { &global_row.plug, &layer_row.plug, &er_row.plug, &erk_row.plug, NULL };
const struct plug_table scope_table = { "scope", rows };
