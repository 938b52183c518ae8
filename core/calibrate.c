/* core/calibrate.c: see calibrate.h: a net is run over samples, and batch norm's statistics are taken anew. */
#include "core/calibrate.h"

#include <string.h>

#include "core/mem.h"
#include "core/simd.h"

enum { BATCH = 64 };

struct samples {
    int n;
    uint32_t *order;
    struct data_batch batch;
    struct exec *exec;
};

static void samples_clear(struct samples *s)
{
    exec_free(s->exec);
    mem_free(s->order);
    mem_free(s->batch.label);
    mem_free(s->batch.target);
    *s = (struct samples){ .n = 0 };
}

static enum err_code samples_init(struct samples *s, struct net *net, enum exec_kind kind, const struct calibration *c, struct err *e)
{
    const struct dataset *d = c->train->data;
    enum err_code rc;

    *s = (struct samples){ .n = c->samples < c->train->n ? (int)c->samples : c->train->n };
    s->order = mem_alloc((size_t)s->n * sizeof *s->order);
    s->batch.label = mem_zalloc(BATCH, sizeof(int32_t));
    s->batch.target = mem_vector(BATCH * (size_t)d->n_target);
    rc = s->order && s->batch.label && s->batch.target ? exec_new(&s->exec, net, BATCH, kind, 0, c->team, e)
                                                       : err_set(e, ERR_NOMEM, "out of memory");
    if (rc != ERR_OK) {
        samples_clear(s);
        return rc;
    }
    for (int i = 0; i < s->n; i++)
        s->order[i] = (uint32_t)((uint64_t)i * (uint64_t)c->train->n / (uint64_t)s->n);
    s->batch.x = exec_input(s->exec);
    return ERR_OK;
}

/* Nodes up to `last`. */
static enum err_code run(struct samples *s, int last, const struct calibration *c, void (*see)(void *ctx, const struct exec *x, int n), void *ctx,
                         struct err *e)
{
    for (int first = 0; first < s->n; first += BATCH) {
        const int n = s->n - first < BATCH ? s->n - first : BATCH;

        if (c->stop && c->stop(c->user))
            return err_set(e, ERR_STOPPED, "stopped on request");
        data_gather(c->train, s->order, first, n, &s->batch, c->team);
        exec_forward_to(s->exec, n, last);
        see(ctx, s->exec, n);
    }
    return ERR_OK;
}

enum err_code calibrate(struct net *net, const struct calibration *c, void (*see)(void *ctx, const struct exec *x, int n), void *ctx, struct err *e)
{
    struct samples s;
    enum err_code rc = samples_init(&s, net, EXEC_LOOK, c, e);

    if (rc != ERR_OK)
        return rc;
    rc = run(&s, net->n_nodes - 1, c, see, ctx, e);
    samples_clear(&s);
    return rc;
}

/* ---- batch norm ---- */

/* Mean and sum of squared deviations of each channel of one node's input so far. */
struct moments {
    int node, n_channels;
    size_t positions; /* of a channel, in one sample */
    double n, *mean, *squares;
};

/* Two sets of numbers into one (Chan, Golub & LeVeque 1979). */
SIMD static void add_moments(struct moments *m, const float *x, int samples)
{
    const int n = (int)m->positions * samples;
    const double all = m->n + n;

    for (int f = 0; f < m->n_channels; f++, x += n) {
        double mean = simd_sum(x, n) / n, squares = simd_dot(x, mean, x, mean, n), apart = mean - m->mean[f];

        m->mean[f] += apart * n / all;
        m->squares[f] += squares + apart * apart * m->n * n / all;
    }
    m->n = all;
}

static void see_moments(void *ctx, const struct exec *x, int n)
{
    struct moments *m = ctx;

    add_moments(m, exec_value(x, m->node), n);
}

static const struct op *batch_norm(void) { return op_find("batch_norm"); }

static float *statistic(struct net *net, const struct node *node, const char *name)
{
    for (int i = 0; i < node->plan.n_weights; i++)
        if (strcmp(node->plan.weight[i].name, name) == 0)
            return net->weight[node->first_weight + i].x;
    return NULL;
}

static enum err_code take_statistics(struct samples *s, struct net *net, const struct node *node, const struct calibration *c, struct err *e)
{
    const struct shape *out = &node->plan.out;
    struct moments m = { .node = node->in[0], .n_channels = out->d[0], .positions = shape_len(out) / (size_t)out->d[0] };
    float *mean = statistic(net, node, "moving_mean"), *variance = statistic(net, node, "moving_variance");
    enum err_code rc;

    m.mean = mem_zalloc((size_t)m.n_channels, sizeof(double));
    m.squares = mem_zalloc((size_t)m.n_channels, sizeof(double));
    rc = m.mean && m.squares ? run(s, m.node, c, see_moments, &m, e) : err_set(e, ERR_NOMEM, "out of memory");
    for (int f = 0; rc == ERR_OK && f < m.n_channels; f++) {
        mean[f] = (float)m.mean[f];
        variance[f] = (float)(m.squares[f] / m.n);
    }
    mem_free(m.mean);
    mem_free(m.squares);
    return rc;
}

enum err_code recalibrate_batch_norm(struct net *net, const struct calibration *c, int *n_layers, struct err *e)
{
    struct samples s = { .n = 0 };
    enum err_code rc = ERR_OK;

    *n_layers = 0;
    for (int i = 0; i < net->n_nodes && rc == ERR_OK; i++) {
        if (net->node[i].op != batch_norm())
            continue;
        if ((*n_layers)++ == 0)
            rc = samples_init(&s, net, EXEC_INFER, c, e);
        if (rc == ERR_OK)
            rc = take_statistics(&s, net, &net->node[i], c, e);
    }
    samples_clear(&s);
    return rc;
}

uint64_t calibration_memory(const struct net *net, bool looks) { return exec_memory(net, BATCH, looks ? EXEC_LOOK : EXEC_INFER); }
