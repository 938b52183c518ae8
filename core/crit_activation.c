/* core/crit_activation.c: neurons by what their readers see of them, over samples of the training set: how often it is not zero, and how large it is on
 * average. Each reader counts: in a residual stream they see different sums. */
#include "core/crit_neuron.h"
#include "core/mem.h"
#include "core/probe.h"

struct activation_conf {
    int64_t samples, batch_size;
    int normalize;
};

/* Sums over samples, readers and the numbers of a neuron: of what is not zero, and of its size. */
struct seen { double nonzero, size, n; };
struct activity {
    const struct net *net;
    const struct groups *groups;
    float *const *score;    /* whose bundles are wanted */
    struct seen **seen;     /* per bundle and neuron */
};

static void see(struct seen *s, const float *x, size_t n)
{
    double nonzero = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        nonzero += x[i] != 0;
        size += fabs((double)x[i]);
    }
    s->nonzero += nonzero;
    s->size += size;
    s->n += (double)n;
}

static enum err_code take_batch(void *user, const struct probe_batch *batch, struct err *e)
{
    const struct activity *a = user;

    (void)e;
    for (int b = 0; b < a->groups->n; b++)
        for (const struct group_member *m = a->groups->bundle[b].member; m < a->groups->bundle[b].member + a->groups->bundle[b].n_members; m++)
            for (int j = 0; j < a->groups->bundle[b].n && a->score[b] && m->role == GROUP_READS; j++) {
                struct group_value v = group_value(a->net, m, j);

                see(&a->seen[b][j], exec_value(batch->exec, v.node) + v.first * (size_t)batch->n, v.len * (size_t)batch->n);
            }
    return ERR_OK;
}

static void activity_clear(struct activity *a)
{
    for (int b = 0; b < a->groups->n && a->seen; b++)
        mem_free(a->seen[b]);
    mem_free(a->seen);
}

static enum err_code look(struct activity *a, const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    const struct activation_conf *conf = in->conf;
    struct probe_conf probe = { .samples = conf->samples, .batch_size = conf->batch_size };
    bool ok;

    *a = (struct activity){ in->net, g, out, mem_zalloc((size_t)g->n, sizeof *a->seen) };
    ok = a->seen != NULL;
    for (int b = 0; b < g->n && ok; b++) {
        a->seen[b] = mem_zalloc((size_t)g->bundle[b].n, sizeof *a->seen[b]);
        ok = a->seen[b] != NULL;
    }
    return ok ? probe_run(in, &probe, take_batch, a, e) : err_set(e, ERR_NOMEM, "out of memory");
}

/* The share of what is not zero, as a count: many tie, so the size decides among equals. */
static enum err_code apoz_score(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    struct activity a;
    enum err_code rc = look(&a, in, g, out, e);

    for (int b = 0; b < g->n && rc == ERR_OK; b++)
        for (int j = 0; j < g->bundle[b].n && out[b]; j++) {
            const struct seen *s = &a.seen[b][j];
            double size = s->n > 0 ? s->size / s->n : 0;

            out[b][j] = s->n > 0 ? (float)((s->nonzero + 0.5 * size / (1 + size)) / s->n) : 0;
        }
    activity_clear(&a);
    return rc;
}

static enum err_code mean_activation_score(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    struct activity a;
    double *mean = mem_alloc((size_t)neuron_most(g) * sizeof *mean);
    enum err_code rc = look(&a, in, g, out, e);

    if (rc == ERR_OK && !mean)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    for (int b = 0; b < g->n && rc == ERR_OK; b++) {
        for (int j = 0; j < g->bundle[b].n; j++)
            mean[j] = a.seen[b][j].n > 0 ? a.seen[b][j].size / a.seen[b][j].n : 0;
        if (out[b])
            neuron_scores(out[b], mean, g->bundle[b].n, ((const struct activation_conf *)in->conf)->normalize);
    }
    mem_free(mean);
    activity_clear(&a);
    return rc;
}

static uint64_t activation_memory(const struct net *net, const void *conf)
{
    const struct activation_conf *c = conf;

    return probe_memory(net, c->samples, c->batch_size, PROBE_VALUES);
}

static const struct param apoz_params[] = { PROBE_FIELDS(struct activation_conf, 1024, 128), FIELD_END };
static const struct param mean_params[] = {
    PROBE_FIELDS(struct activation_conf, 1024, 128), NEURON_SCALE_FIELD(struct activation_conf), FIELD_END
};

const struct criterion crit_apoz = {
    .plug = { "apoz", "Keeps neurons that are seldom zero: 1 - average percentage of zeros (Hu et al. 2016); ties by mean size.", apoz_params,
              sizeof(struct activation_conf) },
    .samples = true, .score_neurons = apoz_score, .memory = activation_memory
};
const struct criterion crit_mean_activation = {
    .plug = { "mean_activation", "Keeps neurons whose activations are large on average: mean |a| (Molchanov et al. 2017).", mean_params,
              sizeof(struct activation_conf) },
    .samples = true, .score_neurons = mean_activation_score, .memory = activation_memory
};
