/* core/op_pad.c: zeros around an image [c][h][w][n] or a sequence [c][w][n], and the opposite, places cut off its edges. Either way the smaller one
 * lies inside of the larger one: forward of the one is backward of the other. A tile is a channel. */
#include "core/op.h"

#include <string.h>

/* Places at each edge; a sequence has two. */
struct edges { int64_t top, bottom, left, right; };
enum { MOST = 1 << 20 };
#define EDGE(title, field, text) \
    { .name = title, .type = PARAM_INT, .offset = FIELD_AT(struct edges, field, int64_t), .max = MOST, .def = 1, .help = text }
static const struct param zero_pad2d_params[] = {
    EDGE("pad_top", top, "Rows above."), EDGE("pad_bottom", bottom, "Rows below."), EDGE("pad_left", left, "Columns on the left."),
    EDGE("pad_right", right, "Columns on the right."), FIELD_END
};
static const struct param zero_pad1d_params[] = { EDGE("pad_left", left, "Places before."), EDGE("pad_right", right, "Places behind."), FIELD_END };
static const struct param cropping2d_params[] = {
    EDGE("crop_top", top, "Rows at the top."), EDGE("crop_bottom", bottom, "Rows at the bottom."), EDGE("crop_left", left, "Columns on the left."),
    EDGE("crop_right", right, "Columns on the right."), FIELD_END
};
static const struct param cropping1d_params[] = { EDGE("crop_left", left, "Places at the start."), EDGE("crop_right", right, "Places at the end."), FIELD_END };

static enum err_code pad_shape(const void *conf, const struct shape *in, int rank, int sign, struct op_plan *p, struct err *e)
{
    const struct edges *edge = conf;
    int64_t h, w;

    if (in->n_d != rank)
        return err_set(e, ERR_INVALID, "%s are needed", rank == 3 ? "images" : "sequences");
    h = (rank == 3 ? in->d[1] : 1) + sign * (edge->top + edge->bottom);
    w = in->d[rank - 1] + sign * (edge->left + edge->right);
    if (h < 1 || w < 1)
        return err_field(e, ERR_INVALID, h < 1 ? "/crop_top" : "/crop_left", "nothing is left");
    p->out = *in;
    p->out.d[rank - 1] = w > INT32_MAX ? 0 : (int)w; /* 0 is refused */
    if (rank == 3)
        p->out.d[1] = h > INT32_MAX ? 0 : (int)h;
    p->neurons = NEURONS_PLACES;
    return shape_check(&p->out, e);
}

#define SHAPE_OF(name, rank, sign) \
    static enum err_code name##_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e) \
    { \
        (void)n_in; \
        return pad_shape(conf, in[0], rank, sign, p, e); \
    }
SHAPE_OF(zero_pad2d, 3, 1)
SHAPE_OF(zero_pad1d, 2, 1)
SHAPE_OF(cropping2d, 3, -1)
SHAPE_OF(cropping1d, 2, -1)

/* One of the two is const in truth: only `to` is written. */
struct frame {
    const float *from;
    float *to;
    bool out; /* from the inner one into the outer one; else the other way */
    size_t inner_h, inner_w, outer_h, outer_w, top, left, n;
};

static void frame_tile(void *ctx, int channel)
{
    const struct frame *f = ctx;
    const size_t inner = (size_t)channel * f->inner_h * f->inner_w * f->n, outer = (size_t)channel * f->outer_h * f->outer_w * f->n,
                 run = f->inner_w * f->n;

    if (f->out)
        memset(f->to + outer, 0, f->outer_h * f->outer_w * f->n * sizeof(float));
    for (size_t i = 0; i < f->inner_h; i++) {
        const size_t in = inner + i * run, at = outer + ((f->top + i) * f->outer_w + f->left) * f->n;

        memcpy(f->to + (f->out ? at : in), f->from + (f->out ? in : at), run * sizeof(float));
    }
}

/* outer, inner: the shapes of the larger and the smaller value. */
static void frame_run(const struct op_call *c, const struct shape *inner, const struct shape *outer, bool out, float *to, const float *from)
{
    const struct edges *edge = c->conf;
    const int rank = inner->n_d;
    struct frame f = { from, to, out, 1, (size_t)inner->d[rank - 1], 1, (size_t)outer->d[rank - 1], (size_t)edge->top, (size_t)edge->left, (size_t)c->n };

    if (rank == 3)
        f.inner_h = (size_t)inner->d[1], f.outer_h = (size_t)outer->d[1];
    team_for(c->team, inner->d[0], frame_tile, &f);
}

static void pad_forward(const struct op_call *c) { frame_run(c, c->in_shape[0], c->out_shape, true, c->y, c->x[0]); }
static void crop_forward(const struct op_call *c) { frame_run(c, c->out_shape, c->in_shape[0], false, c->y, c->x[0]); }
static void pad_backward(const struct op_call *c)
{
    if (c->dx[0])
        frame_run(c, c->in_shape[0], c->out_shape, false, c->dx[0], c->dy);
}
static void crop_backward(const struct op_call *c)
{
    if (c->dx[0])
        frame_run(c, c->out_shape, c->in_shape[0], true, c->dx[0], c->dy);
}

#define FRAME(name, way, help) \
    const struct op op_##name = { .plug = { #name, help, name##_params, sizeof(struct edges) }, .min_in = 1, .max_in = 1, .linear = true, .grid = ORDER_CHANNELS, \
                                  .shape = name##_shape, .forward = way##_forward, .backward = way##_backward }
FRAME(zero_pad2d, pad, "Zeros around an image.");
FRAME(zero_pad1d, pad, "Zeros around a sequence.");
FRAME(cropping2d, crop, "Cuts rows and columns off the edges of an image.");
FRAME(cropping1d, crop, "Cuts places off the edges of a sequence.");
