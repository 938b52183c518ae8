/* core/op_conv.c: convolutions: y (o,oh,ow) = bias + sum over the kernel of w (o,c/groups,kh,kw) x (c,h,w); see conv.h for how they run.
 *
 * What the three ops' options say is brought into one form, struct spec: a one-dimensional convolution is one of images of height 1, a depthwise one
 * has as many groups as channels. The rest knows that form alone. */
#include "core/conv.h"

#include "core/op_init.h"
#include "core/window.h"
#include "core/winograd.h"

enum {
    MOST = 65536, /* of kernels' sides, strides and dilations */
    MANY = 1024   /* samples of a large batch */
};
enum { KERNEL, BIAS };

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
struct depthwise_conv2d_conf {
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
#define REST(st, paddings, padding_help) \
    FIELD_CHOICE(st, padding, paddings, PADDING_VALID, padding_help), \
    FIELD_BOOL(st, use_bias, 1, "Whether a learned number is added to each channel."), \
    FIELD_OBJECT(st, kernel_initializer, kernel_init_params, "How the kernel starts."), \
    FIELD_OBJECT(st, bias_initializer, bias_init_params, "How the bias starts."), \
    FIELD_END

static const struct param conv2d_params[] = {
    FIELD_INT(struct conv2d_conf, filters, 1, 2147483647, PARAM_REQUIRED, "Number of channels of the output."),
    SIDES(struct conv2d_conf),
    FIELD_INT(struct conv2d_conf, groups, 1, 2147483647, 1, "Groups of channels, each convolved for itself."),
    REST(struct conv2d_conf, "valid|same", "No padding, or zeros so that every stride-th place has an output.")
};
static const struct param conv1d_params[] = {
    FIELD_INT(struct conv1d_conf, filters, 1, 2147483647, PARAM_REQUIRED, "Number of channels of the output."),
    FIELD_INT(struct conv1d_conf, kernel_size, 1, MOST, PARAM_REQUIRED, "Length of the kernel."),
    FIELD_INT(struct conv1d_conf, stride, 1, MOST, 1, "Places from one output to the next."),
    FIELD_INT(struct conv1d_conf, dilation, 1, MOST, 1, "Places from one number of the kernel to the next."),
    FIELD_INT(struct conv1d_conf, groups, 1, 2147483647, 1, "Groups of channels, each convolved for itself."),
    REST(struct conv1d_conf, "valid|same|causal", "No padding; zeros so that every stride-th place has an output; or all of them ahead, so that none looks ahead.")
};
static const struct param depthwise_conv2d_params[] = {
    FIELD_INT(struct depthwise_conv2d_conf, depth_multiplier, 1, 2147483647, 1, "Channels of the output for each one of the input."),
    SIDES(struct depthwise_conv2d_conf),
    REST(struct depthwise_conv2d_conf, "valid|same", "No padding, or zeros so that every stride-th place has an output.")
};

/* ---- from options to struct spec ---- */

struct side { int64_t k, s, d; const char *at; }; /* kernel, stride, dilation; at: what the kernel's option is called */
struct spec {
    const char *what, *filters_at;   /* for messages; the option that says how many channels come out */
    bool flat;                       /* of sequences */
    int64_t filters, groups;
    int64_t multiplier;              /* of a depthwise one, where the other two follow from the input; else 0 */
    struct side side[2];             /* rows, columns */
    enum window_padding padding;
    bool use_bias;
    struct init kernel, bias;
};

/* What all three have. */
#define SPEC_REST(c) .padding = (enum window_padding)c->padding, .use_bias = c->use_bias, .kernel = c->kernel_initializer, .bias = c->bias_initializer
#define SPEC_SIDES(c) \
    .side = { { c->kernel_height, c->stride_height, c->dilation_height, "/kernel_height" }, \
              { c->kernel_width, c->stride_width, c->dilation_width, "/kernel_width" } }

static struct spec conv2d_spec(const void *conf)
{
    const struct conv2d_conf *c = conf;

    return (struct spec){ "a 2D convolution", "/filters", .filters = c->filters, .groups = c->groups, SPEC_SIDES(c), SPEC_REST(c) };
}

static struct spec conv1d_spec(const void *conf)
{
    const struct conv1d_conf *c = conf;

    return (struct spec){ "a 1D convolution", "/filters", .flat = true, .filters = c->filters, .groups = c->groups,
                          .side = { { 1, 1, 1, "" }, { c->kernel_size, c->stride, c->dilation, "/kernel_size" } }, SPEC_REST(c) };
}

static struct spec depthwise_conv2d_spec(const void *conf)
{
    const struct depthwise_conv2d_conf *c = conf;

    return (struct spec){ "a depthwise convolution", "/depth_multiplier", .multiplier = c->depth_multiplier, SPEC_SIDES(c), SPEC_REST(c) };
}

/* ---- from struct spec and the input's shape to struct conv ---- */

static enum err_code side_shape(const struct side *x, int in, enum window_padding padding, int *out, int *before, struct err *e)
{
    const int64_t span = (x->k - 1) * x->d + 1;
    const struct windows w = windows_of(in, span, x->s, padding);

    if (span > CONV_MAX_SPAN)
        return err_field(e, ERR_UNSUPPORTED, x->at, "a kernel of %d with dilation %d reaches over more than %d numbers", (int)x->k, (int)x->d,
                         CONV_MAX_SPAN);
    if (w.n == 0)
        return err_field(e, ERR_INVALID, x->at, "a kernel that reaches over %d numbers does not fit an input of %d", (int)span, in);
    *out = (int)w.n;
    *before = (int)w.before;
    return ERR_OK;
}

static enum err_code set_groups(struct conv *g, const struct spec *s, struct err *e)
{
    g->o = (int)s->filters;
    g->groups = s->multiplier ? g->c : (int)s->groups;
    if (s->multiplier && __builtin_mul_overflow(g->c, (int)s->multiplier, &g->o))
        return err_field(e, ERR_INVALID, "/depth_multiplier", "%d channels times %d are too many", g->c, (int)s->multiplier);
    if (g->o % g->groups != 0 || g->c % g->groups != 0)
        return err_field(e, ERR_INVALID, "/groups", "%d channels and %d filters do not make %d groups", g->c, g->o, g->groups);
    return ERR_OK;
}

static enum err_code geometry(struct conv *g, const struct spec *s, const struct shape *in, struct err *e)
{
    const struct side *rows = &s->side[0], *columns = &s->side[1];
    enum err_code rc;

    *g = (struct conv){ .c = in->d[0], .h = s->flat ? 1 : in->d[1], .w = in->d[in->n_d - 1], .kh = (int)rows->k, .sh = (int)rows->s, .dh = (int)rows->d,
                        .kw = (int)columns->k, .sw = (int)columns->s, .dw = (int)columns->d };
    rc = set_groups(g, s, e);
    if (rc == ERR_OK)
        rc = side_shape(rows, g->h, s->padding, &g->oh, &g->top, e);
    return rc == ERR_OK ? side_shape(columns, g->w, s->padding, &g->ow, &g->left, e) : rc;
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

/* A kernel reads before the first number, or behind the last one. */
static bool reads_outside(int in, int before, int out, int stride, int kernel, int dilation)
{
    return before > 0 || (int64_t)(out - 1) * stride + (int64_t)(kernel - 1) * dilation >= in;
}

static enum err_code plan_weights(const struct conv *g, const struct spec *s, struct op_plan *p, struct err *e)
{
    struct shape kernel = { 4, { g->o, g->c / g->groups, g->kh, g->kw } };
    const int64_t taps = (int64_t)g->kh * g->kw, fan_in = taps * (g->c / g->groups), fan_out = taps * g->o;

    if (s->flat)
        kernel = (struct shape){ 3, { g->o, g->c / g->groups, g->kw } };
    p->out = s->flat ? (struct shape){ 2, { g->o, g->ow } } : (struct shape){ 3, { g->o, g->oh, g->ow } };
    if (shape_check(&kernel, NULL) != ERR_OK || fan_out > INT32_MAX)
        return err_field(e, ERR_INVALID, s->filters_at, "%d filters of %d channels, %d high and %d wide, are too large a kernel", g->o, g->c / g->groups, g->kh,
                         g->kw);
    if (shape_check(&p->out, NULL) != ERR_OK)
        return err_field(e, ERR_INVALID, s->filters_at, "an output of %d channels, %d high and %d wide, is too large", g->o, g->oh, g->ow);
    p->n_weights = s->use_bias ? 2 : 1;
    p->weight[KERNEL] = (struct op_weight){ .name = "kernel", .shape = kernel, .prunable = true, .trainable = true, .decayed = true,
                                            .fan_in = (int)fan_in, .fan_out = (int)fan_out, .init = s->kernel };
    if (s->multiplier) { /* Keras' kernel is (height, width, channels, multiplier) */
        p->weight[KERNEL].fan_in = g->kh * g->kw * g->c;
        p->weight[KERNEL].fan_out = g->kh * g->kw * (int)s->multiplier;
    }
    if (s->use_bias)
        p->weight[BIAS] = (struct op_weight){ .name = "bias", .shape = { 1, { g->o } }, .trainable = true, .fan_in = g->o, .fan_out = g->o,
                                              .init = s->bias };
    p->macs = (uint64_t)shape_len(&kernel) * (uint64_t)g->oh * (uint64_t)g->ow;
    return ERR_OK;
}

static enum err_code conv_shape(const struct spec *s, const struct shape *in, struct op_plan *p, struct err *e)
{
    struct winograd_shape winograd;
    struct conv g;
    enum err_code rc;

    if (in->n_d != (s->flat ? 2 : 3))
        return err_set(e, ERR_UNSUPPORTED, "%s takes %s", s->what, s->flat ? "sequences" : "images");
    rc = geometry(&g, s, in, e);
    if (rc == ERR_OK)
        rc = plan_weights(&g, s, p, e);
    if (rc != ERR_OK)
        return rc;
    p->neurons = s->multiplier ? NEURONS_PLACES : s->groups == 1 ? NEURONS_MAKE : NEURONS_MIX;
    p->pads = reads_outside(g.h, g.top, g.oh, g.sh, g.kh, g.dh) || reads_outside(g.w, g.left, g.ow, g.sw, g.kw, g.dw);
    p->state_len = conv_state_len(&g);
    p->state_len_per_sample = conv_state_len_per_sample(&g);
    p->scratch_len = conv_scratch_len(&g);
    if (can_winograd(&winograd, &g, MANY)) { /* whether it pays depends on the batch, the memory does not */
        more(&p->state_len, winograd_shared_len(&winograd));
        more(&p->scratch_len, winograd_scratch_len(&winograd));
    }
    p->sparse_density = sparse_density(&g); /* asked for where the kernel makes neurons */
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

/* shape() has found no fault in it. */
static struct conv geometry_of(const struct spec *s, const struct op_call *c)
{
    struct conv g;

    if (geometry(&g, s, c->in_shape[0], NULL) != ERR_OK)
        __builtin_unreachable();
    return g;
}

static void forward(const struct spec spec, const struct op_call *c)
{
    const struct conv g = geometry_of(&spec, c);
    const struct winograd_room room = { c->state, c->scratch, c->scratch_stride };
    struct winograd_shape s;

    if (!c->sparse && !c->int8 && by_winograd(&s, &g, c->n, WINOGRAD_FORWARD))
        winograd_forward(&s, c->x[0], c->w[KERNEL], &(struct winograd_behind){ c->factor, c->w[BIAS], c->more, c->clamp }, c->y, &room, c->team);
    else
        conv_forward(&g, c);
}

static void backward(const struct spec spec, const struct op_call *c)
{
    const struct conv g = geometry_of(&spec, c);
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

#define CONV(name, help, ...) \
    static enum err_code name##_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e) \
    { \
        const struct spec s = name##_spec(conf); \
        (void)n_in; \
        return conv_shape(&s, in[0], p, e); \
    } \
    static void name##_forward(const struct op_call *c) { forward(name##_spec(c->conf), c); } \
    static void name##_backward(const struct op_call *c) { backward(name##_spec(c->conf), c); } \
    const struct op op_##name = { .plug = { #name, help, name##_params, sizeof(struct name##_conf) }, .min_in = 1, .max_in = 1, .int8 = true, .clamp = true, .joins = true, \
                                  .unread = UNREAD_Y, .grid = ORDER_CHANNELS, .shape = name##_shape, .forward = name##_forward, .backward = name##_backward, __VA_ARGS__ }
CONV(conv2d, "Convolution of images with learned kernels.", .sparse = true);
CONV(conv1d, "Convolution of sequences with learned kernels.", .sparse = true);
CONV(depthwise_conv2d, "Convolution of each channel of images with kernels of its own.", .sparse = false);

bool conv_geometry(struct conv *g, const struct op *op, const void *conf, const struct shape *in)
{
    static const struct { const struct op *op; struct spec (*spec)(const void *conf); } row[] = {
        { &op_conv2d, conv2d_spec }, { &op_conv1d, conv1d_spec }, { &op_depthwise_conv2d, depthwise_conv2d_spec }
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (op == row[i].op) {
            const struct spec s = row[i].spec(conf);

            return geometry(g, &s, in, NULL) == ERR_OK;
        }
    return false;
}
