/* core/op_rescale.c: y = scale x + offset, two constants: how models take bytes, or numbers of another range. */
#include "core/op.h"
#include "core/simd.h"

struct rescale_conf { double scale, offset; };
static const struct param rescale_params[] = {
    FIELD_REAL(struct rescale_conf, scale, -1e30, 1e30, PARAM_REQUIRED, "What numbers are multiplied by."),
    FIELD_REAL(struct rescale_conf, offset, -1e30, 1e30, 0, "What is added then."), FIELD_END
};

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

static void forward_numbers(const struct op_call *c, size_t first, size_t n)
{
    const struct rescale_conf *conf = c->conf;

    rescale(c->y + first, c->x[0] + first, (float)conf->scale, (float)conf->offset, n);
}

static void backward_numbers(const struct op_call *c, size_t first, size_t n)
{
    rescale(c->dx[0] + first, c->dy + first, (float)((const struct rescale_conf *)c->conf)->scale, 0, n);
}

static void rescale_forward(const struct op_call *c) { op_ranges(c, forward_numbers); }
static void rescale_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_ranges(c, backward_numbers);
}

const struct op op_rescale = {
    .plug = { "rescale", "Multiplies by a constant and adds one.", rescale_params, sizeof(struct rescale_conf) }, .min_in = 1, .max_in = 1,
    .unread = UNREAD_X | UNREAD_Y, .shape = rescale_shape, .forward = rescale_forward, .backward = rescale_backward
};
