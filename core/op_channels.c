/* core/op_channels.c: images between the order of data sets and Keras, the channel last, and the engine's, the channel first. Each is the
 * transpose of a matrix of places and channels whose elements are the n samples' numbers; backward is the other one. A tile is a run of the
 * output's rows. */
#include "core/op.h"

#include <string.h>

enum { TILE = 16384 };
struct transpose {
    float *to;         /* [cols][rows][n] */
    const float *from; /* [rows][cols][n] */
    size_t rows, cols, n, per_tile; /* per_tile: elements of a tile */
};

static enum err_code channels_shape(const struct shape *in, bool first, struct op_plan *p, struct err *e)
{
    if (in->n_d < 2)
        return err_set(e, ERR_INVALID, "images or sequences are needed");
    p->out = *in;
    for (int i = 0; i < in->n_d; i++)
        p->out.d[i] = in->d[(i + (first ? in->n_d - 1 : 1)) % in->n_d];
    return ERR_OK; /* neurons: where they lie along the last axis, nothing can be removed */
}
static enum err_code first_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in;
    return channels_shape(in[0], true, p, e);
}
static enum err_code last_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in;
    return channels_shape(in[0], false, p, e);
}

static void transpose_tile(void *ctx, int tile)
{
    const struct transpose *t = ctx;
    const size_t len = t->rows * t->cols, first = (size_t)tile * t->per_tile, end = first + t->per_tile < len ? first + t->per_tile : len;
    size_t col = first / t->rows, row = first % t->rows;

    for (size_t i = first; i < end; i++) {
        memcpy(t->to + i * t->n, t->from + (row * t->cols + col) * t->n, t->n * sizeof(float));
        if (++row == t->rows)
            row = 0, col++;
    }
}

static void transpose(float *to, const float *from, size_t rows, size_t cols, const struct op_call *c)
{
    struct transpose t = { to, from, rows, cols, (size_t)c->n, 1 + TILE / (size_t)c->n };

    team_for(c->team, (int)((rows * cols + t.per_tile - 1) / t.per_tile), transpose_tile, &t);
}

static size_t places(const struct shape *first) { return shape_len(first) / (size_t)first->d[0]; }
static void first_forward(const struct op_call *c) { transpose(c->y, c->x[0], places(c->out_shape), (size_t)c->out_shape->d[0], c); }
static void last_forward(const struct op_call *c) { transpose(c->y, c->x[0], (size_t)c->in_shape[0]->d[0], places(c->in_shape[0]), c); }
static void first_backward(const struct op_call *c)
{
    if (c->dx[0])
        transpose(c->dx[0], c->dy, (size_t)c->out_shape->d[0], places(c->out_shape), c);
}
static void last_backward(const struct op_call *c)
{
    if (c->dx[0])
        transpose(c->dx[0], c->dy, places(c->in_shape[0]), (size_t)c->in_shape[0]->d[0], c);
}

const struct op op_channels_first = {
    .plug = { "channels_first", "Brings the last axis to the front.", NULL, 0 }, .min_in = 1, .max_in = 1, .linear = true,
    .shape = first_shape, .forward = first_forward, .backward = first_backward
};
const struct op op_channels_last = {
    .plug = { "channels_last", "Brings the first axis to the end.", NULL, 0 }, .min_in = 1, .max_in = 1, .linear = true,
    .shape = last_shape, .forward = last_forward, .backward = last_backward
};
