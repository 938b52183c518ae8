/* core/op_conv.c: convolutions: y (o,oh,ow) = bias + sum over the kernel of w (o,c/groups,kh,kw) x (c,h,w); see conv.h for how they run.
 *
 * What all three ops have in common is struct conv: a one-dimensional convolution is one of images of height 1, a depthwise one has as many groups
 * as channels. "same" pads as Keras does: so that every stride-th place has an output, the odd zero behind. */
#include "core/conv.h"

#include "core/op_init.h"
#include "core/winograd.h"

enum {
    MOST = 65536, /* of kernels' sides, strides and dilations */
    MANY = 1024   /* samples of a large batch */
};
enum { KERNEL, BIAS };
enum { VALID, SAME };

struct conv2d_conf {
    int64_t filters, kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width, groups;
    int padding;
    bool use_bias;
    struct init kernel_initializer, bias_initializer;
};
struct conv1d_conf {
    int64_t filters, kernel_size, stride, dilation, groups;
    int padding;
    bool use_bias;
    struct init kernel_initializer, bias_initializer;
};
struct depthwise_conf {
    int64_t depth_multiplier, kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
    int padding;
    bool use_bias;
    struct init kernel_initializer, bias_initializer;
};
INIT_PARAMS(kernel_init_params, INIT_GLOROT_UNIFORM);
INIT_PARAMS(bias_init_params, INIT_ZEROS);

#define SIDES(st) \
    FIELD_INT(st, kernel_height, 1, MOST, PARAM_REQUIRED, "Rows of the kernel."), \
    FIELD_INT(st, kernel_width, 1, MOST, PARAM_REQUIRED, "Columns of the kernel."), \
    FIELD_INT(st, stride_height, 1, MOST, 1, "Rows from one output to the next."), \
    FIELD_INT(st, stride_width, 1, MOST, 1, "Columns from one output to the next."), \
    FIELD_INT(st, dilation_height, 1, MOST, 1, "Rows from one number of the kernel to the next."), \
    FIELD_INT(st, dilation_width, 1, MOST, 1, "Columns from one number of the kernel to the next.")
#define REST(st) \
    FIELD_CHOICE(st, padding, "valid|same", VALID, "No padding, or zeros so that every stride-th place has an output."), \
    FIELD_BOOL(st, use_bias, 1, "Whether a learned number is added to each channel."), \
    FIELD_OBJECT(st, kernel_initializer, kernel_init_params, "How the kernel starts."), \
    FIELD_OBJECT(st, bias_initializer, bias_init_params, "How the bias starts."), \
    FIELD_END

static const struct param conv2d_params[] = {
    FIELD_INT(struct conv2d_conf, filters, 1, 2147483647, PARAM_REQUIRED, "Number of channels of the output."),
    SIDES(struct conv2d_conf),
    FIELD_INT(struct conv2d_conf, groups, 1, 2147483647, 1, "Groups of channels, each convolved for itself."),
    REST(struct conv2d_conf)
};
static const struct param conv1d_params[] = {
    FIELD_INT(struct conv1d_conf, filters, 1, 2147483647, PARAM_REQUIRED, "Number of channels of the output."),
    FIELD_INT(struct conv1d_conf, kernel_size, 1, MOST, PARAM_REQUIRED, "Length of the kernel."),
    FIELD_INT(struct conv1d_conf, stride, 1, MOST, 1, "Places from one output to the next."),
    FIELD_INT(struct conv1d_conf, dilation, 1, MOST, 1, "Places from one number of the kernel to the next."),
    FIELD_INT(struct conv1d_conf, groups, 1, 2147483647, 1, "Groups of channels, each convolved for itself."),
    REST(struct conv1d_conf)
};
static const struct param depthwise_params[] = {
    FIELD_INT(struct depthwise_conf, depth_multiplier, 1, 2147483647, 1, "Channels of the output for each one of the input."),
    SIDES(struct depthwise_conf),
    REST(struct depthwise_conf)
};

/* ---- from options and the input's shape to struct conv ---- */

/* One side: `in` numbers, a kernel of k, stride s, dilation d; at: what the kernel's option is called. */
struct side { int64_t in, k, s, d; const char *at; };

static enum err_code side_shape(const struct side *x, int padding, int *out, int *before, struct err *e)
{
    const int64_t span = (x->k - 1) * x->d + 1;
    int64_t n, total;

    if (span > CONV_MAX_SPAN)
        return err_field(e, ERR_UNSUPPORTED, x->at, "a kernel of %d with dilation %d reaches over more than %d numbers", (int)x->k, (int)x->d,
                         CONV_MAX_SPAN);
    if (padding == VALID && span > x->in)
        return err_field(e, ERR_INVALID, x->at, "a kernel that reaches over %d numbers does not fit an input of %d", (int)span, (int)x->in);
    n = padding == VALID ? (x->in - span) / x->s + 1 : (x->in + x->s - 1) / x->s;
    total = (n - 1) * x->s + span - x->in;
    *out = (int)n;
    *before = padding == VALID || total < 0 ? 0 : (int)(total / 2);
    return ERR_OK;
}

static enum err_code sides_shape(struct conv *g, const struct side side[2], int padding, struct err *e)
{
    enum err_code rc = side_shape(&side[0], padding, &g->oh, &g->top, e);

    g->kh = (int)side[0].k, g->sh = (int)side[0].s, g->dh = (int)side[0].d;
    g->kw = (int)side[1].k, g->sw = (int)side[1].s, g->dw = (int)side[1].d;
    return rc == ERR_OK ? side_shape(&side[1], padding, &g->ow, &g->left, e) : rc;
}

static enum err_code conv2d_geometry(struct conv *g, const void *conf, const struct shape *in, struct err *e)
{
    const struct conv2d_conf *c = conf;

    *g = (struct conv){ .c = in->d[0], .h = in->d[1], .w = in->d[2], .o = (int)c->filters, .groups = (int)c->groups };
    if (g->o % g->groups != 0 || g->c % g->groups != 0)
        return err_field(e, ERR_INVALID, "/groups", "%d channels and %d filters do not make %d groups", g->c, g->o, g->groups);
    return sides_shape(g, (struct side[]){ { g->h, c->kernel_height, c->stride_height, c->dilation_height, "/kernel_height" },
                                           { g->w, c->kernel_width, c->stride_width, c->dilation_width, "/kernel_width" } }, c->padding, e);
}

static enum err_code conv1d_geometry(struct conv *g, const void *conf, const struct shape *in, struct err *e)
{
    const struct conv1d_conf *c = conf;

    *g = (struct conv){ .c = in->d[0], .h = 1, .w = in->d[1], .o = (int)c->filters, .groups = (int)c->groups };
    if (g->o % g->groups != 0 || g->c % g->groups != 0)
        return err_field(e, ERR_INVALID, "/groups", "%d channels and %d filters do not make %d groups", g->c, g->o, g->groups);
    return sides_shape(g, (struct side[]){ { 1, 1, 1, 1, "" }, { g->w, c->kernel_size, c->stride, c->dilation, "/kernel_size" } }, c->padding, e);
}

static enum err_code depthwise_geometry(struct conv *g, const void *conf, const struct shape *in, struct err *e)
{
    const struct depthwise_conf *c = conf;

    *g = (struct conv){ .c = in->d[0], .h = in->d[1], .w = in->d[2], .groups = in->d[0] };
    if (__builtin_mul_overflow(g->c, (int)c->depth_multiplier, &g->o))
        return err_field(e, ERR_INVALID, "/depth_multiplier", "%d channels times %d are too many", g->c, (int)c->depth_multiplier);
    return sides_shape(g, (struct side[]){ { g->h, c->kernel_height, c->stride_height, c->dilation_height, "/kernel_height" },
                                           { g->w, c->kernel_width, c->stride_width, c->dilation_width, "/kernel_width" } }, c->padding, e);
}

/* ---- the plan ---- */

/* Whether the convolution is one that Winograd's transforms can compute. */
static bool can_winograd(struct winograd_shape *s, const struct conv *g, int n)
{
    *s = (struct winograd_shape){ .c = g->c, .o = g->o, .h = g->h, .w = g->w, .n = n, .pad_top = g->top, .pad_left = g->left,
                                  .pad_bottom = g->oh + 2 - g->h - g->top, .pad_right = g->ow + 2 - g->w - g->left };
    return g->kh == 3 && g->kw == 3 && g->sh == 1 && g->sw == 1 && g->dh == 1 && g->dw == 1 && g->groups == 1;
}

/* And whether they are done sooner. */
static bool by_winograd(struct winograd_shape *s, const struct conv *g, int n, enum winograd_product product)
{
    return can_winograd(s, g, n) && winograd_pays(s, product);
}

/* Up to which density tests/bench/bench_conv finds the sparse kernels ahead, with a margin: of the direct ones, and of Winograd's transforms, which
 * gain with the channels. */
static double sparse_density(const struct conv *g)
{
    struct winograd_shape s;

    if (!by_winograd(&s, g, MANY, WINOGRAD_FORWARD))
        return 0.28;
    return s.c < 32 || s.o < 32 ? 0.25 : 0.15;
}

static void more(size_t *len, size_t other) { *len = *len > other ? *len : other; }

struct weights_conf { bool use_bias; struct init kernel, bias; };

/* what: "kernel" of the option that makes it too large. */
static enum err_code plan_weights(const struct conv *g, const struct weights_conf *w, bool flat, const char *filters, struct op_plan *p, struct err *e)
{
    struct shape kernel = { 4, { g->o, g->c / g->groups, g->kh, g->kw } };
    struct winograd_shape s;
    const int64_t taps = (int64_t)g->kh * g->kw, fan_in = taps * (g->c / g->groups), fan_out = taps * g->o;

    if (flat)
        kernel = (struct shape){ 3, { g->o, g->c / g->groups, g->kw } };
    p->out = flat ? (struct shape){ 2, { g->o, g->ow } } : (struct shape){ 3, { g->o, g->oh, g->ow } };
    if (shape_check(&kernel, NULL) != ERR_OK || fan_out > INT32_MAX)
        return err_field(e, ERR_INVALID, filters, "a kernel of %d by %d by %d by %d is too large", g->o, g->c / g->groups, g->kh, g->kw);
    if (shape_check(&p->out, NULL) != ERR_OK)
        return err_field(e, ERR_INVALID, filters, "an output of %d by %d by %d is too large", g->o, g->oh, g->ow);
    p->n_weights = w->use_bias ? 2 : 1;
    p->weight[KERNEL] = (struct op_weight){ .name = "kernel", .shape = kernel, .prunable = true, .trainable = true, .decayed = true,
                                            .fan_in = (int)fan_in, .fan_out = (int)fan_out, .init = w->kernel };
    if (w->use_bias)
        p->weight[BIAS] = (struct op_weight){ .name = "bias", .shape = { 1, { g->o } }, .trainable = true, .fan_in = g->o, .fan_out = g->o,
                                              .init = w->bias };
    p->pads = (int64_t)(g->oh - 1) * g->sh + (int64_t)(g->kh - 1) * g->dh >= g->h || (int64_t)(g->ow - 1) * g->sw + (int64_t)(g->kw - 1) * g->dw >= g->w;
    p->macs = (uint64_t)shape_len(&kernel) * (uint64_t)g->oh * (uint64_t)g->ow;
    p->state_len = conv_state_len(g);
    p->scratch_len = conv_scratch_len(g);
    if (can_winograd(&s, g, MANY)) { /* whether it pays depends on the batch, the memory does not */
        more(&p->state_len, winograd_shared_len(&s));
        more(&p->scratch_len, winograd_scratch_len(&s));
    }
    p->sparse_density = sparse_density(g); /* asked for where the kernel makes neurons */
    return ERR_OK;
}

static enum err_code conv2d_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct conv2d_conf *c = conf;
    struct conv g;
    enum err_code rc;
    char text[96];

    (void)n_in;
    if (in[0]->n_d != 3)
        return err_set(e, ERR_UNSUPPORTED, "a 2D convolution takes images (channels, height, width) here, not %s", shape_text(in[0], text, sizeof text));
    rc = conv2d_geometry(&g, conf, in[0], e);
    p->neurons = c->groups == 1 ? NEURONS_MAKE : NEURONS_MIX;
    return rc == ERR_OK ? plan_weights(&g, &(struct weights_conf){ c->use_bias, c->kernel_initializer, c->bias_initializer }, false, "/filters", p, e)
                        : rc;
}

static enum err_code conv1d_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct conv1d_conf *c = conf;
    struct conv g;
    enum err_code rc;
    char text[96];

    (void)n_in;
    if (in[0]->n_d != 2)
        return err_set(e, ERR_UNSUPPORTED, "a 1D convolution takes sequences (channels, length) here, not %s", shape_text(in[0], text, sizeof text));
    rc = conv1d_geometry(&g, conf, in[0], e);
    p->neurons = c->groups == 1 ? NEURONS_MAKE : NEURONS_MIX;
    return rc == ERR_OK ? plan_weights(&g, &(struct weights_conf){ c->use_bias, c->kernel_initializer, c->bias_initializer }, true, "/filters", p, e)
                        : rc;
}

static enum err_code depthwise_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct depthwise_conf *c = conf;
    struct conv g;
    enum err_code rc;
    char text[96];

    (void)n_in;
    if (in[0]->n_d != 3)
        return err_set(e, ERR_UNSUPPORTED, "a depthwise convolution takes images (channels, height, width) here, not %s",
                       shape_text(in[0], text, sizeof text));
    rc = depthwise_geometry(&g, conf, in[0], e);
    p->neurons = NEURONS_PLACES;
    if (rc == ERR_OK)
        rc = plan_weights(&g, &(struct weights_conf){ c->use_bias, c->kernel_initializer, c->bias_initializer }, false, "/depth_multiplier", p, e);
    if (rc != ERR_OK)
        return rc;
    p->weight[KERNEL].fan_in = g.kh * g.kw * g.c; /* Keras' kernel is (height, width, channels, multiplier) */
    p->weight[KERNEL].fan_out = g.kh * g.kw * (int)c->depth_multiplier;
    return ERR_OK;
}

/* ---- runs ---- */

/* A weight gradient that winograd.c computes whole. */
static void winograd_dw(const struct winograd_shape *s, const struct op_call *c, const struct winograd_room *room)
{
    winograd_weight_gradient(s, c->x[0], c->dy, c->clamp ? c->y : NULL, c->dw[KERNEL], c->w[BIAS] ? c->dw[BIAS] : NULL, c->accumulate, room, c->team);
    if (!c->ready)
        return;
    c->ready(c->ready_user, KERNEL, 0, (size_t)s->o * (size_t)s->c * 9);
    if (c->w[BIAS])
        c->ready(c->ready_user, BIAS, 0, (size_t)s->o);
}

typedef enum err_code geometry_fn(struct conv *g, const void *conf, const struct shape *in, struct err *e);

/* shape() has found no fault in it. */
static struct conv geometry(geometry_fn *fn, const struct op_call *c)
{
    struct conv g;

    if (fn(&g, c->conf, c->in_shape[0], NULL) != ERR_OK)
        __builtin_unreachable();
    return g;
}

static void forward(geometry_fn *fn, const struct op_call *c)
{
    const struct conv g = geometry(fn, c);
    const struct winograd_room room = { c->state, c->scratch, c->scratch_stride };
    struct winograd_shape s;

    if (!c->sparse && by_winograd(&s, &g, c->n, WINOGRAD_FORWARD))
        winograd_forward(&s, c->x[0], c->w[KERNEL], c->w[BIAS], c->clamp, c->y, &room, c->team);
    else
        conv_forward(&g, c);
}

static void backward(geometry_fn *fn, const struct op_call *c)
{
    const struct conv g = geometry(fn, c);
    const struct winograd_room room = { c->state, c->scratch, c->scratch_stride };
    struct winograd_shape s;

    if (c->dx[0] && !c->sparse && by_winograd(&s, &g, c->n, WINOGRAD_INPUT))
        winograd_input_gradient(&s, c->dy, c->clamp ? c->y : NULL, c->w[KERNEL], c->dx[0], &room, c->team);
    else if (c->dx[0])
        conv_input_gradient(&g, c);
    if (!c->sparse && by_winograd(&s, &g, c->n, WINOGRAD_WEIGHT))
        winograd_dw(&s, c, &room);
    else
        conv_weight_gradient(&g, c);
}
static void conv2d_forward(const struct op_call *c) { forward(conv2d_geometry, c); }
static void conv2d_backward(const struct op_call *c) { backward(conv2d_geometry, c); }
static void conv1d_forward(const struct op_call *c) { forward(conv1d_geometry, c); }
static void conv1d_backward(const struct op_call *c) { backward(conv1d_geometry, c); }
static void depthwise_forward(const struct op_call *c) { forward(depthwise_geometry, c); }
static void depthwise_backward(const struct op_call *c) { backward(depthwise_geometry, c); }

const struct op op_conv2d = {
    .plug = { "conv2d", "Convolution of images with learned kernels.", conv2d_params, sizeof(struct conv2d_conf) },
    .min_in = 1, .max_in = 1, .sparse = true, .clamp = true, .grid = ORDER_CHANNELS, .shape = conv2d_shape, .forward = conv2d_forward, .backward = conv2d_backward
};
const struct op op_conv1d = {
    .plug = { "conv1d", "Convolution of sequences with learned kernels.", conv1d_params, sizeof(struct conv1d_conf) },
    .min_in = 1, .max_in = 1, .sparse = true, .clamp = true, .grid = ORDER_CHANNELS, .shape = conv1d_shape, .forward = conv1d_forward, .backward = conv1d_backward
};
const struct op op_depthwise_conv2d = {
    .plug = { "depthwise_conv2d", "Convolution of each channel of images with kernels of its own.", depthwise_params, sizeof(struct depthwise_conf) },
    .min_in = 1, .max_in = 1, .clamp = true, .grid = ORDER_CHANNELS, .shape = depthwise_shape, .forward = depthwise_forward, .backward = depthwise_backward
};

bool conv_geometry(struct conv *g, const struct op *op, const void *conf, const struct shape *in)
{
    static const struct { const struct op *op; geometry_fn *fn; } row[] = {
        { &op_conv2d, conv2d_geometry }, { &op_conv1d, conv1d_geometry }, { &op_depthwise_conv2d, depthwise_geometry }
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (op == row[i].op)
            return row[i].fn(g, conf, in, NULL) == ERR_OK;
    return false;
}
