/* core/crit_taylor.c: what removing a weight changes in the loss, to first order (Molchanov et al. 2019): (w g)^2, g = dL/dw of the mean over a
 * mini-batch; the squares are averaged over the mini-batches, not the gradients: near convergence those add up to nothing. Kept in double and
 * divided by their sum: squares of small gradients leave the range of a float. */
#include "core/mem.h"
#include "core/probe.h"

struct taylor_conf { int64_t samples, batch_size; };
static const struct param taylor_params[] = { PROBE_FIELDS(struct taylor_conf, 2048, 64), FIELD_END };

struct taylor {
    const struct net *net;
    float *const *score;
    double *sum; /* of the squares: of all wanted weights, one after the other */
};

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    const struct taylor *t = user;
    double *to = t->sum;

    (void)e;
    for (int i = 0; i < t->net->n_weights; i++) {
        const float *w = t->net->weight[i].x, *g = exec_dw(b->exec, i);

        for (size_t k = 0; t->score[i] && k < t->net->weight[i].len; k++) {
            double change = (double)w[k] * (double)g[k] / b->n;

            *to++ += change * change;
        }
    }
    return ERR_OK;
}

static size_t n_wanted(const struct net *net, float *const *score)
{
    size_t n = 0;

    for (int i = 0; i < net->n_weights; i++)
        n += score[i] ? net->weight[i].len : 0;
    return n;
}

static enum err_code taylor_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct taylor_conf *c = in->conf;
    const struct probe_conf probe = { .samples = c->samples, .batch_size = c->batch_size, .look = PROBE_WEIGHTS };
    struct taylor t = { in->net, score, mem_zalloc(n_wanted(in->net, score), sizeof(double)) };
    double all = 0, *from = t.sum;
    enum err_code rc = t.sum ? probe_run(in, &probe, add_batch, &t, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (size_t k = 0; rc == ERR_OK && k < n_wanted(in->net, score); k++)
        all += t.sum[k];
    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++)
        for (size_t k = 0; score[i] && k < in->net->weight[i].len; k++, from++)
            score[i][k] = (float)(all > 0 ? *from / all : *from);
    mem_free(t.sum);
    return rc;
}

static uint64_t taylor_memory(const struct net *net, const void *conf)
{
    const struct taylor_conf *c = conf;
    uint64_t bytes = probe_memory(net, c->samples, c->batch_size, PROBE_WEIGHTS);

    for (int i = 0; i < net->n_weights; i++)
        bytes += net->weight[i].info.prunable ? net->weight[i].len * sizeof(double) : 0;
    return bytes;
}

const struct criterion crit_taylor = {
    .plug = { "taylor", "Keeps the weights whose removal would change the loss most, to first order: mean of (w g)^2 (Molchanov et al. 2019).", taylor_params,
              sizeof(struct taylor_conf) },
    .samples = true, .score_net = taylor_score, .memory = taylor_memory
};
