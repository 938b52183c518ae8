/* core/op_dropout.c: while training, each number is dropped with probability `rate` and the others are scaled by 1 / (1 - rate). Which
 * go is a pure function of (seed, node, step, index). The factors stay in the state for backward. */
#include "core/op.h"
#include "core/rng.h"
#include "core/simd.h"

struct dropout_conf { double rate; };
static const struct param dropout_params[] = {
    FIELD_REAL(struct dropout_conf, rate, 0, 0.999, 0.5, "Share of numbers that are dropped while training."), FIELD_END
};

enum { RANGE = 8192 };
struct drop {
    const struct op_call *c;
    size_t len;
};
static size_t range_len(const struct drop *d, size_t first) { return d->len - first < RANGE ? d->len - first : RANGE; }

static enum err_code dropout_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in, (void)e;
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    p->state_len_per_sample = shape_len(in[0]);
    return ERR_OK;
}

static void draw(float *factor, const struct op_call *c, size_t first, size_t n)
{
    const struct rng r = { c->seed, RNG_DROPOUT, c->node, c->step };
    double rate = ((const struct dropout_conf *)c->conf)->rate;
    uint32_t below = (uint32_t)(rate * 0x1p32), u[4];
    float kept = (float)(1 / (1 - rate));

    for (size_t i = 0; i < n; i += 4) { /* RANGE is a multiple of 4: ranges start at a block */
        rng_block(u, &r, (uint32_t)((first + i) / 4));
        for (size_t j = 0; j < 4 && i + j < n; j++)
            factor[i + j] = u[j] < below ? 0 : kept;
    }
}

SIMD static void multiply(float *restrict out, const float *restrict x, const float *restrict factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor[i];
}

static void forward_tile(void *ctx, int tile)
{
    const struct drop *d = ctx;
    size_t first = (size_t)tile * RANGE, n = range_len(d, first);

    if (!d->c->training) {
        memcpy(d->c->y + first, d->c->x[0] + first, n * sizeof(float));
        return;
    }
    draw(d->c->state + first, d->c, first, n);
    multiply(d->c->y + first, d->c->x[0] + first, d->c->state + first, n);
}

static void backward_tile(void *ctx, int tile)
{
    const struct drop *d = ctx;
    size_t first = (size_t)tile * RANGE, n = range_len(d, first);

    if (d->c->training)
        multiply(d->c->dx[0] + first, d->c->dy + first, d->c->state + first, n);
    else
        memcpy(d->c->dx[0] + first, d->c->dy + first, n * sizeof(float));
}

static void dropout_run(const struct op_call *c, void (*fn)(void *ctx, int tile))
{
    struct drop d = { c, shape_len(c->out_shape) * (size_t)c->n };

    team_for(c->team, (int)((d.len + RANGE - 1) / RANGE), fn, &d);
}

static void dropout_forward(const struct op_call *c) { dropout_run(c, forward_tile); }
static void dropout_backward(const struct op_call *c)
{
    if (c->dx[0])
        dropout_run(c, backward_tile);
}

const struct op op_dropout = {
    .plug = { "dropout", "Drops numbers at random while training (Srivastava et al. 2014).", dropout_params, sizeof(struct dropout_conf) },
    .min_in = 1, .max_in = 1, .shape = dropout_shape, .forward = dropout_forward, .backward = dropout_backward
};
