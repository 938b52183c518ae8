/* core/op_layer_norm.c: y = gamma (x - mean) s + beta, s = 1 / sqrt(variance + epsilon), over the features of one sample (Ba, Kiros & Hinton 2016);
 * where a sample has positions, at each of them over the channels. So the value is a matrix of channels and columns (position, sample), and each
 * column is by itself: a tile is a run of columns. State: mean, then s, of each column.
 *
 * With m the mean over the channels, xh = (x - mean) s and P(v) = s (v - m(v) - xh m(v xh)), the derivative of xh along v:
 *   dx = P(gamma dy), and y moves by gamma P(t) as x moves along t. */
#include "core/op_init.h"
#include "core/simd.h"

struct layer_norm_conf {
    int64_t axis;
    double epsilon;
    bool center, scale;
    struct init beta_initializer, gamma_initializer;
};
INIT_PARAMS(beta_init_params, INIT_ZEROS);
INIT_PARAMS(gamma_init_params, INIT_ONES);
static const struct param layer_norm_params[] = {
    FIELD_INT(struct layer_norm_conf, axis, -1, SHAPE_MAX, -1, "The channels' axis as Keras counts, the batch being axis 0: the last, or -1."),
    FIELD_REAL(struct layer_norm_conf, epsilon, 0, 1, 0.001, "Added to the variance."),
    FIELD_BOOL(struct layer_norm_conf, center, 1, "Whether beta is added."),
    FIELD_BOOL(struct layer_norm_conf, scale, 1, "Whether gamma multiplies."),
    FIELD_OBJECT(struct layer_norm_conf, beta_initializer, beta_init_params, "How beta starts."),
    FIELD_OBJECT(struct layer_norm_conf, gamma_initializer, gamma_init_params, "How gamma starts."),
    FIELD_END
};

enum { COLUMNS = 64, RUN = 32 }; /* RUN: channels whose sum is in float, before it is added in double */

static enum err_code layer_norm_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct layer_norm_conf *c = conf;
    const int channels = in[0]->d[0];
    enum err_code rc = op_check_axis(c->axis, in[0], e);

    (void)n_in;
    if (rc != ERR_OK)
        return rc;
    p->out = *in[0];
    if (c->scale)
        p->weight[p->n_weights++] = (struct op_weight){ .name = "gamma", .init = c->gamma_initializer };
    if (c->center)
        p->weight[p->n_weights++] = (struct op_weight){ .name = "beta", .init = c->beta_initializer };
    for (struct op_weight *w = p->weight; w < p->weight + p->n_weights; w++) {
        w->shape = (struct shape){ 1, { channels } };
        w->trainable = true;
        w->fan_in = w->fan_out = channels;
    }
    p->state_len_per_sample = 2 * (shape_len(in[0]) / (size_t)channels);
    return ERR_OK; /* neurons: each output depends on all channels */
}

/* ---- columns ---- */

/* Some columns of the matrix: of `channels` rows that are `stride` floats apart; gamma may be NULL. */
struct columns {
    int channels, n;
    size_t stride, first;
    const float *mean, *s, *gamma, *beta;
};

static size_t width(const struct op_call *c) { return shape_len(c->out_shape) / (size_t)c->out_shape->d[0] * (size_t)c->n; }

static struct columns columns_of(const struct op_call *c, int tile)
{
    const struct layer_norm_conf *conf = c->conf;
    const size_t m = width(c), first = (size_t)tile * COLUMNS;

    return (struct columns){ c->out_shape->d[0], m - first < COLUMNS ? (int)(m - first) : COLUMNS, m, first, c->state + first, c->state + m + first,
                             conf->scale ? c->w[0] : NULL, conf->center ? c->w[conf->scale] : NULL };
}
SIMD_INLINE float gamma_of(const struct columns *k, int channel) { return k->gamma ? k->gamma[channel] : 1; }

/* m(gamma v) and m(gamma v xh); gamma only where `scaled`. */
SIMD_INLINE void column_means(const struct columns *k, const float *restrict x, const float *restrict v, bool scaled, float *restrict mean,
                              float *restrict along)
{
    double sum[COLUMNS] = { 0 }, product[COLUMNS] = { 0 };

    for (int first = 0; first < k->channels; first += RUN) {
        float part[COLUMNS] = { 0 }, parts[COLUMNS] = { 0 };

        for (int i = first; i < k->channels && i < first + RUN; i++) {
            const float gamma = scaled ? gamma_of(k, i) : 1;
            const size_t at = (size_t)i * k->stride;

            for (int j = 0; j < k->n; j++) {
                const float g = gamma * v[at + (size_t)j];

                part[j] += g;
                parts[j] += g * (x[at + (size_t)j] - k->mean[j]) * k->s[j];
            }
        }
        for (int j = 0; j < k->n; j++) {
            sum[j] += (double)part[j];
            product[j] += (double)parts[j];
        }
    }
    for (int j = 0; j < k->n; j++) {
        mean[j] = (float)(sum[j] / k->channels);
        along[j] = (float)(product[j] / k->channels);
    }
}

SIMD static void moments(float *restrict mean, float *restrict s, const float *restrict x, const struct columns *k, double epsilon)
{
    double sum[COLUMNS] = { 0 }, squares[COLUMNS] = { 0 };

    for (int i = 0; i < k->channels; i++)
        for (int j = 0; j < k->n; j++)
            sum[j] += (double)x[(size_t)i * k->stride + (size_t)j];
    for (int j = 0; j < k->n; j++)
        sum[j] /= k->channels;
    for (int i = 0; i < k->channels; i++)
        for (int j = 0; j < k->n; j++) {
            const double apart = (double)x[(size_t)i * k->stride + (size_t)j] - sum[j];

            squares[j] += apart * apart;
        }
    for (int j = 0; j < k->n; j++) {
        mean[j] = (float)sum[j];
        s[j] = (float)(1 / sqrt(squares[j] / k->channels + epsilon));
    }
}

SIMD static void normalise(float *restrict y, const float *restrict x, const struct columns *k)
{
    for (int i = 0; i < k->channels; i++) {
        const float gamma = gamma_of(k, i), beta = k->beta ? k->beta[i] : 0;
        const size_t at = (size_t)i * k->stride;

        for (int j = 0; j < k->n; j++)
            y[at + (size_t)j] = gamma * (x[at + (size_t)j] - k->mean[j]) * k->s[j] + beta;
    }
}

/* dx = P(gamma dy); back false: y = gamma P(t). */
SIMD static void project(float *restrict out, const float *restrict x, const float *restrict v, const struct columns *k, bool back)
{
    float mean[COLUMNS], along[COLUMNS];

    column_means(k, x, v, back, mean, along);
    for (int i = 0; i < k->channels; i++) {
        const float inner = back ? gamma_of(k, i) : 1, outer = back ? 1 : gamma_of(k, i);
        const size_t at = (size_t)i * k->stride;

        for (int j = 0; j < k->n; j++)
            out[at + (size_t)j] = outer * k->s[j] * (inner * v[at + (size_t)j] - mean[j] - (x[at + (size_t)j] - k->mean[j]) * k->s[j] * along[j]);
    }
}

/* With g = gamma dy: xh moves by P(t) and s by -s^2 m(t xh), hence dx by
 * -s^2 m(t xh) (g - m(g) - xh m(g xh)) - s (P(t) m(g xh) + xh m(g P(t))), where m(g P(t)) = s (m(g t) - m(g) m(t) - m(g xh) m(t xh)). */
SIMD static void bend(float *restrict dx, const float *restrict x, const float *restrict dy, const float *restrict t, const struct columns *k)
{
    float mg[COLUMNS], mgx[COLUMNS], mt[COLUMNS], mtx[COLUMNS];
    double mgt[COLUMNS] = { 0 };

    column_means(k, x, dy, true, mg, mgx);
    column_means(k, x, t, false, mt, mtx);
    for (int i = 0; i < k->channels; i++)
        for (int j = 0; j < k->n; j++)
            mgt[j] += (double)(gamma_of(k, i) * dy[(size_t)i * k->stride + (size_t)j] * t[(size_t)i * k->stride + (size_t)j]);
    for (int j = 0; j < k->n; j++)
        mgt[j] /= k->channels;
    for (int i = 0; i < k->channels; i++)
        for (int j = 0; j < k->n; j++) {
            const size_t at = (size_t)i * k->stride + (size_t)j;
            const float s = k->s[j], xh = (x[at] - k->mean[j]) * s, g = gamma_of(k, i) * dy[at];
            const float moved = s * (t[at] - mt[j] - xh * mtx[j]), mgp = s * ((float)mgt[j] - mg[j] * mt[j] - mgx[j] * mtx[j]);

            dx[at] -= s * s * mtx[j] * (g - mg[j] - xh * mgx[j]) + s * (moved * mgx[j] + xh * mgp);
        }
}

static void forward_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    const struct columns k = columns_of(c, tile);

    moments(c->state + k.first, c->state + k.stride + k.first, c->x[0] + k.first, &k, ((const struct layer_norm_conf *)c->conf)->epsilon);
    normalise(c->y + k.first, c->x[0] + k.first, &k);
}
static void backward_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    const struct columns k = columns_of(c, tile);

    project(c->dx[0] + k.first, c->x[0] + k.first, c->dy + k.first, &k, true);
}
static void slope_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    const struct columns k = columns_of(c, tile);

    project(c->y + k.first, c->x[0] + k.first, c->along[0] + k.first, &k, false);
}
static void bend_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    const struct columns k = columns_of(c, tile);

    bend(c->dx[0] + k.first, c->x[0] + k.first, c->dy + k.first, c->along[0] + k.first, &k);
}

/* ---- gradients of gamma and beta: a tile is a channel ---- */

SIMD static void weights_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const struct layer_norm_conf *conf = c->conf;
    const size_t m = width(c);
    const float *restrict x = c->x[0] + (size_t)channel * m, *restrict dy = c->dy + (size_t)channel * m, *restrict mean = c->state,
                *restrict s = c->state + m;
    double total[2] = { 0 }; /* gamma's, beta's */

    for (size_t first = 0; first < m; first += SIMD_BLOCK) {
        const size_t end = m - first < SIMD_BLOCK ? m : first + SIMD_BLOCK;
        float sum[SIMD_WIDE] = { 0 }, product[SIMD_WIDE] = { 0 };
        size_t i = first;

        for (; i + SIMD_WIDE <= end; i += SIMD_WIDE)
            for (size_t j = 0; j < SIMD_WIDE; j++) {
                sum[j] += dy[i + j];
                product[j] += dy[i + j] * (x[i + j] - mean[i + j]) * s[i + j];
            }
        for (size_t j = 0; i + j < end; j++) {
            sum[j] += dy[i + j];
            product[j] += dy[i + j] * (x[i + j] - mean[i + j]) * s[i + j];
        }
        total[0] += simd_wide_lanes(product);
        total[1] += simd_wide_lanes(sum);
    }
    for (int w = 0, of = !conf->scale; w < conf->scale + conf->center; w++, of++)
        c->dw[w][channel] = (float)(total[of] + (c->accumulate ? (double)c->dw[w][channel] : 0));
}

static void over_columns(const struct op_call *c, void (*fn)(void *ctx, int tile))
{
    struct op_call call = *c;

    team_for(c->team, (int)((width(c) + COLUMNS - 1) / COLUMNS), fn, &call);
}

static void layer_norm_forward(const struct op_call *c) { over_columns(c, forward_tile); }
static void layer_norm_slope(const struct op_call *c) { over_columns(c, slope_tile); }
static void layer_norm_bend(const struct op_call *c) { over_columns(c, bend_tile); }
static void layer_norm_backward(const struct op_call *c)
{
    const struct layer_norm_conf *conf = c->conf;
    struct op_call call = *c;

    if (c->dx[0])
        over_columns(c, backward_tile);
    team_for(c->team, conf->scale || conf->center ? c->out_shape->d[0] : 0, weights_tile, &call);
    for (int w = 0; c->ready && w < conf->scale + conf->center; w++)
        c->ready(c->ready_user, w, 0, (size_t)c->out_shape->d[0]);
}

const struct op op_layer_norm = {
    .plug = { "layer_norm", "Normalises each sample, at each position, by mean and variance of its channels.", layer_norm_params,
              sizeof(struct layer_norm_conf) },
    .min_in = 1, .max_in = 1, .unread = UNREAD_Y, .grid = ORDER_CHANNELS, .shape = layer_norm_shape, .forward = layer_norm_forward, .backward = layer_norm_backward,
    .slope = layer_norm_slope, .bend = layer_norm_bend
};
