/* core/op_rescale.c: y = scale x + offset, two constants: how models take bytes, or numbers of another range. */
#include "core/op.h"
#include "core/simd.h"

struct rescale_conf { double scale, offset; };
static const struct param rescale_params[] = {
    FIELD_REAL(struct rescale_conf, scale, -1e30, 1e30, PARAM_REQUIRED, "What numbers are multiplied by."),
    FIELD_REAL(struct rescale_conf, offset, -1e30, 1e30, 0, "What is added then."), FIELD_END
};

enum { RANGE = 16384 };
struct rescale { const struct op_call *c; size_t len; };

static enum err_code rescale_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in, (void)e;
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    return ERR_OK;
}

SIMD static void rescale(float *restrict y, const float *restrict x, float scale, float offset, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale + offset;
}

static size_t range_of(const struct rescale *r, int tile, size_t *first)
{
    *first = (size_t)tile * RANGE;
    return r->len - *first < RANGE ? r->len - *first : RANGE;
}

static void forward_tile(void *ctx, int tile)
{
    const struct rescale *r = ctx;
    const struct rescale_conf *conf = r->c->conf;
    size_t first, n = range_of(r, tile, &first);

    rescale(r->c->y + first, r->c->x[0] + first, (float)conf->scale, (float)conf->offset, n);
}

static void backward_tile(void *ctx, int tile)
{
    const struct rescale *r = ctx;
    size_t first, n = range_of(r, tile, &first);

    rescale(r->c->dx[0] + first, r->c->dy + first, (float)((const struct rescale_conf *)r->c->conf)->scale, 0, n);
}

static void rescale_run(const struct op_call *c, void (*fn)(void *ctx, int tile))
{
    struct rescale r = { c, shape_len(c->out_shape) * (size_t)c->n };

    team_for(c->team, (int)((r.len + RANGE - 1) / RANGE), fn, &r);
}

static void rescale_forward(const struct op_call *c) { rescale_run(c, forward_tile); }
static void rescale_backward(const struct op_call *c)
{
    if (c->dx[0])
        rescale_run(c, backward_tile);
}

const struct op op_rescale = {
    .plug = { "rescale", "Multiplies by a constant and adds one.", rescale_params, sizeof(struct rescale_conf) }, .min_in = 1, .max_in = 1,
    .shape = rescale_shape, .forward = rescale_forward, .backward = rescale_backward
};
