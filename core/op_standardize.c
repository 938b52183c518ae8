/* core/op_standardize.c: y = (x - center) factor + shift, with numbers for each channel, the first axis: how models bring what they are given
 * to a range, channel by channel. The numbers come with the architecture; or they follow from mean and variance of data that somebody has
 * looked at before: weights that nobody trains. Then y = (x - mean) / deviation, or its inverse; a deviation is at least 1e-7, as in Keras. */
#include "core/op.h"
#include "core/simd.h"

struct standardize_conf {
    int64_t axis;
    bool given, invert;
};
static const struct param standardize_params[] = {
    FIELD_INT(struct standardize_conf, axis, -1, SHAPE_MAX, -1, "The channels' axis as Keras counts, the batch being axis 0: the last, or -1."),
    FIELD_BOOL(struct standardize_conf, given, 0, "Whether the numbers stand in the architecture; else they follow from the weights mean and variance."),
    FIELD_BOOL(struct standardize_conf, invert, 0, "Whether numbers that were standardized become what they were."), FIELD_END
};

static enum err_code standardize_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    static const struct op_weight statistics[] = { { .name = "mean", .init = { .kind = INIT_ZEROS } }, { .name = "variance", .init = { .kind = INIT_ONES } } };
    const struct standardize_conf *c = conf;
    enum err_code rc = op_check_axis(c->axis, in[0], e);

    (void)n_in;
    if (rc != ERR_OK)
        return rc;
    p->out = *in[0];
    p->neurons = c->given ? NEURONS_MIX : NEURONS_PASS; /* what the architecture says of a channel stays */
    p->n_lines = c->given ? in[0]->d[0] : 0;
    p->state_len = sizeof(struct op_line) / sizeof(float) * (size_t)in[0]->d[0];
    for (; p->n_weights < 2 && !c->given; p->n_weights++) {
        p->weight[p->n_weights] = statistics[p->n_weights];
        p->weight[p->n_weights].shape = (struct shape){ 1, { in[0]->d[0] } };
        p->weight[p->n_weights].adapted = true;
    }
    return ERR_OK;
}

struct op_line op_line_of(double mean, double variance, bool invert)
{
    const double deviation = fmax(sqrt(variance), 1e-7);

    return invert ? (struct op_line){ 0, (float)deviation, (float)mean } : (struct op_line){ (float)mean, (float)(1 / deviation), 0 };
}

/* Of a channel; forward leaves it in the state. */
static struct op_line *line_of(const struct op_call *c, int channel) { return (struct op_line *)(void *)c->state + channel; }

SIMD static void line(float *restrict y, const float *restrict x, struct op_line l, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - l.center) * l.factor + l.shift;
}

static size_t width(const struct op_call *c) { return shape_len(c->out_shape) / (size_t)c->out_shape->d[0] * (size_t)c->n; }

static void forward_channel(void *call, int channel)
{
    const struct op_call *c = call;
    const struct standardize_conf *conf = c->conf;
    const size_t n = width(c), first = (size_t)channel * n;

    *line_of(c, channel) = conf->given ? c->given[channel] : op_line_of((double)c->w[0][channel], (double)c->w[1][channel], conf->invert);
    line(c->y + first, c->x[0] + first, *line_of(c, channel), n);
}

static void backward_channel(void *call, int channel)
{
    const struct op_call *c = call;
    const size_t n = width(c), first = (size_t)channel * n;

    line(c->dx[0] + first, c->dy + first, (struct op_line){ 0, line_of(c, channel)->factor, 0 }, n);
}

static void standardize_forward(const struct op_call *c) { op_channels_each(c, forward_channel); }
static void standardize_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_channels_each(c, backward_channel);
}

const struct op op_standardize = {
    .plug = { "standardize", "Takes a number from each channel, multiplies by one and adds one.", standardize_params, sizeof(struct standardize_conf) },
    .min_in = 1, .max_in = 1, .unread = UNREAD_X | UNREAD_Y, .grid = ORDER_CHANNELS, .shape = standardize_shape, .forward = standardize_forward,
    .backward = standardize_backward
};
