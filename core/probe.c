/* core/probe.c: see probe.h. */
#include "core/probe.h"

#include <string.h>

#include "core/mem.h"
#include "core/rng.h"

enum { STREAM = 1 << 20 }; /* of the draws: above the numbers of weights */

static const enum exec_kind exec_kinds[] = { [PROBE_VALUES] = EXEC_LOOK, [PROBE_WEIGHTS] = EXEC_TRAIN, [PROBE_ALL] = EXEC_KEEP };

struct probe {
    const struct crit_net *in;
    const struct probe_conf *conf;
    probe_fn *fn;
    void *user;
    struct exec *exec;
    int samples, batch_size;
    uint32_t *order;         /* of the view's samples: the first ones are looked at */
    struct data_batch batch;
    float *z;                /* logits by temperature; NULL: as they are */
    double *sample;
};

static int at_most(int64_t wanted, int have) { return wanted < have ? (int)wanted : have; }

static bool cools(const struct probe *p)
{
    const struct loss_binding *b = p->in->loss;

    return p->conf->temperature > 0 && b->from == LOSS_FROM_LOGITS && b->loss->fuses;
}

static size_t n_outputs(const struct probe *p) { return shape_len(&p->in->net->node[p->in->loss->node].plan.out); }

static void draw(struct probe *p)
{
    const struct rng r = { p->in->seed, RNG_CRITERION, STREAM, p->in->step };

    for (int i = 0; i < p->in->train->n; i++)
        p->order[i] = (uint32_t)i;
    rng_shuffle(&r, p->order, (uint32_t)p->in->train->n);
}

static enum err_code probe_init(struct probe *p, struct err *e)
{
    const struct data_view *v = p->in->train;
    size_t n;

    p->samples = at_most(p->conf->samples, v->n);
    p->batch_size = at_most(p->conf->batch_size, p->samples);
    n = (size_t)p->batch_size;
    p->order = mem_alloc((size_t)v->n * sizeof *p->order);
    p->batch.label = v->split->label ? mem_zalloc(n, sizeof *p->batch.label) : NULL;
    p->batch.target = v->split->target ? mem_vector((size_t)v->data->n_target * n) : NULL;
    p->z = cools(p) ? mem_vector(n_outputs(p) * n) : NULL;
    p->sample = mem_zalloc(n, sizeof *p->sample);
    if (!p->order || !p->sample || (v->split->label && !p->batch.label) || (v->split->target && !p->batch.target) || (cools(p) && !p->z))
        return err_set(e, ERR_NOMEM, "out of memory");
    draw(p);
    return exec_new(&p->exec, p->in->net, p->batch_size, exec_kinds[p->conf->look], 0, p->in->team, e);
}

static void probe_clear(struct probe *p)
{
    exec_free(p->exec);
    mem_free(p->order);
    mem_free(p->batch.label);
    mem_free(p->batch.target);
    mem_free(p->z);
    mem_free(p->sample);
}

static void scale_by(float *to, const float *from, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)((double)from[i] * factor);
}

/* Loss and its gradients; false: a loss is not finite. */
static bool run_loss(struct probe *p, struct loss_call *c)
{
    const struct loss_binding *b = p->in->loss;
    size_t len = n_outputs(p) * (size_t)c->n;
    double sum = 0;

    c->z = exec_value(p->exec, b->node);
    if (p->z) {
        scale_by(p->z, c->z, len, 1 / p->conf->temperature);
        c->z = p->z;
    }
    c->dz = p->conf->look == PROBE_VALUES ? NULL : exec_grad(p->exec, b->node);
    b->loss->run(c);
    if (p->z && c->dz)
        scale_by(c->dz, c->dz, len, 1 / p->conf->temperature);
    for (int i = 0; i < c->n; i++)
        sum += c->sample[i];
    return isfinite(sum);
}

static enum err_code run_batch(struct probe *p, int first, int n, struct err *e)
{
    const struct loss_binding *b = p->in->loss;
    struct loss_call call = { .k = (int)n_outputs(p), .n = n, .label = p->batch.label, .target = p->batch.target, .from = b->from, .weight = 1,
                              .sample = p->sample };
    struct probe_batch shown = { p->exec, first, n, p->samples, &call };

    p->batch.x = exec_input(p->exec);
    data_gather(p->in->train, p->order, first, n, &p->batch, p->in->team);
    exec_forward(p->exec, n, false, 0);
    if (!run_loss(p, &call))
        return err_set(e, ERR_DIVERGED, "the loss of training samples is not finite");
    if (p->conf->look != PROBE_VALUES)
        exec_backward(p->exec, b->node, p->conf->accumulate && first > 0, NULL, NULL);
    return p->fn(p->user, &shown, e);
}

enum err_code probe_run(const struct crit_net *in, const struct probe_conf *conf, probe_fn *fn, void *user, struct err *e)
{
    struct probe p = { .in = in, .conf = conf, .fn = fn, .user = user };
    enum err_code rc = probe_init(&p, e);

    for (int first = 0; rc == ERR_OK && first < p.samples; first += p.batch_size) {
        if (in->stop && in->stop(in->user))
            rc = err_set(e, ERR_STOPPED, "stopped on request");
        else
            rc = run_batch(&p, first, at_most(p.batch_size, p.samples - first), e);
    }
    probe_clear(&p);
    return rc;
}

/* ---- the whole gradient ---- */

struct gradient {
    const struct net *net;
    float *const *to;
};

static enum err_code take_gradient(void *user, const struct probe_batch *b, struct err *e)
{
    const struct gradient *g = user;

    (void)e;
    for (int w = 0; w < g->net->n_weights && b->first + b->n == b->samples; w++)
        if (g->to[w] && exec_dw(b->exec, w))
            scale_by(g->to[w], exec_dw(b->exec, w), g->net->weight[w].len, 1.0 / b->samples);
    return ERR_OK;
}

enum err_code probe_gradient(const struct crit_net *in, const struct probe_conf *conf, float *const *gradient, struct err *e)
{
    struct gradient g = { in->net, gradient };
    struct probe_conf c = *conf;

    c.look = PROBE_WEIGHTS;
    c.accumulate = true;
    return probe_run(in, &c, take_gradient, &g, e);
}

void probe_share(const struct net *net, float *const *score)
{
    double sum = 0;

    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; score[i] && k < net->weight[i].len; k++)
            sum += (double)score[i][k];
    for (int i = 0; i < net->n_weights && sum > 0; i++)
        if (score[i])
            scale_by(score[i], score[i], net->weight[i].len, 1 / sum);
}

uint64_t probe_memory(const struct net *net, int64_t samples, int64_t batch_size, enum probe_look look)
{
    return exec_memory(net, (int)(samples < batch_size ? samples : batch_size), exec_kinds[look]);
}
