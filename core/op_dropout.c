/* core/op_dropout.c: while training, each number is dropped with probability `rate` and the others are scaled by 1 / (1 - rate); spatial dropout does
 * so with whole channels of a sample. Which go is a pure function of (seed, node, step, index). The factors stay in the state for backward. */
#include "core/op.h"
#include "core/rng.h"
#include "core/simd.h"

struct dropout_conf { double rate; };
static const struct param dropout_params[] = {
    FIELD_REAL(struct dropout_conf, rate, 0, 0.999, 0.5, "Share of numbers that are dropped while training."), FIELD_END
};

static enum err_code dropout_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in, (void)e;
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    p->state_len_per_sample = shape_len(in[0]);
    return ERR_OK;
}

/* n factors, from a block of random numbers on. */
static void draw(float *factor, const struct op_call *c, size_t block, size_t n)
{
    const struct rng r = { c->seed, RNG_DROPOUT, c->node, c->step };
    double rate = ((const struct dropout_conf *)c->conf)->rate;
    uint32_t below = (uint32_t)(rate * 0x1p32), u[4];
    float kept = (float)(1 / (1 - rate));

    for (size_t i = 0; i < n; i += 4) {
        rng_block(u, &r, (uint32_t)(block + i / 4));
        for (size_t j = 0; j < 4 && i + j < n; j++)
            factor[i + j] = u[j] < below ? 0 : kept;
    }
}

SIMD static void multiply(float *restrict out, const float *restrict x, const float *restrict factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor[i];
}

static void forward_numbers(const struct op_call *c, size_t first, size_t n)
{
    if (!c->training) {
        memcpy(c->y + first, c->x[0] + first, n * sizeof(float));
        return;
    }
    draw(c->state + first, c, first / 4, n);
    multiply(c->y + first, c->x[0] + first, c->state + first, n);
}

static void backward_numbers(const struct op_call *c, size_t first, size_t n)
{
    if (c->training)
        multiply(c->dx[0] + first, c->dy + first, c->state + first, n);
    else
        memcpy(c->dx[0] + first, c->dy + first, n * sizeof(float));
}

static void dropout_forward(const struct op_call *c) { op_ranges(c, forward_numbers); }
static void dropout_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_ranges(c, backward_numbers);
}

const struct op op_dropout = {
    .plug = { "dropout", "Drops numbers at random while training (Srivastava et al. 2014).", dropout_params, sizeof(struct dropout_conf) },
    .min_in = 1, .max_in = 1, .unread = UNREAD_X | UNREAD_Y, .shape = dropout_shape, .forward = dropout_forward, .backward = dropout_backward
};

/* ---- whole channels: a tile is one ---- */

static enum err_code spatial_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in;
    if (in[0]->n_d < 2)
        return err_set(e, ERR_INVALID, "spatial dropout takes images and sequences");
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    p->state_len_per_sample = (size_t)in[0]->d[0];
    return ERR_OK;
}

/* to = from, at all places of a channel by its factor. */
static void channel_by(const struct op_call *c, int channel, float *to, const float *from)
{
    const size_t n = (size_t)c->n, places = shape_len(c->out_shape) / (size_t)c->out_shape->d[0], first = (size_t)channel * places * n;

    if (!c->training) {
        memcpy(to + first, from + first, places * n * sizeof *to);
        return;
    }
    for (size_t p = 0; p < places; p++)
        multiply(to + first + p * n, from + first + p * n, c->state + (size_t)channel * n, n);
}

static void spatial_forward_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const size_t n = (size_t)c->n;

    if (c->training)
        draw(c->state + (size_t)channel * n, c, (size_t)channel * ((n + 3) / 4), n);
    channel_by(c, channel, c->y, c->x[0]);
}

static void spatial_backward_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;

    channel_by(c, channel, c->dx[0], c->dy);
}

static void spatial_forward(const struct op_call *c) { team_for(c->team, c->out_shape->d[0], spatial_forward_tile, (void *)c); }
static void spatial_backward(const struct op_call *c)
{
    if (c->dx[0])
        team_for(c->team, c->out_shape->d[0], spatial_backward_tile, (void *)c);
}

const struct op op_spatial_dropout = {
    .plug = { "spatial_dropout", "Drops whole channels at random while training (Tompson et al. 2015).", dropout_params, sizeof(struct dropout_conf) },
    .min_in = 1, .max_in = 1, .unread = UNREAD_X | UNREAD_Y, .grid = ORDER_CHANNELS, .shape = spatial_shape, .forward = spatial_forward, .backward = spatial_backward
};
