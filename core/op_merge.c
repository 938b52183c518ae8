/* core/op_merge.c: ops of several inputs: the sum, and the inputs one after the other. */
#include "core/op.h"
#include "core/simd.h"

/* ---- the sum ---- */

static enum err_code add_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf;
    for (int i = 1; i < n_in; i++)
        if (!shape_equal(in[0], in[i]))
            return err_set(e, ERR_INVALID, "only inputs of one shape can be added");
    p->out = *in[0];
    p->neurons = NEURONS_MERGE;
    return ERR_OK;
}

/* y = a + b, not below `least`; y may be one of them. */
SIMD static void add_two(float *y, const float *a, const float *b, size_t n, float least)
{
    SIMD_IN_PLACE
    for (size_t i = 0; i < n; i++) {
        const float v = a[i] + b[i];

        y[i] = v < least ? least : v;
    }
}
SIMD static void add_range(float *restrict y, const float *restrict x, size_t n, float least)
{
    for (size_t i = 0; i < n; i++) {
        const float v = y[i] + x[i];

        y[i] = v < least ? least : v;
    }
}

static void add_numbers(const struct op_call *c, size_t first, size_t n)
{
    const float least = c->clamp ? 0 : -INFINITY;

    add_two(c->y + first, c->x[0] + first, c->x[1] + first, n, c->n_in == 2 ? least : -INFINITY);
    for (int i = 2; i < c->n_in; i++)
        add_range(c->y + first, c->x[i] + first, n, i == c->n_in - 1 ? least : -INFINITY);
}

SIMD static void let_through(float *restrict dx, const float *restrict dy, const float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

static void add_back_numbers(const struct op_call *c, size_t first, size_t n)
{
    if (c->clamp)
        let_through(c->dx[0] + first, c->dy + first, c->y + first, n);
    else
        memcpy(c->dx[0] + first, c->dy + first, n * sizeof(float));
}

static void add_forward(const struct op_call *c) { op_ranges(c, add_numbers); }
static void add_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_ranges(c, add_back_numbers);
}

const struct op op_add = { .plug = { "add", "Sum of inputs of one shape.", NULL, 0 }, .min_in = 2, .max_in = OP_MAX_IN, .clamp = true, .is_sum = true, .same_dx = true,
                           .linear = true, .shape = add_shape, .forward = add_forward, .backward = add_backward };

/* ---- concatenate: y is [before][sum of a_i][after][n], input i [before][a_i][after][n]: runs of a_i * after * n numbers ---- */

struct concatenate_conf { int64_t axis; };
static const struct param concatenate_params[] = {
    FIELD_INT(struct concatenate_conf, axis, -SHAPE_MAX, SHAPE_MAX, -1, "Along which axis; the batch is axis 0, -1 the last."), FIELD_END
};

/* Dimension of a sample that Keras' axis means; -1: none. */
static int concatenate_dim(const void *conf, const struct shape *s)
{
    int64_t axis = ((const struct concatenate_conf *)conf)->axis, d = axis < 0 ? s->n_d + axis : axis - 1;

    return d >= 0 && d < s->n_d ? (int)d : -1;
}

static enum err_code concatenate_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    int dim = concatenate_dim(conf, in[0]);
    int64_t sum = 0;

    if (dim < 0)
        return err_field(e, ERR_INVALID, "/axis", "the inputs have no such axis");
    for (int i = 0; i < n_in; i++) {
        struct shape same = *in[i];

        if (same.n_d == in[0]->n_d)
            same.d[dim] = in[0]->d[dim];
        if (!shape_equal(&same, in[0]))
            return err_set(e, ERR_INVALID, "inputs can be joined along an axis only where the others are equal");
        sum += in[i]->d[dim];
    }
    p->out = *in[0];
    p->neurons = dim == 0 ? NEURONS_JOIN : NEURONS_MIX;
    p->out.d[dim] = sum > 2147483647 ? 0 : (int)sum; /* 0 is refused */
    return shape_check(&p->out, e);
}

static void concatenate_copy(const struct op_call *c, bool back)
{
    int dim = concatenate_dim(c->conf, c->out_shape);
    size_t before = 1, after = (size_t)c->n, at = 0;

    for (int i = 0; i < c->out_shape->n_d; i++)
        *(i < dim ? &before : &after) *= i == dim ? 1 : (size_t)c->out_shape->d[i];
    for (size_t b = 0; b < before; b++)
        for (int i = 0; i < c->n_in; i++) {
            size_t run = (size_t)c->in_shape[i]->d[dim] * after;

            if (!back)
                memcpy(c->y + at, c->x[i] + b * run, run * sizeof(float));
            else if (c->dx[i])
                memcpy(c->dx[i] + b * run, c->dy + at, run * sizeof(float));
            at += run;
        }
}

static void concatenate_forward(const struct op_call *c) { concatenate_copy(c, false); }
static void concatenate_backward(const struct op_call *c) { concatenate_copy(c, true); }

const struct op op_concatenate = {
    .plug = { "concatenate", "The inputs one after the other along an axis.", concatenate_params, sizeof(struct concatenate_conf) },
    .min_in = 1, .max_in = OP_MAX_IN, .linear = true, .grid = ORDER_CHANNELS, .flat = ORDER_MODEL, .shape = concatenate_shape,
    .forward = concatenate_forward, .backward = concatenate_backward
};
