/* core/compare.c: see compare.h. */
#include "core/compare.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"

enum { BATCH = 128 };

struct both {
    struct net *net[2];
    struct exec *exec[2];
    struct data_batch batch;
};

static enum err_code both_init(struct both *b, const struct data_view *samples, struct team *team, struct err *e)
{
    bool labels = samples && samples->split->label, targets = samples && samples->split->target;
    enum err_code rc = exec_new(&b->exec[0], b->net[0], BATCH, EXEC_INFER, 0, team, e);

    if (rc == ERR_OK)
        rc = exec_new(&b->exec[1], b->net[1], BATCH, EXEC_INFER, 0, team, e);
    b->batch.label = labels ? mem_zalloc(BATCH, sizeof *b->batch.label) : NULL;
    b->batch.target = targets ? mem_vector((size_t)samples->data->n_target * BATCH) : NULL;
    if (rc == ERR_OK && ((labels && !b->batch.label) || (targets && !b->batch.target)))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    return rc;
}

static void both_clear(struct both *b)
{
    exec_free(b->exec[0]);
    exec_free(b->exec[1]);
    mem_free(b->batch.label);
    mem_free(b->batch.target);
}

static void fill_input(struct both *b, const struct data_view *samples, int first, int n, struct team *team)
{
    const struct rng r = { 1, RNG_TEST, 0, 0 };
    const size_t len = shape_len(net_input(b->net[0]));

    b->batch.x = exec_input(b->exec[0]);
    if (samples)
        data_gather(samples, NULL, first, n, &b->batch, team);
    for (size_t i = 0; i < len * (size_t)n && !samples; i++)
        b->batch.x[i] = (float)rng_normal(&r, len * (size_t)first + i);
    memcpy(exec_input(b->exec[1]), b->batch.x, len * (size_t)n * sizeof(float));
}

static void look(struct comparison *c, const struct both *b, int n)
{
    const float *y[2] = { exec_value(b->exec[0], b->net[0]->n_nodes - 1), exec_value(b->exec[1], b->net[1]->n_nodes - 1) };
    size_t len = shape_len(net_output(b->net[0])) * (size_t)n;

    for (size_t i = 0; i < len; i++) {
        double d = fabs((double)y[0][i] - (double)y[1][i]), size = fabs((double)y[0][i]);

        if (!(d <= c->difference) && !isnan(c->difference)) /* a NaN stays */
            c->difference = d;
        c->largest = size > c->largest ? size : c->largest;
    }
}

enum err_code compare_nets(struct comparison *out, struct net *a, struct net *b, const struct data_view *samples, struct team *team, struct err *e)
{
    struct both both = { .net = { a, b } };
    enum err_code rc = both_init(&both, samples, team, e);

    *out = (struct comparison){ .n_samples = samples && samples->n < COMPARE_SAMPLES ? samples->n : COMPARE_SAMPLES };
    for (int first = 0, n; first < out->n_samples && rc == ERR_OK; first += n) {
        n = out->n_samples - first < BATCH ? out->n_samples - first : BATCH;
        fill_input(&both, samples, first, n, team);
        for (int k = 0; k < 2; k++)
            exec_forward(both.exec[k], n, false, 0);
        look(out, &both, n);
    }
    both_clear(&both);
    return rc;
}

uint64_t compare_memory(const struct net *net) { return 2 * exec_memory(net, BATCH, EXEC_INFER); }
