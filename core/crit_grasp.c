/* core/crit_grasp.c: what keeps the gradient flowing (GraSP: Wang, Zhang & Grosse 2020): removing w changes the squared norm of the gradient by
 * about -2 w (Hg), so the weights with the largest w (Hg) stay: sparse nets train by their gradient. For a net before training; the logits are
 * divided by a temperature, else the loss of single samples rules. Hg is exact (hessian.h). g is by all kernels, where they are not masked. */
#include <string.h>

#include "core/hessian.h"
#include "core/mem.h"

struct grasp_conf {
    int64_t samples, batch_size;
    double temperature;
};
static const struct param grasp_params[] = {
    PROBE_FIELDS(struct grasp_conf, 1024, 64),
    FIELD_REAL(struct grasp_conf, temperature, 0.01, 1e6, 200, "What the logits of a cross-entropy are divided by."), FIELD_END
};

struct grasp {
    const struct crit_net *in;
    struct probe_conf probe;
    float **g, **hg;  /* per weight: gradient, by its norm; product. NULL for what is not prunable */
    float *memory;
    double norm;      /* of the gradient */
    struct hessian *hessian;
};

static enum err_code grasp_init(struct grasp *s, struct err *e)
{
    const struct net *net = s->in->net;
    size_t len = 0;
    float *at;

    for (int i = 0; i < net->n_weights; i++)
        len += net->weight[i].info.prunable ? net->weight[i].len : 0;
    s->g = mem_zalloc((size_t)net->n_weights, sizeof *s->g);
    s->hg = mem_zalloc((size_t)net->n_weights, sizeof *s->hg);
    s->memory = mem_vector(2 * len);
    if (!s->g || !s->hg || !s->memory)
        return err_set(e, ERR_NOMEM, "out of memory");
    at = s->memory;
    for (int i = 0; i < net->n_weights; at += net->weight[i].info.prunable ? net->weight[i].len : 0, i++)
        if (net->weight[i].info.prunable) {
            s->g[i] = at;
            s->hg[i] = at + len;
        }
    return ERR_OK;
}

static void grasp_clear(struct grasp *s)
{
    hessian_free(s->hessian);
    mem_free(s->g);
    mem_free(s->hg);
    mem_free(s->memory);
}

/* To length 1, so that no product leaves the range of a float. */
static void normalize(struct grasp *s)
{
    const struct net *net = s->in->net;
    double sum = 0;

    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; s->g[i] && k < net->weight[i].len; k++) {
            if (net->weight[i].mask && !net->weight[i].mask[k])
                s->g[i][k] = 0;
            sum += (double)s->g[i][k] * (double)s->g[i][k];
        }
    s->norm = sqrt(sum);
    for (int i = 0; i < net->n_weights && s->norm > 0; i++)
        for (size_t k = 0; s->g[i] && k < net->weight[i].len; k++)
            s->g[i][k] = (float)((double)s->g[i][k] / s->norm);
}

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    const struct grasp *s = user;

    (void)e;
    hessian_add(s->hessian, b);
    return ERR_OK;
}

static void write_scores(const struct grasp *s, float *const *score)
{
    const struct net *net = s->in->net;
    int64_t samples = s->probe.samples < s->in->train->n ? s->probe.samples : s->in->train->n;
    double factor = s->norm / (double)samples, sum = 0;

    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; score[i] && k < net->weight[i].len; k++)
            sum += factor * (double)net->weight[i].x[k] * (double)s->hg[i][k];
    factor /= fabs(sum) + 1e-10;
    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; score[i] && k < net->weight[i].len; k++)
            score[i][k] = (float)(factor * (double)net->weight[i].x[k] * (double)s->hg[i][k]);
}

static enum err_code grasp_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct grasp_conf *c = in->conf;
    struct grasp s = { .in = in, .probe = { c->samples, c->batch_size, PROBE_ALL, true, c->temperature } };
    int max_n = (int)(c->batch_size < in->train->n ? c->batch_size : in->train->n);
    enum err_code rc = grasp_init(&s, e);

    if (rc == ERR_OK)
        rc = probe_gradient(in, &s.probe, s.g, e);
    if (rc == ERR_OK) {
        normalize(&s);
        rc = hessian_new(&s.hessian, in, max_n, c->temperature, s.g, s.hg, e);
    }
    if (rc == ERR_OK)
        rc = probe_run(in, &s.probe, add_batch, &s, e);
    if (rc == ERR_OK)
        write_scores(&s, score);
    grasp_clear(&s);
    return rc;
}

static uint64_t grasp_memory(const struct net *net, const void *conf)
{
    const struct grasp_conf *c = conf;
    uint64_t bytes = probe_memory(net, c->batch_size, c->batch_size, PROBE_ALL) + hessian_memory(net, (int)c->batch_size);

    for (int i = 0; i < net->n_weights; i++)
        bytes += net->weight[i].info.prunable ? net->weight[i].len * 2 * sizeof(float) : 0;
    return bytes;
}

const struct criterion crit_grasp = {
    .plug = { "grasp", "Keeps the weights that keep the gradient large: w (Hg), logits by a temperature, best before training (GraSP: Wang, Zhang & Grosse 2020).",
              grasp_params, sizeof(struct grasp_conf) },
    .samples = true, .score_net = grasp_score, .memory = grasp_memory
};
