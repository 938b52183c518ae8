/* core/crit_snip.c: how much the loss would feel each weight (SNIP: Lee, Ajanthan & Torr 2019): |w g| as a share of all, g = dL/dw of all samples;
 * the absolute value comes after their sum. Meant for a net before training: near convergence the sum goes to 0, its terms do not. */
#include "core/probe.h"

struct snip_conf {
    int64_t samples, batch_size;
    bool accumulate;
};
static const struct param snip_params[] = {
    PROBE_FIELDS(struct snip_conf, 2048, 128),
    FIELD_BOOL(struct snip_conf, accumulate, 0, "Sums |w g| of the mini-batches, instead of |w g| of the summed gradient: near convergence."), FIELD_END
};

struct snip { const struct net *net; float *const *score; };

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    const struct snip *s = user;

    (void)e;
    for (int i = 0; i < s->net->n_weights; i++) {
        const struct weight *w = &s->net->weight[i];
        const float *g = exec_dw(b->exec, i);

        for (size_t k = 0; s->score[i] && k < w->len; k++)
            s->score[i][k] += fabsf(w->x[k] * g[k]);
    }
    return ERR_OK;
}

static enum err_code snip_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct snip_conf *c = in->conf;
    struct probe_conf probe = { .samples = c->samples, .batch_size = c->batch_size, .look = PROBE_WEIGHTS };
    struct snip s = { in->net, score };
    enum err_code rc = c->accumulate ? probe_run(in, &probe, add_batch, &s, e) : probe_gradient(in, &probe, score, e);

    for (int i = 0; i < in->net->n_weights && rc == ERR_OK && !c->accumulate; i++)
        for (size_t k = 0; score[i] && k < in->net->weight[i].len; k++)
            score[i][k] = fabsf(in->net->weight[i].x[k] * score[i][k]);
    if (rc == ERR_OK)
        probe_share(in->net, score);
    return rc;
}

static uint64_t snip_memory(const struct net *net, const void *conf)
{
    const struct snip_conf *c = conf;

    return probe_memory(net, c->samples, c->batch_size, PROBE_WEIGHTS);
}

const struct criterion crit_snip = {
    .plug = { "snip", "Keeps the weights that the loss feels most: |w g| / sum |w g|, best before training (SNIP: Lee, Ajanthan & Torr 2019).", snip_params,
              sizeof(struct snip_conf) },
    .samples = true, .score_net = snip_score, .memory = snip_memory
};
