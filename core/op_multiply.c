/* core/op_multiply.c: the product of inputs, number by number. Of two inputs one may have a single number for each channel (a squeeze-and-excitation
 * gate [c] or [c][1][1] for an image [c][h][w]): it counts at every position, and its gradient is the sum over them.
 *
 * A tile is a channel. Its rows are the positions, or one row for all of them where no input is a gate; gradients are computed in pieces of a row. */
#include "core/op.h"
#include "core/simd.h"

enum { PIECE = 256, NOBODY = -1 };

static bool is_gate(const struct shape *s, const struct shape *image)
{
    return s->d[0] == image->d[0] && shape_len(s) == (size_t)s->d[0] && shape_len(image) > shape_len(s) && (s->n_d == 1 || s->n_d == image->n_d);
}

static enum err_code multiply_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf;
    p->out = *in[0];
    for (int i = 1; i < n_in; i++) {
        if (!shape_equal(in[0], in[i]) && !(n_in == 2 && in[0]->n_d > 0 && in[1]->n_d > 0 && (is_gate(in[0], in[1]) || is_gate(in[1], in[0]))))
            return err_set(e, ERR_UNSUPPORTED, "inputs can be multiplied where their shapes are equal, or one is a number for each channel of the other");
    }
    if (n_in == 2 && is_gate(in[0], in[1]))
        p->out = *in[1];
    p->neurons = NEURONS_MERGE;
    return ERR_OK;
}

/* One channel: `rows` rows of `n` numbers; an input has as many, or one (step 0). */
struct channel {
    const struct op_call *c;
    size_t rows, n, step[OP_MAX_IN], first[OP_MAX_IN], out;
};

static struct channel channel_of(const struct op_call *c, int channel)
{
    const size_t each = shape_len(c->out_shape) / (size_t)c->out_shape->d[0] * (size_t)c->n;
    struct channel k = { .c = c, .rows = 1, .n = each, .out = (size_t)channel * each };

    for (int i = 0; i < c->n_in; i++)
        if (shape_len(c->in_shape[i]) < shape_len(c->out_shape))
            k.rows = each / (size_t)c->n, k.n = (size_t)c->n;
    for (int i = 0; i < c->n_in; i++) {
        const bool gate = shape_len(c->in_shape[i]) < shape_len(c->out_shape);

        k.step[i] = gate ? 0 : k.n;
        k.first[i] = (size_t)channel * (gate ? k.n : each);
    }
    return k;
}

/* Place in input i of piece `at` of a row. */
static size_t place(const struct channel *k, int i, size_t row, size_t at) { return k->first[i] + row * k->step[i] + at; }

/* t times the inputs but a and b. */
SIMD_INLINE void times_others(float *restrict t, const struct channel *k, size_t row, size_t at, size_t m, int a, int b)
{
    for (int i = 0; i < k->c->n_in; i++) {
        const float *restrict x = k->c->x[i] + place(k, i, row, at);

        for (size_t j = 0; i != a && i != b && j < m; j++)
            t[j] *= x[j];
    }
}

/* The loop over the pieces; at and m: where in the row, how many. */
#define OVER_PIECES(step) \
    for (size_t row = 0; row < k.rows; row++) \
        for (size_t at = 0; at < k.n; at += PIECE) { \
            const size_t m = k.n - at < PIECE ? k.n - at : PIECE, out = k.out + row * k.n + at; \
            float t[PIECE]; \
            step; \
        }

SIMD static void forward_tile(void *ctx, int tile)
{
    const struct channel k = channel_of(ctx, tile);
    const struct op_call *c = k.c;

    OVER_PIECES({
        memcpy(t, c->x[0] + place(&k, 0, row, at), m * sizeof *t);
        times_others(t, &k, row, at, m, 0, NOBODY);
        memcpy(c->y + out, t, m * sizeof *t);
    })
}

/* dx[i] = t, or with what a gate has got from the rows before. */
SIMD_INLINE void give(const struct channel *k, int i, size_t row, size_t at, const float *restrict t, size_t m, bool add)
{
    float *restrict dx = k->c->dx[i] + place(k, i, row, at);

    add = add || (k->step[i] == 0 && row > 0);
    for (size_t j = 0; j < m; j++)
        dx[j] = add ? dx[j] + t[j] : t[j];
}

SIMD static void backward_tile(void *ctx, int tile)
{
    const struct channel k = channel_of(ctx, tile);
    const struct op_call *c = k.c;

    for (int i = 0; i < c->n_in; i++) {
        if (!c->dx[i])
            continue;
        OVER_PIECES({
            memcpy(t, c->dy + out, m * sizeof *t);
            times_others(t, &k, row, at, m, i, NOBODY);
            give(&k, i, row, at, t, m, false);
        })
    }
}

SIMD static void slope_tile(void *ctx, int tile)
{
    const struct channel k = channel_of(ctx, tile);
    const struct op_call *c = k.c;

    for (int i = 0; i < c->n_in; i++)
        OVER_PIECES({
            memcpy(t, c->along[i] + place(&k, i, row, at), m * sizeof *t);
            times_others(t, &k, row, at, m, i, NOBODY);
            for (size_t j = 0; j < m; j++)
                c->y[out + j] = i > 0 ? c->y[out + j] + t[j] : t[j];
        })
}

SIMD static void bend_tile(void *ctx, int tile)
{
    const struct channel k = channel_of(ctx, tile);
    const struct op_call *c = k.c;

    for (int i = 0; i < c->n_in; i++)
        for (int l = 0; l < c->n_in; l++) {
            if (!c->dx[i] || l == i)
                continue;
            OVER_PIECES({
                const float *restrict along = c->along[l] + place(&k, l, row, at);

                for (size_t j = 0; j < m; j++)
                    t[j] = c->dy[out + j] * along[j];
                times_others(t, &k, row, at, m, i, l);
                give(&k, i, row, at, t, m, true);
            })
        }
}

static void multiply_forward(const struct op_call *c) { op_channels_each(c, forward_tile); }
static void multiply_backward(const struct op_call *c) { op_channels_each(c, backward_tile); }
static void multiply_slope(const struct op_call *c) { op_channels_each(c, slope_tile); }
static void multiply_bend(const struct op_call *c) { op_channels_each(c, bend_tile); }

const struct op op_multiply = { .plug = { "multiply", "Product of inputs of one shape, or of an image and a number for each of its channels.", NULL, 0 },
                                .min_in = 2, .max_in = OP_MAX_IN, .unread = UNREAD_Y, .shape = multiply_shape, .forward = multiply_forward,
                                .backward = multiply_backward, .slope = multiply_slope, .bend = multiply_bend };
