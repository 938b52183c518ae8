/* core/crit_batch_norm.c: the scale that batch norm learned for a neuron (Liu et al. 2017, network slimming). Neurons without one cannot be
 * compared: they score the mean of those that have one, 1 where none has. */
#include <string.h>

#include "core/crit_neuron.h"

/* Mean of |gamma| over the members that have one; negative: none has. */
static double scale_of(const struct net *net, const struct bundle *b, int j)
{
    double sum = 0;
    int n = 0;

    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++)
        for (int r = 0; r < m->run && strcmp(net->weight[m->w].info.name, "gamma") == 0; r++, n++)
            sum += fabs((double)net->weight[m->w].x[m->offset + j * m->run + r]);
    return n > 0 ? sum / n : -1;
}

static double mean_scale(const struct net *net, const struct groups *g)
{
    double sum = 0;
    int n = 0;

    for (const struct bundle *b = g->bundle; b < g->bundle + g->n; b++)
        for (int j = 0; j < b->n && !b->fixed; j++) {
            double s = scale_of(net, b, j);

            sum += s >= 0 ? s : 0;
            n += s >= 0;
        }
    return n > 0 ? sum / n : 1;
}

static enum err_code batch_norm_score(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    double mean = mean_scale(in->net, g);

    (void)e;
    for (int b = 0; b < g->n; b++)
        for (int j = 0; j < g->bundle[b].n && out[b]; j++) {
            double s = scale_of(in->net, &g->bundle[b], j);

            out[b][j] = (float)(s >= 0 ? s : mean);
        }
    return ERR_OK;
}

const struct criterion crit_batch_norm_scale = {
    .plug = { "batch_norm_scale", "Keeps neurons that batch normalisation scales up: |gamma| (Liu et al. 2017).", NULL, 0 },
    .score_neurons = batch_norm_score
};
