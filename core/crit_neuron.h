/* core/crit_neuron.h: what criteria of neurons share. */
#ifndef CORE_CRIT_NEURON_H
#define CORE_CRIT_NEURON_H

#include <float.h>

#include "core/criterion.h"

/* The option that makes scores of different layers comparable, of conf's field `normalize`. */
enum neuron_scale { NEURON_AS_IS, NEURON_BY_LAYER };
#define NEURON_SCALE_FIELD(st) \
    FIELD_CHOICE(st, normalize, "none|layer", NEURON_BY_LAYER, "layer: scores are divided by their mean over the layer, so that layers compare.")

/* What stays of non-negative sums: scaled, and finite. */
static inline void neuron_scores(float *score, const double *sum, int n, int scale)
{
    double mean = 0;

    for (int j = 0; j < n; j++)
        mean += sum[j] / n;
    for (int j = 0; j < n; j++) {
        double s = scale == NEURON_BY_LAYER && mean > 0 ? sum[j] / mean : sum[j];

        score[j] = s > (double)FLT_MAX ? FLT_MAX : (float)s;
    }
}

/* Sum of |w|^p of the numbers that all members of a role have of neuron j; adds how many they are to *n. */
static inline double neuron_powers(const struct net *net, const struct bundle *b, int j, enum group_role role, double p, size_t *n)
{
    double sum = 0;

    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++) {
        const struct weight *w = &net->weight[m->w];
        struct group_slice s = group_slice(w, m, j);

        for (int k = 0; k < s.n && m->role == role; k++, *n += s.len)
            for (size_t i = 0; i < s.len; i++) {
                double x = fabs((double)w->x[s.first + (size_t)k * s.stride + i]);

                sum += p == 1 ? x : p == 2 ? x * x : pow(x, p);
            }
    }
    return sum;
}

/* The most neurons that a bundle has. */
static inline int neuron_most(const struct groups *g)
{
    int n = 0;

    for (int b = 0; b < g->n; b++)
        n = g->bundle[b].n > n ? g->bundle[b].n : n;
    return n;
}

#endif
