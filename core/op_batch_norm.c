/* core/op_batch_norm.c: y = gamma (x - mean) / sqrt(variance + epsilon) + beta (Ioffe & Szegedy 2015). The statistics are those of a channel, the
 * first axis: over the batch and, where a sample has more axes, over its positions.
 *
 * Training takes mean and (biased) variance of the batch and moves the tracked ones towards them, as Keras does; else the tracked
 * ones count. A channel's numbers are contiguous: a tile is a run of channels, read from memory once, for the second pass over a channel finds it
 * in the cache. Sums run in lanes of float over blocks of fixed length, and over the blocks in double. State: mean, then
 * 1 / sqrt(variance + epsilon).
 *
 * The sum of a residual block runs in it: forward adds as it writes, backward gathers what comes back, lets it through the relu, and leaves it for
 * the block's other way, in the same pass that adds up what the channel needs. Inputs may lie where outputs do. */
#include "core/op_init.h"
#include "core/simd.h"

struct batch_norm_conf {
    int64_t axis;
    double momentum, epsilon;
    bool center, scale;
    struct init beta_initializer, gamma_initializer;
};
INIT_PARAMS(beta_init_params, INIT_ZEROS);
INIT_PARAMS(gamma_init_params, INIT_ONES);
static const struct param batch_norm_params[] = {
    FIELD_INT(struct batch_norm_conf, axis, -1, SHAPE_MAX, -1, "The channels' axis as Keras counts, the batch being axis 0: the last, or -1."),
    FIELD_REAL(struct batch_norm_conf, momentum, 0, 1, 0.99, "Share of the tracked statistics that a batch leaves."),
    FIELD_REAL(struct batch_norm_conf, epsilon, 0, 1, 0.001, "Added to the variance."),
    FIELD_BOOL(struct batch_norm_conf, center, 1, "Whether beta is added."),
    FIELD_BOOL(struct batch_norm_conf, scale, 1, "Whether gamma multiplies."),
    FIELD_OBJECT(struct batch_norm_conf, beta_initializer, beta_init_params, "How beta starts."),
    FIELD_OBJECT(struct batch_norm_conf, gamma_initializer, gamma_init_params, "How gamma starts."),
    FIELD_END
};

/* Numbers of the weights; -1: not there. */
struct places { int gamma, beta, mean, variance; };

static struct places places_of(const struct batch_norm_conf *c)
{
    int n = 0;
    struct places p = { -1, -1, 0, 0 };

    if (c->scale)
        p.gamma = n++;
    if (c->center)
        p.beta = n++;
    p.mean = n++;
    p.variance = n;
    return p;
}

static enum err_code batch_norm_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct batch_norm_conf *c = conf;
    struct places at = places_of(c);
    const struct shape channels = { 1, { in[0]->d[0] } };
    enum err_code rc = op_check_axis(c->axis, in[0], e);

    (void)n_in;
    if (rc != ERR_OK)
        return rc;
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    p->n_weights = at.variance + 1;
    for (int i = 0; i < p->n_weights; i++)
        p->weight[i] = (struct op_weight){ .shape = channels, .trainable = i < at.mean, .fan_in = channels.d[0], .fan_out = channels.d[0] };
    if (at.gamma >= 0)
        p->weight[at.gamma].name = "gamma", p->weight[at.gamma].init = c->gamma_initializer;
    if (at.beta >= 0)
        p->weight[at.beta].name = "beta", p->weight[at.beta].init = c->beta_initializer;
    p->weight[at.mean].name = "moving_mean";
    p->weight[at.mean].init = (struct init){ .kind = INIT_ZEROS };
    p->weight[at.variance].name = "moving_variance";
    p->weight[at.variance].init = (struct init){ .kind = INIT_ONES };
    p->state_len = 2 * (size_t)in[0]->d[0];
    return ERR_OK;
}

static void track(float *tracked, double batch, double momentum)
{
    *tracked = (float)(momentum * (double)*tracked + (1 - momentum) * batch);
}

/* ---- sums over a channel ---- */

enum { BLOCK = SIMD_BLOCK, LANES = SIMD_WIDE };
/* The first number of the block that ends before `end`. */
static inline size_t block_start(size_t end) { return (end - 1) / BLOCK * BLOCK; }

/* n numbers of the block to come go into the second cache while one is worked on: memory sets the pace, and the processor by itself does not look as far
 * ahead. A fifth of the time. */
enum { LINE = 16 };
SIMD_INLINE void fetch(const float *x, int n)
{
    for (int i = 0; i < n; i += LINE)
        __builtin_prefetch(x + i, 0, 2);
}

/* Sum over a block of x, and of (x - mean)^2. */
SIMD_INLINE double block_sum(const float *restrict x, int n)
{
    float lane[LANES] = { 0 };
    int i = 0;

    for (; i + LANES <= n; i += LANES) {
        fetch(x + i + BLOCK, LANES);
        for (int j = 0; j < LANES; j++)
            lane[j] += x[i + j];
    }
    for (int j = 0; i + j < n; j++)
        lane[j] += x[i + j];
    return simd_wide_lanes(lane);
}
SIMD_INLINE double block_squares(const float *restrict x, float mean, int n)
{
    float lane[LANES] = { 0 };
    int i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (int j = 0; i + j < n; j++)
        lane[j] += (x[i + j] - mean) * (x[i + j] - mean);
    return simd_wide_lanes(lane);
}

/* Mean and variance of len numbers: each block's around its own mean while it is near, joined by Chan, Golub & LeVeque 1979. */
SIMD_INLINE void batch_moments(const float *x, size_t len, double *mean, double *variance)
{
    double squares = 0;

    *mean = 0;
    for (size_t at = 0; at < len; at += BLOCK) {
        const int n = len - at < BLOCK ? (int)(len - at) : BLOCK;
        const double own = block_sum(x + at, n) / n, apart = own - *mean;

        *mean += apart * n / (double)(at + (size_t)n);
        squares += block_squares(x + at, (float)own, n) + apart * apart * (double)at * n / (double)(at + (size_t)n);
    }
    *variance = squares / (double)len;
}

/* ---- one channel: y = (x - mean) factor + shift, not below `least` ---- */

struct line { float mean, factor, shift, least; };
SIMD_INLINE float line_at(const struct line *l, float x) { return (x - l->mean) * l->factor + l->shift; }

/* mean, s = 1 / sqrt(variance + epsilon): of the state. */
static struct line line_of(const struct op_call *c, const struct places *at, int channel)
{
    const double s = (double)c->state[c->out_shape->d[0] + channel];

    return (struct line){ c->state[channel], (float)(s * (at->gamma >= 0 ? (double)c->w[at->gamma][channel] : 1)),
                          at->beta >= 0 ? c->w[at->beta][channel] : 0, c->clamp ? 0 : -INFINITY };
}

static size_t channel_len(const struct op_call *c) { return shape_len(c->out_shape) / (size_t)c->out_shape->d[0] * (size_t)c->n; }

/* next: how far from this block the one is that is written next. */
SIMD_INLINE void write_block(float *y, const float *x, const float *more, const struct line *line, int n, ptrdiff_t next, const bool adds)
{
    enum { STRIP = 256 };
    const struct line l = *line;

    for (int at = 0; at < n; at += STRIP) {
        const int end = n - at < STRIP ? n : at + STRIP;

        fetch(y + at + next, STRIP);
        if (adds)
            fetch(more + at + next, STRIP);
        SIMD_IN_PLACE
        for (int j = at; j < end; j++) {
            const float v = line_at(&l, x[j]) + (adds ? more[j] : 0);

            y[j] = v < l.least ? l.least : v;
        }
    }
}

SIMD static void forward_channel(const struct op_call *c, const struct places *at, int channel)
{
    const struct batch_norm_conf *conf = c->conf;
    const size_t len = channel_len(c), first = (size_t)channel * len;
    const float *x = c->x[0] + first, *more = c->more ? c->more + first : NULL;
    double mean = (double)c->w[at->mean][channel], variance = (double)c->w[at->variance][channel];
    struct line l;

    if (c->training) {
        batch_moments(x, len, &mean, &variance);
        track(&c->w[at->mean][channel], mean, conf->momentum);
        track(&c->w[at->variance][channel], variance, conf->momentum);
    }
    c->state[channel] = (float)mean;
    c->state[c->out_shape->d[0] + channel] = (float)(1 / sqrt(variance + conf->epsilon));
    l = line_of(c, at, channel);
    for (size_t end = len; end > 0; end = block_start(end)) {
        const size_t i = block_start(end);
        const ptrdiff_t next = i > 0 ? -BLOCK : (ptrdiff_t)(len + block_start(len)); /* of the next channel */

        if (more)
            write_block(c->y + first + i, x + i, more + i, &l, (int)(end - i), next, true);
        else
            write_block(c->y + first + i, x + i, NULL, &l, (int)(end - i), next, false);
    }
}

static void batch_norm_line(const struct op_call *c, const float *bias)
{
    const struct batch_norm_conf *conf = c->conf;
    const struct places at = places_of(conf);
    const int n = c->out_shape->d[0];

    for (int i = 0; i < n; i++) {
        const double s = 1 / sqrt((double)c->w[at.variance][i] + conf->epsilon), factor = s * (at.gamma >= 0 ? (double)c->w[at.gamma][i] : 1);
        const double shift = ((bias ? (double)bias[i] : 0) - (double)c->w[at.mean][i]) * factor;

        c->state[i] = (float)factor;
        c->state[n + i] = (float)(shift + (at.beta >= 0 ? (double)c->w[at.beta][i] : 0));
    }
}

/* dy where the relu behind let y through: found by x, so that y need not be read. */
SIMD_INLINE float let_through(const struct line *l, float x, float dy) { return line_at(l, x) <= l->least ? 0 : dy; }

/* d = dy + dy_more, where y lets it through. */
SIMD_INLINE void settle(float *d, const float *dy, const float *dy_more, const float *y, int n, const bool adds, const bool clamps)
{
    SIMD_IN_PLACE
    for (int j = 0; j < n; j++) {
        const float v = dy[j] + (adds ? dy_more[j] : 0);

        d[j] = !clamps || y[j] > 0 ? v : 0;
    }
}
SIMD_INLINE void settle_block(const struct op_call *c, size_t at, int n)
{
    const float *dy_more = c->dy_more ? c->dy_more + at : NULL;

    if (dy_more && c->clamp)
        settle(c->dmore + at, c->dy + at, dy_more, c->y + at, n, true, true);
    else if (dy_more)
        settle(c->dmore + at, c->dy + at, dy_more, NULL, n, true, false);
    else if (c->clamp)
        settle(c->dmore + at, c->dy + at, NULL, c->y + at, n, false, true);
    else
        settle(c->dmore + at, c->dy + at, NULL, NULL, n, false, false);
}

/* Sums of dy and of dy (x - mean). */
SIMD_INLINE void block_back(const float *restrict dy, const float *restrict x, struct line l, int n, double *sum, double *product)
{
    float lane[LANES] = { 0 }, along[LANES] = { 0 };
    int i = 0;

    for (; i + LANES <= n; i += LANES) {
        fetch(x + i + BLOCK, LANES);
        fetch(dy + i + BLOCK, LANES);
        for (int j = 0; j < LANES; j++) {
            const float d = let_through(&l, x[i + j], dy[i + j]);

            lane[j] += d;
            along[j] += d * (x[i + j] - l.mean);
        }
    }
    for (int j = 0; i + j < n; j++) {
        const float d = let_through(&l, x[i + j], dy[i + j]);

        lane[j] += d;
        along[j] += d * (x[i + j] - l.mean);
    }
    *sum += simd_wide_lanes(lane);
    *product += simd_wide_lanes(along);
}

/* With s the factor of normalisation and xh = (x - mean) s: dgamma = sum dy xh, dbeta = sum dy, and
 * dx = gamma s (dy - (dbeta + xh dgamma) / n); statistics that are tracked, not the batch's, leave only dx = gamma s dy. */
SIMD static void backward_channel(const struct op_call *c, const struct places *at, int channel)
{
    const size_t len = channel_len(c), first = (size_t)channel * len;
    const float *x = c->x[0] + first, *dy = (c->dmore ? c->dmore : c->dy) + first;
    float *dx = c->dx[0] ? c->dx[0] + first : NULL;
    struct line l = line_of(c, at, channel);
    const double s = (double)c->state[c->out_shape->d[0] + channel];
    double dbeta = 0, dgamma = 0;

    if (c->more)
        l.least = -INFINITY; /* dy was let through, or is all */
    for (size_t i = 0; i < len; i += BLOCK) {
        const int n = len - i < BLOCK ? (int)(len - i) : BLOCK;

        if (c->dmore)
            settle_block(c, first + i, n);
        block_back(dy + i, x + i, l, n, &dbeta, &dgamma);
    }
    dgamma *= s;
    if (dx) {
        const float a = l.factor, b = c->training ? (float)(-(double)a * s * dgamma / (double)len) : 0,
                    shift = c->training ? (float)(-(double)a * dbeta / (double)len) : 0;

        for (size_t end = len; end > 0; end = block_start(end)) {
            SIMD_IN_PLACE
            for (size_t j = block_start(end); j < end; j++)
                dx[j] = a * let_through(&l, x[j], dy[j]) + (b * (x[j] - l.mean) + shift);
        }
    }
    if (at->gamma >= 0)
        c->dw[at->gamma][channel] = (float)(dgamma + (c->accumulate ? (double)c->dw[at->gamma][channel] : 0));
    if (at->beta >= 0)
        c->dw[at->beta][channel] = (float)(dbeta + (c->accumulate ? (double)c->dw[at->beta][channel] : 0));
}

/* ---- tiles ---- */

enum { TILE = 8192 }; /* floats, about */
struct channels {
    const struct op_call *c;
    void (*fn)(const struct op_call *c, const struct places *at, int channel);
    int per_tile;
};

static void channels_tile(void *ctx, int tile)
{
    const struct channels *k = ctx;
    const struct places at = places_of(k->c->conf);
    const int first = tile * k->per_tile, n = k->c->out_shape->d[0];

    for (int i = first; i < n && i < first + k->per_tile; i++)
        k->fn(k->c, &at, i);
}

static void over_channels(const struct op_call *c, void (*fn)(const struct op_call *c, const struct places *at, int channel))
{
    const size_t len = channel_len(c);
    struct channels k = { c, fn, len < TILE ? (int)(TILE / len) : 1 };

    team_for(c->team, (c->out_shape->d[0] + k.per_tile - 1) / k.per_tile, channels_tile, &k);
}

static void batch_norm_forward(const struct op_call *c) { over_channels(c, forward_channel); }
static void batch_norm_backward(const struct op_call *c)
{
    over_channels(c, backward_channel);
    for (int i = 0; c->ready && i < places_of(c->conf).mean; i++)
        c->ready(c->ready_user, i, 0, (size_t)c->out_shape->d[0]);
}

const struct op op_batch_norm = {
    .plug = { "batch_norm", "Normalises each channel by its mean and variance over the batch.", batch_norm_params,
              sizeof(struct batch_norm_conf) },
    .min_in = 1, .max_in = 1, .clamp = true, .sum = true, .dx_over = true, .unread = UNREAD_Y | UNREAD_CLAMPED, .grid = ORDER_CHANNELS, .shape = batch_norm_shape,
    .forward = batch_norm_forward, .backward = batch_norm_backward, .line = batch_norm_line
};
