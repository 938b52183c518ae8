/* core/crit_taylor_gate.c: what the loss would change, to first order, if a neuron were switched off for all its readers: (sum_n a dL/da)^2, a gate's
 * gradient, its square averaged over mini-batches (Molchanov et al. 2019). Since a reader's weight gradient is sum_n dL/dz a, the gate's is the sum of
 * w dL/dw over the weights that read the neuron: exactly what the readers see, also in a residual stream that they share with others. */
#include "core/crit_neuron.h"
#include "core/mem.h"
#include "core/probe.h"

struct gate_conf { int64_t samples, batch_size; };
static const struct param gate_params[] = { PROBE_FIELDS(struct gate_conf, 1024, 128), FIELD_END };

struct gates {
    const struct net *net;
    const struct groups *groups;
    float *const *score;
    double **sum; /* per bundle and neuron: of squares of mini-batches, weighed by their samples */
};

static double gate_gradient(const struct gates *t, struct exec *x, const struct bundle *b, int j)
{
    double sum = 0;

    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++) {
        const struct weight *w = &t->net->weight[m->w];
        const float *dw = exec_dw(x, m->w);
        struct group_slice s = group_slice(w, m, j);

        for (int k = 0; k < s.n && m->role == GROUP_READS; k++)
            for (size_t i = 0; i < s.len; i++) {
                size_t at = s.first + (size_t)k * s.stride + i;

                sum += (double)w->x[at] * (double)dw[at];
            }
    }
    return sum;
}

static enum err_code take_batch(void *user, const struct probe_batch *batch, struct err *e)
{
    const struct gates *t = user;

    (void)e;
    for (int b = 0; b < t->groups->n; b++)
        for (int j = 0; j < t->groups->bundle[b].n && t->score[b]; j++) {
            double g = gate_gradient(t, batch->exec, &t->groups->bundle[b], j) / batch->n;

            t->sum[b][j] += g * g * batch->n / batch->samples;
        }
    return ERR_OK;
}

static enum err_code gate_score(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    const struct gate_conf *conf = in->conf;
    struct probe_conf probe = { .samples = conf->samples, .batch_size = conf->batch_size, .look = PROBE_WEIGHTS };
    struct gates t = { in->net, g, out, mem_zalloc((size_t)g->n, sizeof *t.sum) };
    bool ok = t.sum != NULL;
    enum err_code rc;

    for (int b = 0; b < g->n && ok; b++) {
        t.sum[b] = mem_zalloc((size_t)g->bundle[b].n, sizeof *t.sum[b]);
        ok = t.sum[b] != NULL;
    }
    rc = ok ? probe_run(in, &probe, take_batch, &t, e) : err_set(e, ERR_NOMEM, "out of memory");
    for (int b = 0; b < g->n && rc == ERR_OK; b++)
        for (int j = 0; j < g->bundle[b].n && out[b]; j++) /* the root: squares would leave a float's range */
            out[b][j] = (float)fmin(sqrt(t.sum[b][j]), (double)FLT_MAX);
    for (int b = 0; b < g->n && t.sum; b++)
        mem_free(t.sum[b]);
    mem_free(t.sum);
    return rc;
}

static uint64_t gate_memory(const struct net *net, const void *conf)
{
    const struct gate_conf *c = conf;

    return probe_memory(net, c->samples, c->batch_size, PROBE_WEIGHTS);
}

const struct criterion crit_taylor_gate = {
    .plug = { "taylor_gate", "Keeps neurons whose removal would change the loss most, to first order: root of the mean over mini-batches of (sum of a dL/da)^2 "
              "(Molchanov et al. 2019).", gate_params, sizeof(struct gate_conf) },
    .samples = true, .score_neurons = gate_score, .memory = gate_memory
};
