/* core/crit_fpgm.c: neurons near the geometric median of their layer can be replaced by the others: smallest sum of distances goes (He et al. 2019).
 * Distances are summed pair by pair in double: the way over the Gram matrix cancels. */
#include "core/crit_neuron.h"
#include "core/mem.h"
#include "core/simd.h"

struct fpgm_conf { int normalize; };
static const struct param fpgm_params[] = { NEURON_SCALE_FIELD(struct fpgm_conf), FIELD_END };

struct distances {
    const struct net *net;
    const struct bundle *b;
    double *sum; /* per neuron */
};

SIMD static double square_distance(const float *a, const float *b, size_t n)
{
    double lane[SIMD_LANES] = { 0 };
    size_t i = 0;

    for (; i + SIMD_LANES <= n; i += SIMD_LANES)
        for (size_t j = 0; j < SIMD_LANES; j++)
            lane[j] += ((double)a[i + j] - (double)b[i + j]) * ((double)a[i + j] - (double)b[i + j]);
    for (; i < n; i++)
        lane[i % SIMD_LANES] += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return simd_lanes(lane);
}

/* Rows of kernels lie in one piece. */
static double distance(const struct distances *d, int j, int k)
{
    double sum = 0;

    for (const struct group_member *m = d->b->member; m < d->b->member + d->b->n_members; m++) {
        const struct weight *w = &d->net->weight[m->w];
        struct group_slice a = group_slice(w, m, j), b = group_slice(w, m, k);

        if (m->role == GROUP_MAKES)
            sum += square_distance(w->x + a.first, w->x + b.first, a.len);
    }
    return sqrt(sum);
}

static void neuron_tile(void *ctx, int j)
{
    const struct distances *d = ctx;

    d->sum[j] = 0;
    for (int k = 0; k < d->b->n; k++)
        d->sum[j] += distance(d, j, k);
}

static enum err_code fpgm_score(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    double *sum = mem_alloc((size_t)neuron_most(g) * sizeof *sum);

    if (!sum)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (int b = 0; b < g->n; b++) {
        struct distances d = { in->net, &g->bundle[b], sum };

        if (!out[b])
            continue;
        team_for(in->team, d.b->n, neuron_tile, &d);
        neuron_scores(out[b], sum, d.b->n, ((const struct fpgm_conf *)in->conf)->normalize);
    }
    mem_free(sum);
    return ERR_OK;
}

const struct criterion crit_fpgm = {
    .plug = { "fpgm", "Keeps neurons far from the others of their layer: sum of distances of incoming weights (He et al. 2019).", fpgm_params,
              sizeof(struct fpgm_conf) },
    .score_neurons = fpgm_score
};
